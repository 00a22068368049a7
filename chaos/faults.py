"""What goes wrong: each fault is done to real processes or by real clients, and says when it is over.

A fault that takes Triton away is over when Triton itself says that it is ready again; what the listener needs from then
on is its recovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from chaos import proxy
from chaos.load import Load
from chaos.proxy import Spoil
from chaos.stack import TIMEOUT, WORKERS, Target

#: Seconds for which a process is stopped: longer than a request may take, so that requests time out.
_STOPPED = TIMEOUT + 1.0
#: Seconds of what lasts.
_WHILE = 2.0
#: Seconds in which a Triton that was killed has to be ready again.
_RESTART = 60.0
#: Seconds in which all processes have heard of another time.
_JUMPED = 5.0
#: Seconds after its start in which a worker that replaces another one is ready, mostly.
_SETTLED = 4.0
#: Connections of an overload, and permits of a worker then: a route may hold three of four, which is enough for the 16
#: clients that are there before and after.
_CROWD, _FEW = 400, {"LISTENER_MAX_REQUESTS": "24"}


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        name: of the row.
        do: does it once; returns when it was over, as a `time.monotonic()`.
        env: settings of the listener.
        mounts: folders that are small file systems of the stack's own; one without a path is for temporary files.
        is_proxied: the stack has a proxy in front of Triton.
        has_clock: the stack has a clock of its own.
        clients: of the load, with one request at a time each.
    """

    name: str
    do: Callable[[Target], Awaitable[float]]
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    is_proxied: bool = False
    has_clock: bool = False
    clients: int = 16

    @property
    def stack(self) -> object:
        """What of a stack is asked for; equal where faults can share one."""
        return dict(self.env), self.mounts, self.is_proxied, self.has_clock


async def _nothing(target: Target) -> float:
    return time.monotonic()


async def _triton_killed(target: Target) -> float:
    triton = target.stack.triton_pid()
    os.kill(triton, signal.SIGKILL)
    return await _until_triton_is_back(target, triton)


async def _stub_killed(target: Target) -> float:
    triton = target.stack.triton_pid()
    os.kill(target.stub(), signal.SIGKILL)
    return await _until_triton_is_back(target, triton)


async def _triton_stopped(target: Target) -> float:
    return await _stopped(target.stack.triton_pid())


async def _stub_stopped(target: Target) -> float:
    """Triton may take the stub for dead and end it, upon which Triton is started again."""
    await _stopped(target.stub())
    await asyncio.sleep(1)
    return await _until_triton_is_back(target)


async def _worker_killed(target: Target) -> float:
    """Only once the one that was killed before has been replaced: both dead at a time would be another fault."""
    async with asyncio.timeout(_RESTART):
        while target.settled_workers(_SETTLED) < WORKERS:
            await asyncio.sleep(0.1)
    os.kill(target.worker(), signal.SIGKILL)
    return time.monotonic()


async def _worker_stopped(target: Target) -> float:
    return await _stopped(target.worker())


async def _pool_process_killed(target: Target) -> float:
    os.kill(target.pool_process(), signal.SIGKILL)
    return time.monotonic()


async def _clients_leave(target: Target) -> float:
    """Clients that go at every stage: after some bytes of the head, of the body, and before or within the answer."""
    request = _request()
    for length in [*range(0, len(request), 16), *[len(request)] * 40]:
        _, writer = await asyncio.open_connection("127.0.0.1", target.stack.port)
        writer.write(request[:length])
        await writer.drain()
        await asyncio.sleep(random.random() * 0.01)
        writer.transport.abort()
    return time.monotonic()


async def _clients_are_slow(target: Target) -> float:
    """Twenty that send a byte at a time, and then go on at once; their answers have to be right as well.

    And as many that send a byte a second until they give up.
    """

    async def trickle() -> None:
        request = _request()
        reader, writer = await asyncio.open_connection("127.0.0.1", target.stack.port)
        for place in range(60):
            writer.write(request[place : place + 1])
            await asyncio.sleep(0.02)
        writer.write(request[60:])
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        if not line.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(f"a slow client was answered {line!r}")

    async def hardly() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", target.stack.port)
        for place in range(4):
            writer.write(_request()[place : place + 1])
            await asyncio.sleep(1)
        writer.transport.abort()

    await asyncio.gather(*(trickle() for _ in range(20)), *(hardly() for _ in range(20)))
    return time.monotonic()


async def _clients_half_close(target: Target) -> float:
    """Clients that say that they send no more, and then wait for their answer."""
    for _ in range(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", target.stack.port)
        writer.write(_request())
        writer.write_eof()
        told = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        if told and not told.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(f"a client that closed its half was answered {told[:80]!r}")
    return time.monotonic()


async def _overload(target: Target) -> float:
    """Many times the clients that there are permits for."""
    async with Load(target.url, _CROWD).running() as seen:
        await asyncio.sleep(_WHILE)
    if seen.wrong or seen.hung:
        raise AssertionError(
            f"of the crowd's requests {seen.hung} hung, and {len(seen.wrong)} were wrong: {seen.wrong[:1]}"
        )
    return time.monotonic()


def _spoilt(spoil: Spoil, waits: bool = False) -> Callable[[Target], Awaitable[float]]:
    """A while in which some of Triton's answers are spoilt.

    Where the listener waits for the rest of an answer, it is over when the last of these requests has had its time.
    """

    async def do(target: Target) -> float:
        target.proxy.spoil = spoil
        await asyncio.sleep(_WHILE)
        target.proxy.spoil = None
        await asyncio.sleep(TIMEOUT if waits else 0)
        return time.monotonic()

    return do


async def _descriptors_gone(target: Target) -> float:
    """A worker may open nothing more, for a while."""
    worker = target.worker()
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, hard))
    try:
        for _ in range(int(_WHILE * 10)):  # new connections, which it cannot take
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.1):
                    _, writer = await asyncio.open_connection("127.0.0.1", target.stack.port)
                    writer.close()
            await asyncio.sleep(0.1)
    finally:
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
    return time.monotonic()


def _filled(folder: str) -> Callable[[Target], Awaitable[float]]:
    """A file system of the stack's own mounts is full, for a while."""

    async def do(target: Target) -> float:
        filler = Path(f"/proc/{target.stack.process.pid}/root{target.folder / folder}/filler")
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(_WHILE)
        await asyncio.to_thread(filler.unlink)
        return time.monotonic()

    return do


async def _clock_jumps(target: Target) -> float:
    """The clock of all processes goes an hour ahead, two back, and then right again."""
    for seconds in (3600, -3600, 0):
        target.clock.set(seconds)
        until = time.monotonic() + _JUMPED
        while abs(await asyncio.to_thread(target.date) - time.time() - seconds) > 2:
            if time.monotonic() > until:
                raise AssertionError(f"the clock did not go {seconds} s from the true time")
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
    return time.monotonic()


def _fill(filler: Path) -> None:
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    if os.statvfs(filler.parent).f_bavail:
        raise AssertionError(f"{filler.parent} is not full")


FAULTS = (
    Fault("none", _nothing),
    Fault("Triton killed", _triton_killed),
    Fault("Triton stopped", _triton_stopped),
    Fault("Triton's Python stub killed", _stub_killed),
    Fault("Triton's Python stub stopped", _stub_stopped),
    Fault("a worker killed", _worker_killed),
    Fault("a worker stopped", _worker_stopped),
    Fault("a pool process killed", _pool_process_killed),
    Fault("clients leave at every stage", _clients_leave),
    Fault("clients send a byte at a time", _clients_are_slow),
    Fault("clients close their half", _clients_half_close),
    Fault("many more clients than permits", _overload, env=_FEW),
    Fault("a worker has no descriptors left", _descriptors_gone),
    Fault("/dev/shm is full", _filled("/dev/shm"), mounts=("/dev/shm",)),
    Fault("the disk is full", _filled("disk"), mounts=("disk",)),
    Fault("the clock jumps", _clock_jumps, has_clock=True),
    Fault("Triton answers late", _spoilt(proxy.late), is_proxied=True),
    Fault("Triton does not answer", _spoilt(proxy.never, waits=True), is_proxied=True),
    Fault("Triton answers 500", _spoilt(proxy.failure), is_proxied=True),
    Fault("Triton answers 503", _spoilt(proxy.busy), is_proxied=True),
    Fault("Triton hangs up", _spoilt(proxy.gone), is_proxied=True),
    Fault("Triton's answer is cut off", _spoilt(proxy.cut), is_proxied=True),
    Fault("Triton's answer says too short", _spoilt(proxy.too_short), is_proxied=True),
    Fault("Triton's answer says too long", _spoilt(proxy.too_long, waits=True), is_proxied=True),
    Fault("Triton's answer is no HTTP", _spoilt(proxy.garbage), is_proxied=True),
)


async def _stopped(pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(_STOPPED)
    finally:
        os.kill(pid, signal.SIGCONT)
    return time.monotonic()


async def _until_triton_is_back(target: Target, old: int | None = None) -> float:
    async with asyncio.timeout(_RESTART):
        while old in target.stack.tritons() or not await asyncio.to_thread(target.triton_is_ready):
            await asyncio.sleep(0.02)
    return time.monotonic()


def _request() -> bytes:
    body = orjson.dumps({"instances": [[1.0, 2.0]] * 20})
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
