"""From the text `module.path:name` in listener.yaml to classes, functions and nodes, or to what is wrong with it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from listener import compose, shapes
from listener.errors import ConfigError, one_line
from listener.handler import Handler
from listener.nodes import (
    Called,
    Composed,
    Named,
    Node,
    Ref,
    Step,
    field_of,
    functions,
    named,
    placed,
    rebuilt,
)
from listener.service import Route, Service, with_graphs

K = TypeVar("K")

#: Names of a module that are listed.
_MOST_NAMED = 10


def handler_class(service: Service, route: Route) -> type[Handler]:
    """Imports a route's handler class; the generic `Handler` where the route names none.

    The service folder comes first on `sys.path`, so `handlers.digits` is its `handlers/digits.py`.

    Raises:
        ConfigError: not importable, no such class, not a handler, or with methods that cannot be called as they will
            be; with listener.yaml's line and, for an error inside the module, the module's own line.
    """
    if route.handler is None:
        return Handler
    place = f"{service.file}:{route.line_of('handler')}: {route.field}.handler"
    found = _imported(service, route.handler, place, "class")
    if not (inspect.isclass(found) and issubclass(found, Handler)):
        raise ConfigError(f"{place}: {route.handler!r} is not a subclass of listener.Handler")
    if sentences := [*shapes.of_handler(found), *shapes.of_models(route, found)]:
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
        raise ConfigError(f"{where}: {node.source!r}: {explain(error, service.folder)}") from error


def _located(node: Node, line: int) -> Node:
    """The node where what has a line stands in that one of listener.yaml."""
    made = replace(node, line=line) if isinstance(node, Step | Ref) else node
    return rebuilt(made, lambda _, child: _located(child, line))


def imported(service: Service) -> tuple[dict[str, type[Handler]], dict[str, Callable[..., Any]]]:
    """The handler classes of all routes and parts, by name, and the functions of the graph, by `module.path:name`.

    Raises:
        ConfigError: what is wrong with all of them.
    """
    once = Once()
    classes = {(name, ""): partial(_once, once, service, route) for name, route in service.steps.items()}
    of_graph = _functions(service)
    found = _all({**classes, **of_graph})
    return {name: found[name, ""] for name, _ in classes}, {source: found[at, source] for at, source in of_graph}


class Once:
    """Tells what is wrong with a handler's class once, though several routes may have it."""

    def __init__(self) -> None:
        self._told: set[tuple[str | None, str]] = set()

    def __call__(self, route: Route, mistakes: Iterable[str]) -> list[str]:
        """Those that have not been told of another route with the same class."""
        return [sentence for sentence in mistakes if self._is_new(route, sentence)]

    def _is_new(self, route: Route, sentence: str) -> bool:
        words = (f": {route.field}.handler: ", f": the handler of {route.name!r} cannot be loaded: ")
        of_class = next((sentence.partition(word)[2] for word in words if word in sentence), sentence)
        is_new = (route.handler, of_class) not in self._told
        self._told.add((route.handler, of_class))
        return is_new


def _once(once: Once, service: Service, route: Route) -> type[Handler]:
    try:
        return handler_class(service, route)
    except ConfigError as error:
        raise ConfigError(*once(route, error.mistakes)) from error


def check_functions(service: Service) -> None:
    """Raises ConfigError where the graph names functions that cannot be imported, or called as they will be."""
    _all(_functions(service))


def _functions(service: Service) -> dict[tuple[str, str], Callable[[], Any]]:
    """What imports the functions of the graph, by field and name."""
    return {
        (at, named(said.function)): partial(_function, service, f"{service.file}:{said.line or graph.line}: {at}", said)
        for graph in service.graphs.values()
        for at, node in placed(graph)
        for said in functions(node)
    }


def _all(find: Mapping[K, Callable[[], Any]]) -> dict[K, Any]:
    """What all of them give; raises ConfigError with the mistakes of all."""
    found: dict[K, Any] = {}
    mistakes: list[str] = []
    for key, each in find.items():
        try:
            found[key] = each()
        except ConfigError as error:
            mistakes += error.mistakes  # none where the same has been told already
    if mistakes:
        raise ConfigError(*dict.fromkeys(mistakes))
    return found


def _function(service: Service, node: str, said: Called) -> Callable[..., Any]:
    """One function of the graph."""
    place, source = f"{node}.{said.key}", said.function
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
        hint = _module_hint(service, module_name, error)
        sentence = f"{module_name!r} cannot be imported: {explain(error, service.folder)}{hint}"
        raise ConfigError(f"{place}: {sentence}") from error
    if (found := getattr(module, name, None)) is None:
        raise ConfigError(f"{place}: {module.__file__} has no {kind} {name!r}{_name_hint(module, name, kind)}")
    return found


def _module_hint(service: Service, name: str, error: Exception) -> str:
    """The module of the service that may have been meant where there is none of a name."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{name}.".startswith(f"{missing}."):
        return ""
    files = [*service.folder.glob("*.py"), *service.folder.glob("*/*.py")]
    known = [".".join(file.relative_to(service.folder).with_suffix("").parts) for file in sorted(files)]
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _name_hint(module: ModuleType, name: str, kind: str) -> str:
    """What of a module may have been meant; of its classes those that are handlers."""
    known = [word for word, value in vars(module).items() if not word.startswith("_") and _is_of(kind, value, module)]
    near = difflib.get_close_matches(name, known, n=1)
    if near or not known:
        return f"; did you mean {near[0]!r}?" if near else ""
    return f"; it has {', '.join(map(repr, known[:_MOST_NAMED]))}{', ...' if len(known) > _MOST_NAMED else ''}"


def _is_of(kind: str, value: Any, module: ModuleType) -> bool:
    if kind == "class":
        return inspect.isclass(value) and issubclass(value, Handler) and value is not Handler
    return callable(value) and getattr(value, "__module__", None) == module.__name__ and not inspect.isclass(value)


def _first_on_path(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]


def explain(error: BaseException, folder: Path) -> str:
    """Kind, text and the innermost line inside the service folder."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    inside = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
    where = f" ({inside[-1].filename}:{inside[-1].lineno})" if inside else ""
    return one_line(f"{type(error).__name__}: {error}") + where
