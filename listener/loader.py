"""From the text `module.path:Class` in listener.yaml to a handler, with a sentence for everything that can be wrong."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from listener.errors import ConfigError, one_line
from listener.handler import Handler, Model
from listener.pool import Pool
from listener.service import Route, Service


def handler_class(service: Service, route: Route) -> type[Handler]:
    """Imports a route's handler class; the generic `Handler` where the route names none.

    The service folder comes first on `sys.path`, so `handlers.digits` is its `handlers/digits.py`.

    Raises:
        ConfigError: not importable, no such class, or not a handler; with listener.yaml's line and, for an error inside
            the module, the module's own line.
    """
    if route.handler is None:
        return Handler
    place = f"{service.file}:{route.line}: routes.{route.name}.handler"
    module_name, _, class_name = route.handler.partition(":")
    _first_on_path(service.folder)
    try:
        module = importlib.import_module(module_name)
    except SystemExit as error:
        raise ConfigError(
            f"{place}: {route.handler!r} ends the process when it is imported (status {error})"
        ) from error
    except Exception as error:
        raise ConfigError(f"{place}: {module_name!r} cannot be imported: {_explain(error, service.folder)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ConfigError(f"{place}: {module.__file__} has no class {class_name!r}")
    if not (inspect.isclass(found) and issubclass(found, Handler)):
        raise ConfigError(f"{place}: {route.handler!r} is not a subclass of listener.Handler")
    return found


def function(service: Service, source: str) -> Callable[..., Any]:
    """What `module.path:name` in the service's folder names.

    Raises:
        ConfigError: it cannot be imported, or is nothing to call.
    """
    module_name, _, name = source.partition(":")
    _first_on_path(service.folder)
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{service.file}: {source!r} cannot be imported: {_explain(error, service.folder)}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{service.file}: {module_name!r} has no function {name!r}")
    made: Callable[..., Any] = found
    return made


def model_name(route: Route, handler: type[Handler]) -> str:
    """The model behind a route: listener.yaml's, else the handler's, else the route's own name."""
    return route.model or handler.model or route.name


def load(service: Service, route: Route, handler: type[Handler], models: Mapping[str, Model], pool: Pool) -> Handler:
    """Makes, binds and loads one handler.

    Raises:
        ConfigError: its constructor or `load` failed.
    """
    try:
        made = handler()
        for name in ("load", "close"):
            if inspect.iscoroutinefunction(getattr(made, name)):
                raise TypeError(f"{name} is async def; it has to be a plain def")
        for name in ("instance_schema", "prediction_schema"):
            _check_schema(name, getattr(made, name))
        made.bind(route.name, model_name(route, handler), models, pool)
        made.load(service.folder)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{service.file}:{route.line}: the handler of {route.name!r} cannot be loaded: "
            f"{_explain(error, service.folder)}"
        ) from error
    return made


def _check_schema(name: str, schema: object) -> None:
    if schema is not None and not isinstance(schema, dict):
        raise TypeError(f"{name} is of type {type(schema).__name__}; it has to be a dict, or None")
    try:
        orjson.dumps(schema)
    except TypeError as error:
        raise TypeError(f"{name} cannot be said in JSON: {error}") from None


def _first_on_path(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]


def _explain(error: BaseException, folder: Path) -> str:
    """Kind, text and the innermost line inside the service folder."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    inside = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
    where = f" ({inside[-1].filename}:{inside[-1].lineno})" if inside else ""
    return one_line(f"{type(error).__name__}: {error}") + where
