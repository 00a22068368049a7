"""`GET /openapi.json`: what is served, told anew whenever that has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from listener import __version__
from listener.call import Context
from listener.contract.answer import Answer
from listener.endpoints.serving import Loaded, Serving, in_time, response
from listener.errors import ListenerError

if TYPE_CHECKING:  # these need numpy
    from listener.contract.served import Served
    from listener.graph.step import Step
    from listener.tensors import ModelSpec


class Description:
    """The endpoint.

    Args:
        loaded: gives the service.
        predict_route: the platform's.
        health_route: the platform's.
        timeout: seconds, as a request has.
    """

    def __init__(self, loaded: Loaded, predict_route: str, health_route: str, timeout: float) -> None:
        self._loaded, self._predict, self._health, self._timeout = loaded, predict_route, health_route, timeout
        self._known: list[Served] = []
        self._document = b""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Of models that are not ready nothing is told but their names.

        Raises:
            Unavailable: the service is not loaded yet.
            DeadlineExceeded: Triton does not say in time what is not known yet.
        """
        serving = self._loaded()
        served = await in_time(_all_served(serving), self._timeout)
        if not self._document or served != self._known:
            default = serving.router.default or (served[0].name if len(served) == 1 else None)
            self._document = await asyncio.to_thread(self._written, served, default)
            self._known = served
        return response(Answer(self._document))

    def _written(self, served: Sequence[Served], default: str | None) -> bytes:
        from listener.contract import openapi  # numpy is there once the service is loaded

        routes = openapi.Routes(self._predict, self._health, default)
        return orjson.dumps(openapi.document("Listener", __version__, routes, served))


async def _all_served(serving: Serving) -> list[Served]:
    from listener.contract import composed  # as above

    steps = {name: _told(name, step, ()) for name, step in serving.steps.items()}
    graphs, alone = serving.router.graphs, serving.router.alone
    told = [
        composed.served(name, serving.graphs, steps) if name in graphs else await _served(serving, name)
        for name in serving.router.names()
    ]
    return [replace(each, alone=True) if each.name in alone else each for each in told]


async def _served(serving: Serving, name: str) -> Served:
    from listener.contract import described  # as above
    from listener.handler import Handler

    try:
        step = await serving.router.step(name, Context())
    except ListenerError:
        return described.served(name, Handler, name)
    return _told(name, step, await _versions(serving, step.model))


def _told(name: str, step: Step, versions: tuple[str, ...]) -> Served:
    from listener.contract import described  # as above

    spec = _spec(step) if step.model else None
    return described.served(name, type(step.handler), step.model or name, spec, versions, step.handler)


def _spec(step: Step) -> ModelSpec | None:
    try:
        return step.handler.spec
    except ListenerError:
        return None


async def _versions(serving: Serving, model: str) -> tuple[str, ...]:
    try:
        return await serving.catalogue.versions(model)
    except ListenerError:
        return ()
