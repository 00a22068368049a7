"""The parent process: binds the port, then keeps its children running: the workers, and Triton under `up`.

It neither answers requests nor loads anything large. Start: port, workers, what has to be fetched, Triton, so that
health answers (503) from the first moment. Stop, the other way round: the workers drain and end, and only then Triton.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from listener import cpus, probe
from listener.artifacts.delivery import Delivery
from listener.errors import ConfigError
from listener.kept import GaveUp, Kept
from listener.metrics import segment
from listener.process import (
    INIT_FOLDER,
    LATE_VARIABLE,
    METRICS_SOCKET_VARIABLE,
    OPENS_AFTER,
    SEGMENT_VARIABLE,
    SOCKET_VARIABLE,
    STARTED_AFTER,
    STOP_ALL,
    Child,
    allow_descriptors,
    die_with,
    start,
)
from listener.reload import TRITON_PATIENCE, Reload, repository
from listener.settings import Settings
from listener.triton.regions import shortage, sweep
from listener.triton.server import TritonServer

T = TypeVar("T")

log = logging.getLogger("listener.parent")

#: Each connection takes one, and the usual soft limit is 1,024.
_DESCRIPTORS = 65_536
#: glibc gives blocks of 128 KiB and more back to the kernel at once and takes them anew a page fault at a time: bodies,
#: pictures and tensors would spend more time on that than on being copied. So a worker keeps what it has had.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
#: What ends `listener triton`, and what it hands on.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HANDED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Seconds for which the port may still be that of a predecessor's workers; and for which Triton waits for it to open.
_PORT_PATIENCE = 5.0
#: Seconds between two looks at it.
_LOOK = 0.05


def bind(host: str, port: int, patience: float = 0.0, choice: str = "--port or AIP_HTTP_PORT") -> socket.socket:
    """The listening socket, open before anything else so that the platform's liveness check succeeds.

    Args:
        host, port: the address.
        patience: seconds to wait for one that is taken.
        choice: how to choose another port.

    Raises:
        ConfigError: the address cannot be had; the sentence says how to choose another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + patience
    try:
        while True:
            try:
                return socket.create_server((host, port), family=family, backlog=4096)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                    raise
            time.sleep(_LOOK)
    except OSError as error:
        # create_server's own text repeats the address; a name that is not found has a number of another kind
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}; choose another port with {choice}") from None


class Parent:
    """Starts, restarts and stops the children.

    Args:
        configured: all settings.
        listening: the bound socket.
        metrics: that of the metrics' port; None = there is none.
        triton: started beside the workers, or None where it runs elsewhere.
        delivery: of Triton's repository, where it has to be fetched.
        on_ready: called once, when health answers 200 for the first time.
    """

    def __init__(
        self,
        configured: Settings,
        listening: socket.socket,
        metrics: socket.socket | None,
        triton: TritonServer | None,
        delivery: Delivery | None,
        on_ready: Callable[[], None],
    ) -> None:
        self._settings, self._socket, self._triton, self._on_ready = configured, listening, triton, on_ready
        self._delivery, self._metrics = delivery, metrics
        # a worker that retires has its seat as long as it drains, beside the one that comes for it
        self._segment = segment.new(2 * configured.worker_count + 2)
        self._workers: dict[str, Child] = {}
        self._opens: dict[str, float] = {}  # when each worker takes connections at the latest
        self._triton_child: Child | None = None
        self._retiring: set[asyncio.Task[int]] = set()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until a child is beyond help.

        Returns:
            The exit status: 0 after an orderly stop, 1 after a forced one or when a child is beyond help.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        workers = [self._worker(f"worker-{n}") for n in range(self._settings.worker_count)]
        triton = self._kept_triton(self._triton) if self._triton else None
        kept = [*workers, *([triton] if triton else [])]
        # the files are watched first: what is saved while the workers start is a change as well
        watching = [asyncio.create_task(Reload(self._settings, workers, triton).run())] if self._settings.reload else []
        tasks = [*watching, *(asyncio.create_task(each.run()) for each in kept)]
        announcement = asyncio.create_task(self._announce())
        status = await self._until_stopped(tasks)
        announcement.cancel()
        for task in tasks:
            task.cancel()
        return max(status, await self._stop_children())

    def _on_signal(self) -> None:
        if self._stop.is_set():
            log.warning("forced to stop")
            self._force.set()
        self._stop.set()

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> int:
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        status = 0
        for task in done - {stopped}:
            failure = task.exception()
            if isinstance(failure, GaveUp):
                log.error("%s", failure)
            else:
                log.error("the parent process failed", exc_info=failure)
            status = 1
        return status

    def _worker(self, name: str) -> Kept:
        sockets = {SOCKET_VARIABLE: self._socket.fileno(), SEGMENT_VARIABLE: self._segment}
        if self._metrics:
            sockets[METRICS_SOCKET_VARIABLE] = self._metrics.fileno()
        inherited = {variable: str(number) for variable, number in sockets.items()}
        env = {**_ALLOCATOR, **os.environ, **self._settings.to_env(), **inherited}

        async def begin() -> Child:
            sweep()  # shared memory of a worker that died, before the next one measures what is free
            late = self._another_answers(name)
            self._opens[name] = time.monotonic() + (OPENS_AFTER if late else 0)
            argv, more = [sys.executable, "-m", "listener.worker"], {LATE_VARIABLE: "1"} if late else {}
            self._workers[name] = child = await start(name, argv, env | more, pass_fds=sockets.values())
            return child

        async def watch(child: Child, is_ready: Callable[[], None]) -> None:
            await asyncio.sleep(STARTED_AFTER)
            is_ready()

        async def retire(child: Child) -> None:
            """The next one need not wait: this one takes no connections any more."""
            task = asyncio.create_task(self._stop_child(child, self._settings.worker_patience))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

        return Kept(name, begin, watch, retire, self._settings.reload)

    def _another_answers(self, name: str) -> bool:
        """Whether a worker that dies leaves another one that takes connections.

        At the first start none does, so that each of them answers from the first moment; nor under `reload`, where all
        are replaced at once.
        """
        if self._settings.reload:
            return False
        now = time.monotonic()
        others = [other for other in self._workers if other != name]
        return name in self._workers and any(
            self._workers[other].running and self._opens[other] <= now for other in others
        )

    def _kept_triton(self, triton: TritonServer) -> Kept:
        async def begin() -> Child:
            if self._settings.reload:
                triton.repository = repository(self._settings)
            elif self._delivery and triton.repository is None:
                triton.repository = (await self._delivery.service()).repository
            self._triton_child = child = await triton.start()
            return child

        async def retire(child: Child) -> None:
            await self._stop_child(child, TRITON_PATIENCE)

        return Kept("triton", begin, triton.guard, retire, self._settings.reload)

    async def _announce(self) -> None:
        await probe.until_ok(self._settings.local_url(self._settings.health_route))
        self._on_ready()

    async def _stop_children(self) -> int:
        """Workers first, side by side; Triton when they are gone. Returns 1 if anybody had to be killed."""
        self._socket.close()  # with the workers' copies gone too, new connections are refused at once
        if self._metrics:
            self._metrics.close()
        patience = self._settings.worker_patience
        statuses = await asyncio.gather(
            *(self._stop_child(child, patience, STOP_ALL) for child in self._workers.values())
        )
        await asyncio.gather(*self._retiring)
        if self._triton_child:
            await self._stop_child(self._triton_child, self._triton.exit_patience if self._triton else 0)
        if self._triton:
            self._triton.close()
        if self._delivery:
            await self._delivery.close()
        sweep()  # shared memory of workers that were killed
        return 1 if self._force.is_set() or 128 + signal.SIGKILL in statuses else 0

    async def _stop_child(self, child: Child, patience: float, number: int = signal.SIGTERM) -> int:
        if not child.running:
            await child.wait()  # for what it left behind
            return 0
        stopping = asyncio.create_task(child.stop(patience, number))
        forced = asyncio.create_task(self._force.wait())
        await asyncio.wait({stopping, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not stopping.done():
            child.kill()
        return await stopping


async def run_triton(server: TritonServer, delivery: Delivery | None, keep: Settings | None = None) -> int:
    """Triton as the only child, for supervisors of their own.

    Args:
        server: the Triton.
        delivery: of its repository, where that has to be fetched first. A Triton that ends by itself leaves it for the
            next start.
        keep: it is started again as under `up`, and for the first time when the port of a `serve` with these settings
            is open. None: its end is ours.

    Returns:
        The exit status: Triton's own; of one that is kept 0 after a signal, or 1 when it is beyond help.

    Raises:
        ConfigError: it cannot be started.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    try:
        for number in _ENDING:
            loop.add_signal_handler(number, told.set)
        is_below_init()
        if keep:
            await _unless(told, probe.until_open(keep.local_host, keep.port, _PORT_PATIENCE))
        if delivery and (service := await _unless(told, delivery.service())):
            server.repository = service.repository
        if told.is_set():
            return 0
        return await (_keep(server, told) if keep else _run_once(server, told))
    finally:
        server.close()
        if delivery:
            await delivery.close(remove=told.is_set())


async def _run_once(server: TritonServer, told: asyncio.Event) -> int:
    loop, child = asyncio.get_running_loop(), await server.start()
    guarding = asyncio.create_task(server.guard(child))

    def end(number: int) -> None:
        told.set()
        guarding.cancel()
        child.send(number)
        loop.call_later(server.exit_patience, child.kill)

    for number in _HANDED_ON:
        loop.add_signal_handler(number, child.send, number)
    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    if told.is_set():
        end(signal.SIGTERM)
    status = await child.wait()
    guarding.cancel()
    return status


async def _keep(server: TritonServer, told: asyncio.Event) -> int:
    current: list[Child] = []

    async def begin() -> Child:
        await server.until_free()
        child = await server.start()
        current[:] = [child]
        return child

    async def stop(child: Child) -> None:
        await child.stop(server.exit_patience)

    def hand_on(number: int) -> None:
        for child in current:
            child.send(number)

    for number in _HANDED_ON:
        asyncio.get_running_loop().add_signal_handler(number, hand_on, number)
    try:
        await _unless(told, Kept("triton", begin, server.guard, stop).run())
    except GaveUp as reason:
        log.error("%s", reason)
        return 1
    await asyncio.gather(*map(stop, current))
    return 0


async def _unless(told: asyncio.Event, doing: Coroutine[Any, Any, T]) -> T | None:
    """What comes of it; None, and it is cancelled, if a signal came before."""
    task, ending = asyncio.create_task(doing), asyncio.create_task(told.wait())
    await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if told.is_set():
        task.cancel()
        return None
    return task.result()


def serve(configured: Settings, triton: TritonServer | None, on_ready: Callable[[Settings], None]) -> int:
    """Runs listener and, if given, Triton in the foreground.

    Args:
        configured: all settings; port 0 takes a free one.
        triton: to be started beside the workers.
        on_ready: called with the settings (the real port filled in) when predictions can be made.

    Returns:
        The exit status.

    Raises:
        ConfigError: the port cannot be had.
    """
    # the workers of a predecessor that was killed may have the port for a moment yet
    patience = _PORT_PATIENCE if is_below_init() else 0.0
    listening = bind(configured.host, configured.port, patience)
    metrics = _bound_for_metrics(configured, patience)
    port, count = int(listening.getsockname()[1]), cpus.how_many(configured.workers)
    configured = dataclasses.replace(configured, port=port, workers=count)
    if triton:
        configured = dataclasses.replace(configured, triton_url=triton.url, triton_metrics_url=triton.metrics_url)
    delivery = Delivery(configured) if triton and configured.fetches else None
    allow_descriptors(_DESCRIPTORS)
    if configured.triton_is_here and (lack := shortage()):
        log.warning("%s", lack)

    async def run() -> int:
        return await Parent(configured, listening, metrics, triton, delivery, lambda: on_ready(configured)).run()

    return asyncio.run(run())


def _bound_for_metrics(configured: Settings, patience: float) -> socket.socket | None:
    if not configured.metrics_port:
        return None
    return bind(configured.metrics_host, configured.metrics_port, patience, "--metrics-port or LISTENER_METRICS_PORT")


def is_below_init() -> bool:
    """Whether the supervisord above us is one of `listener init`. If so, we end with it, even when it is killed."""
    if INIT_FOLDER not in os.environ:
        return False
    if dying := die_with(os.getppid()):
        dying()
    return True
