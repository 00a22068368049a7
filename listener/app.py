"""The root of a worker: the web application, which answers from its first moment, and the service behind it.

The port is open before anything slow happens: what a prediction needs (numpy, tritonclient, the handlers) is loaded
behind it by `assembly.py`; until then health and predict say 503. Stop is start backwards, by construction:
`cleanup_ctx` for what the application owns, an `AsyncExitStack` for what the assembly built.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from listener import middleware, routing
from listener.access import AccessLog
from listener.artifacts import choice
from listener.endpoints import metrics as metrics_endpoint
from listener.endpoints import pages
from listener.endpoints import predict as endpoint
from listener.endpoints.description import Description
from listener.endpoints.oip import Oip
from listener.endpoints.serving import Serving
from listener.endpoints.stream import PredictStream
from listener.endpoints.v1 import V1
from listener.errors import ConfigError, Unavailable
from listener.fallback import Fallback
from listener.fastpath import FastPath
from listener.gate import CANNOT_SERVE, Gate, Limits, Phase
from listener.metrics.meter import Meter
from listener.metrics.segment import Seat, Segment
from listener.settings import Settings

if TYPE_CHECKING:
    from listener.spans import Spans
    from listener.triton.shm import Lease

log = logging.getLogger("listener.app")

#: File descriptors that are not for clients: those to Triton alone can be some hundred.
_OWN_DESCRIPTORS = 1024
#: Seconds that an idle connection stays.
_KEEP_ALIVE = 75.0

#: Of aiohttp's protocol: no access log, which its types do not foresee here; compressed bodies come as they are.
_AS_IT_IS: dict[str, Any] = {"access_log": None, "auto_decompress": False}

LISTENER = web.AppKey["Listener"]("listener")
_LOADING = "the service is being loaded"


class Listener:
    """What one worker holds. Make it on the loop that will run it.

    Attributes:
        settings: all of them.
        segment: in which all workers count.
        meter: with which this one does; None = nobody would be told.
        gate: phase, permits, deadlines.
        predict: answers predictions.
        failure: why the service cannot be served; done only if it cannot.
        loaded: done once the service is loaded, which is before it is ready.
    """

    def __init__(self, settings: Settings, segment: Segment | None = None) -> None:
        self.settings = settings
        self.segment = segment or Segment()
        self.meter = Meter(_seat(self.segment)) if settings.observes else None
        self.gate = Gate(limits(settings), settings.timeout, self.meter)
        self.failure: asyncio.Future[ConfigError] = asyncio.get_running_loop().create_future()
        self.loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        access = AccessLog(settings.access_log)
        self.predict = endpoint.Predict(self.gate, self.serving, settings.compress_from, access, settings.server_timing)
        self._serving: Serving | None = None
        self._step = _LOADING
        if settings.fetches:
            self._downloading(choice.BEING_FETCHED)

    def serving(self) -> Serving:
        """The loaded service.

        Raises:
            Unavailable: it is not loaded yet.
        """
        if self._serving is None:
            raise Unavailable("the service is not loaded yet")
        return self._serving

    def lease(self, nbytes: int) -> Lease | None:
        """Room for a body in memory shared with Triton; None: it goes elsewhere."""
        return self._serving.lease(nbytes) if self._serving else None

    def missing(self) -> list[str]:
        """What stands between this worker and its first prediction; empty = nothing."""
        if self.failure.done():
            return [CANNOT_SERVE]
        return self._serving.readiness.missing if self._serving else [self._step]

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        """Loads the service behind the open port and takes it down again (a `cleanup_ctx`)."""
        async with AsyncExitStack() as stack:
            task = asyncio.create_task(self._serve(stack))
            task.add_done_callback(self._ended)
            yield
            task.remove_done_callback(self._ended)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nothing but the stop should end the service; a bug must not leave it at 503 for ever."""
        if not self.failure.done():
            error = None if task.cancelled() else task.exception()
            log.critical("the service ended by itself", exc_info=error)
            self._fail(ConfigError(CANNOT_SERVE))

    def _fail(self, error: ConfigError) -> None:
        self.gate.phase = Phase.FAILED
        self.failure.set_result(error)

    def _downloading(self, how_far: str) -> None:
        self._step = how_far
        self._starting(Phase.DOWNLOADING)

    def _starting(self, phase: Phase) -> None:
        """Another phase, unless the start is over already: by a stop or a failure."""
        if self.gate.phase in (Phase.STARTING, Phase.DOWNLOADING):
            self.gate.phase = phase

    async def _serve(self, stack: AsyncExitStack) -> None:
        # imported in a thread: it takes a few hundred milliseconds, in which health must answer
        assembly = await asyncio.to_thread(importlib.import_module, "listener.assembly")
        try:
            if self.settings.traces:
                self.gate.spans = spans = await asyncio.to_thread(_spans, self.settings)
                stack.push_async_callback(spans.close)  # the last thing of all
            service = await choice.arrived(self.settings, self._downloading)
            self._step = _LOADING
            self._starting(Phase.STARTING)
            self._serving = serving = await assembly.build(self.settings, service, stack, self.meter)
        except ConfigError as error:
            self._fail(error)
            return
        self.loaded.set_result(None)
        self._starting(Phase.READY)
        await serving.readiness.watch()


def _spans(settings: Settings) -> Spans:
    """What records requests.

    Raises:
        ConfigError: that cannot be had.
    """
    try:
        from listener import spans
    except ImportError as error:
        raise ConfigError("LISTENER_TRACES needs the extra `otel`: pip install 'triton-listener[otel]'") from error
    return spans.opened(settings.traces, settings.trace_share)


def make(listener: Listener) -> web.Application:
    """The web application: the paths of `routing.py`, nothing else."""
    gate, loaded, settings = listener.gate, listener.serving, listener.settings
    app = web.Application(
        client_max_size=settings.max_body, middlewares=[middleware.identify, middleware.errors_to_bodies]
    )
    app[LISTENER] = listener
    app.on_response_prepare.append(middleware.guard)
    ends = routing.Endpoints(
        health=pages.health(gate, listener.missing),
        predict=endpoint.predict(listener.predict),
        stream=PredictStream(gate, loaded),
        oip=Oip(gate, loaded, listener.missing),
        v1=V1(loaded),
        openapi=Description(loaded, settings.predict_route, settings.health_route, settings.timeout),
    )
    routing.add(app, settings, ends)
    app.cleanup_ctx.append(listener.lifetime)
    return app


@dataclass(frozen=True, slots=True)
class Ports:
    """What one worker takes connections on: the port of requests, and that of metrics where there is one."""

    servers: list[asyncio.AbstractServer]

    async def open(self) -> None:
        """Begins to take connections."""
        for server in self.servers:
            await server.start_serving()

    def close(self) -> None:
        """No new connections; those that are there stay."""
        for server in self.servers:
            server.close()


@contextlib.asynccontextmanager
async def serving(
    listener: Listener, listening: socket.socket, metrics: socket.socket | None = None, open_at_once: bool = True
) -> AsyncIterator[Ports]:
    """Answers on a bound socket while inside, with one set of flags for production and tests.

    Every connection begins on the fast path, which hands what it does not know over to aiohttp.

    Args:
        listener: what is served.
        listening: the bound socket.
        metrics: that of the metrics' port; None = there is none.
        open_at_once: take connections; else the caller begins with `Ports.open`.

    Yields:
        What takes connections.
    """
    behind = runner(make(listener))
    await behind.setup()
    settings = listener.settings
    fast = FastPath(
        listener.predict,
        settings.predict_route,
        settings.max_body,
        odd(behind),
        listener.lease,
        most_connections(),
        settings.client_share < 1,
    )
    create = partial(asyncio.get_running_loop().create_server, start_serving=open_at_once)
    ports = Ports([await create(fast, sock=listening, backlog=4096)])
    if listener.meter:
        _gauges(listener, listener.meter, fast)
        listener.meter.start()
    beside = None
    if metrics and listener.meter:
        fetched = partial(choice.fetched, settings)
        beside = runner(metrics_endpoint.application(listener.serving, listener.segment, listener.meter, fetched))
        await beside.setup()
        assert beside.server is not None
        ports.servers.append(await create(beside.server, sock=metrics))
    try:
        yield ports
    finally:
        ports.close()
        await fast.close()
        await behind.cleanup()
        if beside:
            await beside.cleanup()
        if listener.meter:
            listener.meter.stop()


def _seat(segment: Segment) -> Seat:
    """Where this worker counts; where nobody sees it if there are too many workers, which are replaced all the time."""
    seat = segment.take()
    if seat is None:
        log.warning("this worker's metrics cannot be seen: all %d places for them are taken", segment.seats)
    found = seat or Segment().take()
    assert found is not None
    return found


def _gauges(listener: Listener, meter: Meter, fast: FastPath) -> None:
    gate, gauge = listener.gate, meter.gauge
    for phase in Phase:
        gauge("listener_workers", partial(_is_in, gate, phase), phase.value)
    gauge("listener_in_flight", lambda: gate.inside)
    gauge("listener_waiting", lambda: gate.waiting)
    gauge("listener_permits", lambda: listener.settings.max_requests)
    gauge("listener_body_bytes", lambda: gate.nbytes)
    gauge("listener_connections", lambda: fast.open_connections)


def _is_in(gate: Gate, phase: Phase) -> float:
    return float(gate.phase is phase)


def limits(settings: Settings) -> Limits:
    """What requests may take, as the settings have it; one request always fits."""
    permits = settings.max_requests
    return Limits(
        permits,
        max(settings.max_bytes, settings.max_body),
        permits // 4 if settings.queue == "auto" else settings.queue,
        max(1, int(permits * settings.route_share)),
        max(1, int(permits * settings.client_share)),
    )


def odd(runner: web.AppRunner) -> Callable[[Callable[[], object]], Fallback]:
    """What makes the protocol of a connection whose requests are not plain."""
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    return partial(Fallback, manager=runner.server, loop=loop, keepalive_timeout=_KEEP_ALIVE, **_AS_IT_IS)


def most_connections() -> int:
    """As many as there are file descriptors, less those for Triton, handlers, processes and the log."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - _OWN_DESCRIPTORS, soft // 2)


def runner(app: web.Application) -> web.AppRunner:
    """aiohttp's server around the application."""
    return web.AppRunner(
        app,
        handle_signals=False,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE,
        # requests have been drained before; this is for what outlived the drain, and aiohttp waits so long twice
        shutdown_timeout=1.0,
    )
