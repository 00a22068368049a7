"""Whether predictions can be made now: a poll in the background, so that a health check is answered from memory.

Ready means that Triton answers, every routed model is ready and every handler has been warmed up since Triton last
started. The listener's own phase comes on top of that (`gate.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Protocol

from listener.call import Call, Context, Json
from listener.errors import ListenerError
from listener.graph.node import Node

log = logging.getLogger("listener.readiness")

#: Seconds between looks: a death is seen, and a return to readiness told, well within one second.
_PERIOD_READY, _PERIOD_WAITING = 0.4, 0.2
#: The same after a failure that will hardly go away by itself; each one writes a trace.
_PERIOD_FAILED = 5.0


class Server(Protocol):
    """Triton, as far as this module cares."""

    async def server_ready(self) -> bool: ...

    async def introduce(self) -> None: ...


class RoutedModel(Protocol):
    """A model behind a route."""

    async def lacks(self) -> str | None: ...

    async def read_spec(self) -> None: ...


class Index(Protocol):
    """Which models Triton has."""

    async def refresh(self) -> None: ...


class Readiness:
    """Keeps the list of what is missing up to date.

    Args:
        server: Triton.
        index: of its models.
        models: every model that a route needs, by name.
        warm_up: by route, the node and the example to send through it.
        timeout: seconds for one warm-up request.
    """

    def __init__(
        self,
        server: Server,
        index: Index,
        models: Mapping[str, RoutedModel],
        warm_up: Mapping[str, tuple[Node, Json]],
        timeout: float,
    ) -> None:
        self._server, self._index, self._models = server, index, models
        self._warm_up, self._timeout = warm_up, timeout
        self._introduced = False  # since Triton last became ready
        self._warm: set[str] = set()
        self._known: set[str] = set()
        self._pause = _PERIOD_WAITING
        self._failing = False  # the last warm-up did not work; health keeps saying why while it is tried again
        self.missing: list[str] = ["Triton has not been asked yet"]

    @property
    def ready(self) -> bool:
        return not self.missing

    async def watch(self) -> None:
        """Looks again and again until cancelled; a change is logged."""
        while True:
            self._pause = _PERIOD_WAITING
            try:
                self._tell(await self._look())
            except Exception:
                log.exception("the readiness check itself failed")
                self._tell(["the readiness check failed; the log has the reason"])
                self._pause = _PERIOD_FAILED
            await asyncio.sleep(_PERIOD_READY if self.ready else self._pause)

    def _tell(self, missing: list[str]) -> None:
        if missing != self.missing:
            log.info("%s", f"not ready: {'; '.join(missing)}" if missing else "ready")
        self.missing = missing

    async def _look(self) -> list[str]:
        if not await self._server.server_ready():
            self._warm.clear()
            self._known.clear()  # a restarted Triton may serve other versions
            self._introduced = False
            return ["Triton is not ready"]
        names = list(self._models)
        lacks = await asyncio.gather(*(self._models[name].lacks() for name in names))
        unready = {name: reason for name, reason in zip(names, lacks, strict=True) if reason}
        if unready:
            self._known.difference_update(unready)
            self._warm.clear()
            return [f"model {name!r} {reason}" for name, reason in unready.items()]
        return await self._prepare(names)

    async def _prepare(self, models: list[str]) -> list[str]:
        """Reads what is not known yet and warms up what is cold; says what did not work."""
        missing = []
        if not self._introduced:
            await self._server.introduce()
            try:
                await self._index.refresh()
            except ListenerError as error:
                return [error.message]
            self._introduced = True
        for name in models:
            if name not in self._known:
                try:
                    await self._models[name].read_spec()
                    self._known.add(name)
                except ListenerError as error:
                    missing.append(error.message)
        cold = [] if missing else [route for route in self._warm_up if route not in self._warm]
        for route in cold:
            if not self._failing:
                self._tell([f"route {name!r} is being warmed up" for name in cold if name not in self._warm])
            missing += await self._warm_route(route)
        self._failing = bool(missing)
        return missing

    async def _warm_route(self, route: str) -> list[str]:
        """A failure is a bug, or lasts: it is tried again, but not five times a second."""
        node, example = self._warm_up[route]
        context = Context(request_id=f"warm-up-{route}", deadline=time.monotonic() + self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await node(Call([example], context))
        except ListenerError as error:
            self._pause = _PERIOD_FAILED
            return [f"the warm-up of route {route!r} failed: {error.message}"]
        except TimeoutError:
            self._pause = _PERIOD_FAILED
            return [f"the warm-up of route {route!r} took longer than {self._timeout:g} s"]
        self._warm.add(route)
        return []
