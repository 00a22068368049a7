"""A seeded fuzzer of connections: raw bytes, in pieces, cut off, half closed, reset, in front of a real `listener up`.

`python -m tests.contract.fuzz_sockets [--connections 200000] [--seed 1] [--staying]` starts a listener of its own with
two workers and a real Triton, and prints what became of the connections. A mistake is one that hangs, an answer that is
no HTTP or a 5xx or 429, a right request in between that is not answered rightly, another process in a worker's place,
an error or a trace in the log, and whatever is left of the connections: descriptors, permits, memory.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import random
import re
import resource
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from chaos.stack import SERVICE
from chaos.usage import of_process
from tests.contract.fuzz import told
from tests.integration.stack import Stack, command_line, descendants, running

#: Connections at a time; permits of a worker, of which some are held by those that stay.
_AT_A_TIME, _PERMITS = 64, 256
#: Seconds: of a request; in which a whole request is answered and a half-closed connection ends; after which a client
#: that waits goes away; and the longest that a silent connection lasts, with the sweep's own time.
_TIMEOUT, _PATIENCE, _SHORT, _SILENT = 3, 15.0, 0.005, 75.0 + 5.0 + 10.0
#: One right request after so many others, and one connection of which the client never lets go.
RIGHT_EVERY, _STAYS_EVERY = 50, 400
#: MiB that a worker may grow by after the first fifth.
GROWTH = 24.0
#: Descriptors that a worker may have more: its connections to Triton are kept, as many as there were calls at a time.
_KEPT = 8
_BODY = b'{"instances": [[1.5, -2.0]]}'
_RIGHT = b'{"predictions":[[5.5,-5.0]]}'
_HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_GOOD = _HEAD % len(_BODY) + _BODY
_RAW = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 163840\r\n\r\n"
_CHUNKED = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b":", b" ", b"\t", b"\r\n\r\n", b"HTTP/1.0", b"HTTP/2", b"A" * 9000),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"-1"),
    *(b"Expect: 100-continue\r\n", b"%00", b"/..", b"\xf0\x9f\x98\x80", b"Content-Encoding: gzip\r\n", b"\x0b", b"0x"),
    b"Content-Length: 5",
]
_SIZES = [
    b"0",
    b"5",
    b"-1",
    b"ffffffffffffffffff",
    b"0x5",
    b"5;a=b",
    b"",
    b" 5",
    b"g",
    b"7fffffff",
    b"00000005",
    b"5 ;",
]
#: HTTP/0.9 is what the parser calls a first line without a version.
_STATUS = re.compile(rb"HTTP/(?:1\.[01] (?=\d)|0\.9 (?=400))(\d{3}) ")

#: How a client ends: waits for what comes; says that it sends no more, and waits; closes; breaks off.
ENDS = ("wait", "half", "close", "reset")


@dataclass(frozen=True)
class Script:
    """What one client does.

    Attributes:
        kind: of mistake.
        pieces: sent one after the other.
        end: one of `ENDS`, or `right` or `stay`.
        pause: seconds between the pieces, and before the end.
    """

    kind: str
    pieces: tuple[bytes, ...]
    end: str
    pause: float = 0.0


@dataclass
class Found:
    """What a run found.

    Attributes:
        outcomes: of connections, by kind and by what came.
        mistakes: in words.
        right: requests in between that were answered rightly.
    """

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    mistakes: list[str] = field(default_factory=list)
    right: int = 0


class Maker:
    """Makes scripts, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._hello = _client_hello()
        self._kinds: dict[str, Callable[[], bytes]] = {
            "heads": lambda: self._mutated(_GOOD, len(_GOOD) - len(_BODY)),
            "chunks": self._chunks,
            "random bytes": lambda: self._chance.randbytes(self._chance.choice([1, 3, 40, 500, 4000])),
            "cut off": self._cut_off,
            "pipelines": self._pipeline,
            "TLS": lambda: self._mutated(self._hello, len(self._hello)) if self._chance.random() < 0.5 else self._hello,
            "HTTP/2": lambda: _PREFACE + self._chance.randbytes(self._chance.choice([0, 9, 100])),
            "huge heads": self._huge,
            "nothing": lambda: b"",
        }

    def __call__(self, number: int, stays: bool = False) -> Script:
        if number % RIGHT_EVERY == 0:
            return Script("right", self._pieces(_GOOD), "right")
        kind = self._chance.choice(list(self._kinds))
        data = self._kinds[kind]()
        if stays:
            return Script(kind, (data,), "stay")
        end = self._chance.choice(ENDS)
        pause = self._chance.choice([0.0, 0.0, 0.001, 0.003])
        if self._chance.random() < 0.1:
            return Script(f"{kind}, dripped", self._pieces(data), end, pause)
        return Script(kind, (data,), end, pause)

    def _pieces(self, data: bytes) -> tuple[bytes, ...]:
        cuts = sorted(self._chance.choices(range(len(data) + 1), k=self._chance.randint(0, 5)))
        return tuple(data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True))

    def _mutated(self, data: bytes, within: int) -> bytes:
        changed = bytearray(data)
        for _ in range(self._chance.randint(1, 4)):
            at = self._chance.randrange(within)
            end = at + self._chance.choice([0, 0, 1, 4, 20])
            changed[at:end] = self._chance.choice([b"", self._chance.randbytes(1), *_TOKENS])
        return bytes(changed)

    def _chunks(self) -> bytes:
        chunks = bytearray()
        for _ in range(self._chance.randint(1, 4)):
            size = self._chance.choice([b"%x" % len(_BODY), *_SIZES])
            chunks += size + self._chance.choice([b"\r\n", b"\r\n", b"\n", b""]) + _BODY[: self._chance.choice([5, 99])]
            chunks += self._chance.choice([b"\r\n", b"\r\n", b"\n", b""])
        return (
            _CHUNKED
            + bytes(chunks)
            + self._chance.choice([b"", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\n: \r\n\r\n"])
        )

    def _cut_off(self) -> bytes:
        whole = self._chance.choice([_GOOD, _GOOD, _CHUNKED + b"%x\r\n" % len(_BODY) + _BODY + b"\r\n0\r\n\r\n", _RAW])
        whole += bytes(self._chance.choice([1, 90_000, 163_839])) if whole is _RAW else b""
        return whole[: self._chance.randrange(len(whole))] if whole is not _RAW else whole

    def _pipeline(self) -> bytes:
        parts = [
            _GOOD,
            _GOOD,
            self._mutated(_GOOD, len(_GOOD)),
            b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
            self._chunks(),
        ]
        return b"".join(self._chance.choices(parts, k=self._chance.randint(2, 8)))

    def _huge(self) -> bytes:
        line = self._chance.choice([b"X: " + b"y" * 9000, b"X: y", b"X" * 300 + b": y", b"X: " + b"y" * 70_000])
        lines = [line] * self._chance.choice([1, 5, 200])
        end = self._chance.choice([b"\r\n\r\n", b""])
        return b"POST /predict HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(lines)[:200_000] + end


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class Client(asyncio.Protocol):
    """One connection.

    Attributes:
        came: what the listener has sent.
        lost: done when the connection has ended.
    """

    def __init__(self) -> None:
        self.came = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.answered = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.came += data
        self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        self.answered.set()


class Fuzz:
    """Scripts against one listener.

    Args:
        port: of the listener on the loopback.
        make: the scripts.

    Attributes:
        found: so far.
        some_stay: clients of some connections never end them.
    """

    def __init__(self, port: int, make: Maker) -> None:
        self._port, self._make = port, make
        self._staying = list[tuple[float, Script, Client]]()
        self.found, self.some_stay = Found(), False

    async def run(self, numbers: Iterator[int]) -> None:
        """A connection for each number, many at a time."""
        await asyncio.gather(*(self._work(numbers) for _ in range(_AT_A_TIME)))

    async def _work(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            script = self._make(number, self.some_stay and number % _STAYS_EVERY == 1)
            try:
                async with asyncio.timeout(_PATIENCE):
                    outcome = await self._one(script)
            except TimeoutError:
                self._mistake(script, "hangs")
                continue
            except OSError as error:
                self._mistake(script, f"no connection: {error}")
                continue
            self.found.outcomes[f"{script.kind}, {script.end}: {outcome}"] += 1

    async def _one(self, script: Script) -> str:
        loop = asyncio.get_running_loop()
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if script.end == "reset":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            await loop.sock_connect(opened, ("127.0.0.1", self._port))
            transport, client = await loop.create_connection(Client, sock=opened)
        except BaseException:
            opened.close()
            raise
        for piece in script.pieces:
            if not transport.is_closing():
                transport.write(piece)
            if script.pause:
                await asyncio.sleep(script.pause)
        if script.end == "stay":
            self._staying.append((time.monotonic(), script, client))
            return "stays"
        try:
            await self._ended(script, transport, client)
        finally:
            transport.abort()
        self._look(script, client)
        return _said(client)

    async def _ended(self, script: Script, transport: asyncio.Transport, client: Client) -> None:
        if script.end == "close":
            transport.close()
        elif script.end == "half":
            if not transport.is_closing():
                transport.write_eof()
            await client.lost
        elif script.end == "right":
            while not client.came.endswith(_RIGHT) and not client.lost.done():
                client.answered.clear()
                await client.answered.wait()
        elif script.end == "wait":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.answered.wait(), _SHORT)

    def _look(self, script: Script, client: Client) -> None:
        if script.end == "right":
            if client.came.startswith(b"HTTP/1.1 200 OK\r\n") and client.came.endswith(b"\r\n\r\n" + _RIGHT):
                self.found.right += 1
            else:
                self._mistake(script, f"a right request was answered {client.came[:300]!r}")
        elif client.came:
            status = _STATUS.match(client.came)
            if status is None:
                self._mistake(script, f"an answer that is no HTTP: {client.came[:300]!r}")
            elif status[1] >= b"500" or status[1] == b"429":
                self._mistake(script, f"an answer of {client.came[:300]!r}")

    async def until_those_that_stay_have_ended(self) -> None:
        """By the listener, though their clients never end them."""
        for begin, script, client in self._staying:
            try:
                async with asyncio.timeout(max(0.1, begin + _SILENT - time.monotonic())):
                    await asyncio.shield(client.lost)
                self.found.outcomes["stayed, and was ended"] += 1
            except TimeoutError:
                self._mistake(script, f"is open after {_SILENT} s")
                client.transport.abort()

    def _mistake(self, script: Script, what: str) -> None:
        self.found.mistakes.append(f"{script.kind}, {script.end}: {what}\n    {b'|'.join(script.pieces)[:1000]!r}")


def _said(client: Client) -> str:
    status = _STATUS.match(client.came)
    return status[1].decode() if status else "nothing"


@dataclass(frozen=True)
class Taken:
    """What the workers of a stack take.

    Attributes:
        descriptors: by worker.
        memory: likewise, MiB of its own.
    """

    descriptors: dict[int, int]
    memory: dict[int, float]

    @classmethod
    def by(cls, stack: Stack) -> Taken:
        workers = [pid for pid in descendants(stack.process.pid) if "listener.worker" in command_line(pid)]
        each = {pid: of_process(pid) for pid in sorted(workers)}
        return cls(
            {pid: int(used["descriptors"]) for pid, used in each.items()},
            {pid: used["USS, MiB"] for pid, used in each.items()},
        )


async def settled(stack: Stack, most: dict[int, int] | None = None) -> Taken:
    """What they take once no connection is left, or after a while."""
    until = time.monotonic() + 20
    while True:
        await asyncio.sleep(1)
        taken = Taken.by(stack)
        if most is None or time.monotonic() > until:
            return taken
        if all(count <= most.get(pid, 0) + _KEPT for pid, count in taken.descriptors.items()):
            return taken


async def fuzzed(stack: Stack, connections: int, seed: int, staying: bool, say: Callable[[str], None]) -> Found:
    """So many connections, and what is left of them."""
    fuzz, numbers = Fuzz(stack.port, Maker(seed)), iter(range(connections))
    part, begin = connections // 5, time.monotonic()
    await fuzz.run(itertools.islice(numbers, part))  # until caches and pools have their size
    await fuzz.run(_right_ones())
    before = await settled(stack)
    for number in range(4):
        fuzz.some_stay = staying and number == 0
        await fuzz.run(itertools.islice(numbers, part))
        memory = " + ".join(f"{value:.1f}" for value in Taken.by(stack).memory.values())
        say(f"{time.monotonic() - begin:4.0f} s: {fuzz.found.outcomes.total():,} connections; workers {memory} MiB")
    await fuzz.until_those_that_stay_have_ended()
    await fuzz.run(_right_ones())
    _compare(fuzz.found, before, await settled(stack, before.descriptors))
    _read(fuzz.found, stack.output())
    return fuzz.found


def _right_ones() -> Iterator[int]:
    """As many as there are permits for, and more."""
    return iter([0] * 10 * _AT_A_TIME)


def _compare(found: Found, before: Taken, after: Taken) -> None:
    if before.descriptors.keys() != after.descriptors.keys():
        found.mistakes.append(f"workers were {list(before.descriptors)} and are {list(after.descriptors)}")
        return
    for pid, count in after.descriptors.items():
        if count > before.descriptors[pid] + _KEPT:
            found.mistakes.append(f"descriptors of a worker: {before.descriptors[pid]} before, {count} after")
        if (grown := after.memory[pid] - before.memory[pid]) > GROWTH:
            found.mistakes.append(f"a worker has grown by {grown:.1f} MiB")
    found.outcomes["descriptors before"] = sum(before.descriptors.values())
    found.outcomes["descriptors after"] = sum(after.descriptors.values())


def _read(found: Found, log: str) -> None:
    for line in log.splitlines():
        if '"severity":"ERROR"' in line or "Traceback" in line or '"severity":"CRITICAL"' in line:
            found.mistakes.append(f"in the log: {line[:1000]}")


def run(folder: Path, connections: int, seed: int, staying: bool = False, say: Callable[[str], None] = print) -> Found:
    """Against a listener of its own, with its log in a folder.

    Args:
        folder: for the log.
        connections: how many.
        seed: of the scripts.
        staying: some are never ended by their clients, and have to be by the listener, which takes up to 90 s.
        say: progress.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    settings = {"LISTENER_TIMEOUT": f"{_TIMEOUT}", "LISTENER_MAX_REQUESTS": f"{_PERMITS}", "LISTENER_WORKERS": "2"}
    loops = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with running(folder / "log", "up", SERVICE, None, (), **settings) as stack, loops as runner:
        stack.until_workers(2)
        return runner.run(fuzzed(stack, connections, seed, staying, say))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--staying", action="store_true", help="some clients never end their connections")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), given.connections, given.seed, given.staying)
    return told(found.outcomes, found.mistakes, found.right)


if __name__ == "__main__":
    sys.exit(main())
