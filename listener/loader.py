"""From a handler's class to a handler that is loaded, and its end; here, or in another process."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from listener.errors import ConfigError, Unavailable
from listener.handler import Handler, Model
from listener.hooks import with_context
from listener.importing import explain, handler_class
from listener.pool import Pool
from listener.service import Route, Service

log = logging.getLogger("listener.app")


def model_name(route: Route, handler: type[Handler]) -> str | None:
    """The model behind a route: listener.yaml's, else the handler's, else the route's own name.

    None: the handler has none of its own (`model = None`).
    """
    if route.model or handler.model is None:
        return route.model
    return handler.model or route.name


def model_names(route: Route, handler: type[Handler]) -> set[str]:
    """Every model that a route needs: its own, and those that its handler calls besides."""
    own = model_name(route, handler)
    return {*handler.uses, *([own] if own else ())}


@dataclass(frozen=True)
class Recipe:
    """Makes a route's handler in another process.

    Attributes:
        service: the service.
        route: the handler's; it names one.
    """

    service: Service
    route: Route

    @property
    def key(self) -> str:
        return f"{self.service.folder}:{self.route.name}"

    def make(self, models: Mapping[str, Model]) -> Mapping[str, Callable[..., Any]]:
        """The hooks of the handler, which is loaded; its `close` is called when the process ends by itself."""
        made = handler_class(self.service, self.route)()
        made.bind(self.route.name, model_name(self.route, type(made)), models, Pool(1), "inline")
        _finished(made.load, self.service.folder)
        atexit.register(_finished, made.close)
        return {name: with_context(getattr(made, name)) for name in ("preprocess", "postprocess")}


async def load(
    service: Service,
    route: Route,
    handler: type[Handler],
    models: Mapping[str, Model],
    pool: Pool,
    offload: str = "",
) -> Handler:
    """Makes, binds and loads one handler. Its own code runs in a thread, but for an `async def load`.

    Args:
        service: the service.
        route: the handler's.
        handler: its class.
        models: those that it may call.
        pool: threads, and processes, for its plain hooks.
        offload: where those run; "" = as the handler has it.

    Raises:
        ConfigError: its constructor or `load` failed.
    """
    try:
        made = await asyncio.to_thread(_made, service, route, handler, models, pool, offload)
        await called(made.load, service.folder)
    except (Exception, SystemExit) as error:
        hint = "; models cannot be called yet when handlers are loaded" if isinstance(error, Unavailable) else ""
        raise ConfigError(
            f"{service.file}:{route.line_of('handler')}: the handler of {route.name!r} cannot be loaded: "
            f"{explain(error, service.folder)}{hint}"
        ) from error
    return made


async def close(handler: Handler) -> None:
    """Calls a handler's `close`, a plain one in a thread. A failure is logged: it must not keep others from closing."""
    try:
        await called(handler.close)
    except (Exception, SystemExit):
        log.exception("%s failed in close", type(handler).__name__)


async def called(function: Callable[..., Any], *args: Any) -> None:
    """Calls `load` or `close`: an `async def` on the loop, a plain one in a thread."""
    if inspect.iscoroutinefunction(function):
        await function(*args)
    else:
        await asyncio.to_thread(function, *args)


def _made(
    service: Service, route: Route, handler: type[Handler], models: Mapping[str, Model], pool: Pool, offload: str
) -> Handler:
    made = handler()
    for name in ("instance_schema", "prediction_schema"):
        _check_schema(name, getattr(made, name))
    # what is composed in Python need not be fit to travel
    recipe = Recipe(replace(service, graphs={}), route) if route.handler else None
    made.bind(route.name, model_name(route, handler), models, pool, offload, recipe)
    return made


def _finished(function: Callable[..., Any], *args: Any) -> None:
    """Calls it where there is no event loop; it may be `async def`."""
    if inspect.iscoroutinefunction(function):
        asyncio.run(function(*args))
    else:
        function(*args)


def _check_schema(name: str, schema: object) -> None:
    if schema is not None and not isinstance(schema, dict):
        raise TypeError(f"{name} is of type {type(schema).__name__}; it has to be a dict, or None")
    try:
        orjson.dumps(schema)
    except TypeError as error:
        raise TypeError(f"{name} cannot be said in JSON: {error}") from None
