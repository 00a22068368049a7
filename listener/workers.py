"""The parent process: binds the port, then keeps its children running: the workers, and Triton under `up`.

It neither answers requests nor loads anything large. Start: port, workers, what has to be fetched, Triton, so that
health answers (503) from the first moment. Stop, the other way round: the workers drain and end, and only then Triton.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable

from listener import cpus, probe
from listener.artifacts.delivery import Delivery
from listener.errors import ConfigError
from listener.kept import GaveUp, Kept
from listener.process import (
    LATE_VARIABLE,
    OPENS_AFTER,
    SOCKET_VARIABLE,
    STOP_ALL,
    Child,
    start,
)
from listener.reload import TRITON_PATIENCE, Reload, repository
from listener.settings import Settings
from listener.triton.regions import sweep
from listener.triton.server import TritonServer

log = logging.getLogger("listener.parent")

#: A worker that lived this long had started; its next start begins with a short delay again.
_WORKER_STARTED_AFTER = 10.0
#: Beyond a worker's drain, for closing its server and its handlers.
_WORKER_CLOSE = 5.0
#: glibc gives blocks of 128 KiB and more back to the kernel at once and takes them anew a page fault at a time: bodies,
#: pictures and tensors would spend more time on that than on being copied. So a worker keeps what it has had.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
#: What ends `listener triton`.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, open before anything else so that the platform's liveness check succeeds.

    Raises:
        ConfigError: the address cannot be had; the sentence says how to choose another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=4096)
    except OSError as error:
        # create_server's own text repeats the address; a name that is not found has a number of another kind
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}; choose another port with --port or AIP_HTTP_PORT"
        ) from None


class Parent:
    """Starts, restarts and stops the children.

    Args:
        configured: all settings.
        listening: the bound socket.
        triton: started beside the workers, or None where it runs elsewhere.
        delivery: of Triton's repository, where it has to be fetched.
        on_ready: called once, when health answers 200 for the first time.
    """

    def __init__(
        self,
        configured: Settings,
        listening: socket.socket,
        triton: TritonServer | None,
        delivery: Delivery | None,
        on_ready: Callable[[], None],
    ) -> None:
        self._settings, self._socket, self._triton, self._on_ready = configured, listening, triton, on_ready
        self._delivery = delivery
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
        env = {**_ALLOCATOR, **os.environ, **self._settings.to_env(), SOCKET_VARIABLE: str(self._socket.fileno())}

        async def begin() -> Child:
            sweep()  # shared memory of a worker that died, before the next one measures what is free
            late = self._another_answers(name)
            self._opens[name] = time.monotonic() + (OPENS_AFTER if late else 0)
            argv, more = [sys.executable, "-m", "listener.worker"], {LATE_VARIABLE: "1"} if late else {}
            self._workers[name] = child = await start(name, argv, env | more, pass_fds=[self._socket.fileno()])
            return child

        async def watch(child: Child, is_ready: Callable[[], None]) -> None:
            await asyncio.sleep(_WORKER_STARTED_AFTER)
            is_ready()

        async def retire(child: Child) -> None:
            """The next one need not wait: this one takes no connections any more."""
            task = asyncio.create_task(self._stop_child(child, self._settings.drain_timeout + _WORKER_CLOSE))
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
        patience = self._settings.drain_timeout + _WORKER_CLOSE
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


async def run_triton(server: TritonServer, delivery: Delivery | None) -> int:
    """Triton as the only child: signals forwarded, exit status passed on. For supervisors of their own.

    Args:
        server: the Triton.
        delivery: of its repository, where that has to be fetched first. A Triton that ends by itself leaves it for the
            next start.

    Raises:
        ConfigError: it cannot be started.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    try:
        for number in _ENDING:
            loop.add_signal_handler(number, told.set)
        if delivery and not await _delivered(server, delivery, told):
            return 0
        child = await server.start()
        guarding = asyncio.create_task(server.guard(child))

        def end(number: int) -> None:
            told.set()
            guarding.cancel()
            child.send(number)
            loop.call_later(server.exit_patience, child.kill)

        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, child.send, number)
        for number in _ENDING:
            loop.add_signal_handler(number, end, number)
        if told.is_set():
            end(signal.SIGTERM)
        status = await child.wait()
        guarding.cancel()
        return status
    finally:
        server.close()
        if delivery:
            await delivery.close(remove=told.is_set())


async def _delivered(server: TritonServer, delivery: Delivery, told: asyncio.Event) -> bool:
    """Has the repository fetched; False if a signal came before it was there."""
    fetching, ending = asyncio.create_task(delivery.service()), asyncio.create_task(told.wait())
    await asyncio.wait({fetching, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if told.is_set():
        fetching.cancel()
        return False
    server.repository = fetching.result().repository
    return True


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
    listening = bind(configured.host, configured.port)
    port, count = int(listening.getsockname()[1]), cpus.how_many(configured.workers)
    configured = dataclasses.replace(configured, port=port, workers=count)
    if triton:
        configured = dataclasses.replace(configured, triton_url=triton.url, triton_metrics_url=triton.metrics_url)
    delivery = Delivery(configured) if triton and configured.fetches else None
    _allow_many_connections()

    async def run() -> int:
        return await Parent(configured, listening, triton, delivery, lambda: on_ready(configured)).run()

    return asyncio.run(run())


def _allow_many_connections() -> None:
    """Each connection takes a file descriptor, and the usual soft limit is 1,024; the workers inherit ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
