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
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from listener import middleware, routing
from listener.artifacts import choice
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
from listener.gate import CANNOT_SERVE, Gate, Phase
from listener.settings import Settings

if TYPE_CHECKING:
    from listener.triton.shm import Lease

log = logging.getLogger("listener.app")

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
        gate: phase, permits, deadlines.
        predict: answers predictions.
        failure: why the service cannot be served; done only if it cannot.
        loaded: done once the service is loaded, which is before it is ready.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gate = Gate(settings.max_requests, settings.timeout)
        self.failure: asyncio.Future[ConfigError] = asyncio.get_running_loop().create_future()
        self.loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.predict = endpoint.Predict(self.gate, self.serving, settings.compress_from)
        self._serving: Serving | None = None
        self._step = choice.BEING_FETCHED if settings.fetches else _LOADING

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

    def _say(self, step: str) -> None:
        self._step = step

    async def _serve(self, stack: AsyncExitStack) -> None:
        # imported in a thread: it takes a few hundred milliseconds, in which health must answer
        assembly = await asyncio.to_thread(importlib.import_module, "listener.assembly")
        try:
            service = await choice.arrived(self.settings, self._say)
            self._step = _LOADING
            self._serving = serving = await assembly.build(self.settings, service, stack)
        except ConfigError as error:
            self._fail(error)
            return
        self.loaded.set_result(None)
        if self.gate.phase is Phase.STARTING:
            self.gate.phase = Phase.READY
        await serving.readiness.watch()


def make(listener: Listener) -> web.Application:
    """The web application: the paths of `routing.py`, nothing else."""
    gate, loaded, settings = listener.gate, listener.serving, listener.settings
    app = web.Application(
        client_max_size=settings.max_body, middlewares=[middleware.identify, middleware.errors_to_bodies]
    )
    app[LISTENER] = listener
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


@contextlib.asynccontextmanager
async def serving(
    listener: Listener, listening: socket.socket, open_at_once: bool = True
) -> AsyncIterator[asyncio.AbstractServer]:
    """Answers on a bound socket while inside, with one set of flags for production and tests.

    Every connection begins on the fast path, which hands what it does not know over to aiohttp.

    Args:
        listener: what is served.
        listening: the bound socket.
        open_at_once: take connections; else the caller begins with `start_serving`.

    Yields:
        The server. Closing it means no new connections; those that are there stay.
    """
    behind = runner(make(listener))
    await behind.setup()
    settings = listener.settings
    fast = FastPath(listener.predict, settings.predict_route, settings.max_body, odd(behind), listener.lease)
    server = await asyncio.get_running_loop().create_server(
        fast, sock=listening, backlog=4096, start_serving=open_at_once
    )
    try:
        yield server
    finally:
        server.close()
        await fast.close()
        await behind.cleanup()


def odd(runner: web.AppRunner) -> Callable[[], Fallback]:
    """What makes the protocol of a connection whose requests are not plain."""
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    return partial(Fallback, runner.server, loop=loop, keepalive_timeout=_KEEP_ALIVE, **_AS_IT_IS)


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
