"""From the text `module.path:Class` in listener.yaml to a handler, with a sentence for everything that can be wrong."""

from __future__ import annotations

import asyncio
import atexit
import difflib
import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from listener import compose, shapes
from listener.errors import ConfigError, Unavailable, one_line
from listener.handler import Handler, Model
from listener.hooks import with_context
from listener.nodes import (
    MERGES,
    Cascade,
    Composed,
    Ensemble,
    From,
    Function,
    Named,
    Node,
    Ref,
    Step,
    Switch,
    field_of,
    named,
    placed,
    rebuilt,
)
from listener.pool import Pool
from listener.service import Route, Service, with_graphs

log = logging.getLogger("listener.app")
K = TypeVar("K")


def handler_class(service: Service, route: Route) -> type[Handler]:
    """Imports a route's handler class; the generic `Handler` where the route names none.

    The service folder comes first on `sys.path`, so `handlers.digits` is its `handlers/digits.py`.

    Raises:
        ConfigError: not importable, no such class, not a handler, or with methods that cannot be called as they will
            be; with listener.yaml's line and, for an error inside the module, the module's own line.
    """
    if route.handler is None:
        return Handler
    place = f"{service.file}:{route.line}: {route.field}.handler"
    found = _imported(service, route.handler, place, "class")
    if not (inspect.isclass(found) and issubclass(found, Handler)):
        raise ConfigError(f"{place}: {route.handler!r} is not a subclass of listener.Handler")
    if sentences := [*shapes.of_handler(found), *_wrong_models(route, found)]:
        raise ConfigError(*(f"{place}: {found.__name__}{sentence}" for sentence in sentences))
    return found


def expanded(service: Service) -> Service:
    """The service with the nodes that its Python composes (`graph: module.path:name`), which is imported for it.

    Raises:
        ConfigError: with a sentence for each of them that cannot be had.
    """
    mistakes: list[str] = []
    graphs: dict[str, Named] = {}
    for name, each in service.graphs.items():
        try:
            graphs[name] = replace(each, node=_composed(service, each.node, each.field))
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(*mistakes)
    return service if graphs == service.graphs else with_graphs(service, graphs)


def _composed(service: Service, node: Node, place: str) -> Node:
    if not isinstance(node, Composed):
        return rebuilt(node, lambda where, child: _composed(service, child, place + field_of(node, where)))
    where = f"{service.file}:{node.line}: {place}.graph"
    found = _imported(service, node.source, where, "node")
    try:
        is_function = callable(found) and not inspect.isclass(found)
        return _located(compose.node(found() if is_function else found), node.line)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: {node.source!r}: {_explain(error, service.folder)}") from error


def _located(node: Node, line: int) -> Node:
    """The node where what has a line stands in that one of listener.yaml."""
    made = replace(node, line=line) if isinstance(node, Step | Ref) else node
    return rebuilt(made, lambda _, child: _located(child, line))


def _wrong_models(route: Route, handler: type[Handler]) -> Iterator[str]:
    """What is wrong with the names of a handler's models, as the ends of sentences."""
    uses: Any = handler.uses
    if not isinstance(uses, list | tuple | set | frozenset):
        hint = f"as ({uses!r},)" if isinstance(uses, str) else "as ('other',)"
        yield f".uses is {uses!r}; it has to be a tuple of models' names, {hint}"
    elif wrong := [name for name in uses if not (isinstance(name, str) and name)]:
        yield f".uses names {wrong[0]!r}, which is no model's name"
    model: Any = handler.model
    if not isinstance(model, str | None):
        yield f".model is {model!r}; it has to be a model's name, or None for a handler that only calls others"
    if model is None and not route.model and handler.predict is Handler.predict:
        yield ".model is None, so it has to have a predict of its own"


def imported(service: Service) -> tuple[dict[str, type[Handler]], dict[str, Callable[..., Any]]]:
    """The handler classes of all routes and parts, by name, and the functions of the graph, by `module.path:name`.

    Raises:
        ConfigError: what is wrong with all of them.
    """
    classes = {(name, ""): partial(handler_class, service, route) for name, route in service.steps.items()}
    functions = _functions(service)
    found = _all({**classes, **functions})
    return {name: found[name, ""] for name, _ in classes}, {source: found[at, source] for at, source in functions}


def check_functions(service: Service) -> None:
    """Raises ConfigError where the graph names functions that cannot be imported, or called as they will be."""
    _all(_functions(service))


def _functions(service: Service) -> dict[tuple[str, str], Callable[[], Any]]:
    """What imports the functions of the graph, by field and name."""
    return {
        (at, named(said.source)): partial(_function, service, f"{service.file}:{said.line or graph.line}: {at}", said)
        for graph in service.graphs.values()
        for at, node in placed(graph)
        for said in _named(node)
    }


def _all(find: Mapping[K, Callable[[], Any]]) -> dict[K, Any]:
    """What all of them give; raises ConfigError with the mistakes of all."""
    found: dict[K, Any] = {}
    mistakes: list[str] = []
    for key, each in find.items():
        try:
            found[key] = each()
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(*dict.fromkeys(mistakes))
    return found


class _Said(NamedTuple):
    """A function that a node has: as it is said, its key, its line, and what it is called with besides the context."""

    source: Function
    key: str
    line: int
    argument: str


def _named(node: Node) -> Iterator[_Said]:
    match node:
        case Switch(on=From(kind="function", what=said, line=line)):
            yield _Said(said, "switch.function", line, "instance")
        case Ensemble(merge=said, line=line) if said not in MERGES:
            yield _Said(said, "ensemble.merge", line, "predictions")
        case Cascade(score=said, line=line) if callable(said) or ":" in said:
            yield _Said(said, "cascade.score", line, "prediction")


def _function(service: Service, node: str, said: _Said) -> Callable[..., Any]:
    """One function of the graph."""
    place, source = f"{node}.{said.key}", said.source
    found: Any = _imported(service, source, place, "function") if isinstance(source, str) else source
    if not callable(found):
        raise ConfigError(f"{place}: {source!r} is nothing to call")
    if sentence := shapes.of_function(found, said.argument):
        raise ConfigError(f"{place}: {named(source)!r} {sentence}")
    made: Callable[..., Any] = found
    return made


def _imported(service: Service, source: str, place: str, kind: str) -> Any:
    """What `module.path:name` in the service's folder names; `place` and `kind` are for messages."""
    module_name, _, name = source.partition(":")
    _first_on_path(service.folder)
    try:
        module = importlib.import_module(module_name)
    except SystemExit as error:
        raise ConfigError(f"{place}: {source!r} ends the process when it is imported (status {error})") from error
    except Exception as error:
        raise ConfigError(f"{place}: {module_name!r} cannot be imported: {_explain(error, service.folder)}") from error
    if (found := getattr(module, name, None)) is None:
        raise ConfigError(f"{place}: {module.__file__} has no {kind} {name!r}")
    return found


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


#: What a subclass may override or set, for `near_misses`.
_HOOKS = ("preprocess", "postprocess", "predict", "load", "close")
_ATTRIBUTES = ("model", "uses", "example", "instance_schema", "prediction_schema", "offload")
#: High enough for one letter too few, too many or wrong in the longer names; letters in another order come on top.
_NEAR = 0.9


def near_misses(service: Service, handler: type[Handler]) -> list[str]:
    """What looks like a hook or an attribute of handlers, and is none: a sentence each, for `check` and the log.

    A name is left alone where the handler has the right one as well, or where it only goes on (`predict_one`).
    """
    found = []
    for kind in handler.__mro__:
        if kind is Handler or not issubclass(kind, Handler):
            continue
        for name in vars(kind):
            meant = "" if name.startswith("_") or hasattr(Handler, name) else _meant(name)
            if meant and getattr(handler, meant) is getattr(Handler, meant):
                what = "no hook" if meant in _HOOKS else "no attribute of handlers"
                place = _file_of(service, kind)
                found.append(f"{place}: {kind.__name__}.{name} is {what}; did you mean {meant!r}?")
    return found


def _meant(name: str) -> str:
    """The hook or attribute that a name nearly is; "" = none."""
    known = {each.replace("_", ""): each for each in (*_HOOKS, *_ATTRIBUTES)}
    plain = name.lower().replace("_", "")
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=_NEAR)
    near += [each for each in known if sorted(each) == sorted(plain)]
    return "" if not near or plain.startswith(near[0]) else known[near[0]]


def _file_of(service: Service, kind: type[Handler]) -> str:
    """The file of a class, as seen from the service's folder."""
    file = Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__)
    return str(file.relative_to(service.folder) if file.is_relative_to(service.folder) else file)


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
            f"{service.file}:{route.line}: the handler of {route.name!r} cannot be loaded: "
            f"{_explain(error, service.folder)}{hint}"
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
