"""A service as boxes and labelled edges, whatever draws them then. An edge leads from a node to one that it asks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from listener.errors import ConfigError, one_line
from listener.nodes import Limited, Node, Ref, Step, children, name_of
from listener.service import Route, Service
from listener.tools.drawing import words
from listener.tools.drawing.words import Way, shown

#: Where nothing is the default.
NAMED = "Each request names its model."


@dataclass(frozen=True, slots=True)
class Box:
    """A node.

    Attributes:
        key: of this box alone.
        name: what it is called, fit to be shown; "" = it has no name of its own.
        kind: `model`, `handler`, or the word of listener.yaml for it: `switch`, `split` ...
        what: what it is, in a line.
        details: more of it, a line each.
        choosable: whether it is a route, which requests can name.
        inner: whether it has a name that requests cannot choose.
        default: whether it serves the requests that name none.
    """

    key: str
    name: str
    kind: str
    what: str
    details: tuple[str, ...] = ()
    choosable: bool = False
    inner: bool = False
    default: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """One box asks another one.

    Attributes:
        source: key of the one that asks.
        target: key of the other one.
        label: when; "" = always.
        dashed: the answer goes nowhere.
    """

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn.

    Attributes:
        title: what it is a picture of.
        note: a sentence on where to begin; "" = none.
        boxes: by key, in the order in which a reader meets them.
        edges: without cycles, those of a box in its order.
        roots: keys of the boxes to begin with: what requests can name, and what nothing else asks.
    """

    title: str
    note: str
    boxes: Mapping[str, Box]
    edges: Sequence[Edge]
    roots: Sequence[str]

    def below(self, key: str) -> list[Edge]:
        """The edges that leave a box."""
        return [edge for edge in self.edges if edge.source == key]


def of(service: Service, models: Mapping[str, str], route: str = "") -> Picture:
    """The picture of a service.

    Args:
        service: it; of a bare repository `bare` made the routes.
        models: by name of a step, where its handler says the model.
        route: of this name alone; "" = of everything.

    Raises:
        ConfigError: there is nothing of that name.
    """
    names = [*service.graphs, *service.steps]
    if route and route not in names:
        near = difflib.get_close_matches(route, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}"
        raise ConfigError(one_line(f"--route: no route or node {route!r}; {hint}"))
    painter = _Painter(service, models)
    title = shown(service.folder.name) or "this service"
    if route:
        return painter.picture(f"{shown(route)} in {title}", "", [route], rest=False)
    note = f"Requests that name no route go to {shown(service.default)}." if service.default else NAMED
    return painter.picture(title, note, painter.first(), rest=True)


def bare(service: Service, models: Sequence[str]) -> Service:
    """A model repository alone, with a route for each of its models, as requests can name them."""
    default = service.default or (models[0] if len(models) == 1 else "")
    return replace(service, routes={name: Route(name) for name in models}, default=default)


class _Painter:
    """Makes each box once."""

    def __init__(self, service: Service, models: Mapping[str, str]) -> None:
        self._service, self._models = service, models
        self._boxes: dict[str, Box] = {}
        self._edges: list[Edge] = []
        self._drawn: set[str] = set()

    def first(self) -> list[str]:
        """What requests can name: the default, then routes of several steps, then the others."""
        graphs = [name for name, each in self._service.graphs.items() if each.choosable]
        default = self._service.default
        known = default in self._service.graphs or default in self._service.steps
        return list(dict.fromkeys([*([default] if known else []), *graphs, *self._service.routes]))

    def picture(self, title: str, note: str, names: Sequence[str], rest: bool) -> Picture:
        roots = [self._named(name) for name in names]
        if rest:  # what nothing asks: a handler does, or a node that lies in wait
            left = [*self._service.graphs, *(n for n, part in self._service.parts.items() if not _is_model(part))]
            for name in left:
                if name not in self._drawn:
                    roots.append(self._named(name))
        return Picture(title, note, self._boxes, self._edges, roots)

    def _named(self, name: str, version: str = "") -> str:
        """The box of a name; its key."""
        key = f"{name}@{version}"
        if key in self._boxes:
            return key
        self._drawn.add(name)
        graph = self._service.graphs.get(name)
        if graph is None:
            title = f"{name}@{version}" if version else name
            self._boxes[key] = self._step(key, title, self._service.steps.get(name, Route(name)), version)
        else:
            self._any(key, graph.node, name, name)
        is_default = bool(self._service.default) and name == self._service.default and not version
        choosable = not version and name in self._service.choices
        part = self._service.parts.get(name)
        inner = name not in self._service.choices and not (part and _is_model(part))
        self._boxes[key] = replace(self._boxes[key], choosable=choosable, inner=inner, default=is_default)
        return key

    def _step(self, key: str, name: str, route: Route, version: str = "") -> Box:
        """The box of one handler or model."""
        version = version or route.version
        model = route.model or self._models.get(route.name) or ("" if route.handler else route.name)
        exact = shown(f"{model}@{version}" if version else model)
        details = (f"hooks: {route.offload}",) if route.offload else ()
        if not route.handler:
            return Box(key, shown(name), "model", "model" if exact == shown(name) else f"model {exact}", details)
        said = f"model {exact}" if model else f"the handler's model{f'@{version}' if version else ''}"
        return Box(key, shown(name), "handler", f"handler {shown(route.handler)}", (said, *details))

    def _any(self, key: str, node: Node, place: str, name: str = "") -> None:
        """The box of a node that stands here, and all below.

        Args:
            key: of the box.
            node: what it is; limits around it are the box's.
            place: the word for the place, as `service.py` names the steps in it.
            name: its own, "" = it has none.
        """
        more: tuple[str, ...] = ()
        while isinstance(node, Limited):
            more += words.limits(node.timeout, node.retry)
            place += name_of(node, "node")
            node = node.node
        step = self._inline(node, place)
        if step is not None:
            box = self._step(key, name, step)
            self._boxes[key] = replace(box, details=box.details + more)
            return
        kind = type(node).__name__.strip("_").lower()
        what, details = words.about(node)
        self._boxes[key] = Box(key, shown(name), kind, what, details + more)
        if isinstance(node, Ref):
            self._ask(key, node, place, Way())
        for number, (where, child) in enumerate(children(node)):
            self._ask(key, child, place + name_of(node, where), words.way(node, where, number))

    def _inline(self, node: Node, place: str) -> Route | None:
        """The step that stands at a place itself, without a name of its own."""
        if isinstance(node, Step):
            return Route(place, node.handler, node.model or None, node.line, node.version, node.offload)
        if isinstance(node, Ref) and node.name == place and not node.version:
            self._drawn.add(place)
            return self._service.parts.get(place)
        return None

    def _ask(self, source: str, node: Node, place: str, way: Way) -> None:
        """An edge, and the box at its end."""
        more: tuple[str, ...] = ()
        inner, inner_place = node, place
        while isinstance(inner, Limited):
            more += words.limits(inner.timeout, inner.retry)
            inner, inner_place = inner.node, f"{inner_place}.node"
        if isinstance(inner, Ref) and self._inline(inner, inner_place) is None:
            # limits are those of this way to a node that others may ask without
            target, more = self._referred(inner, more)
        else:
            target, more = f"{place}#", ()
            self._any(target, node, place)
        self._edges.append(Edge(source, target, ", ".join([*filter(None, [way.label]), *more]), way.dashed))

    def _referred(self, node: Ref, more: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        if node.version and node.name in self._service.graphs:
            return self._named(node.name), (f"version {node.version}", *more)
        return self._named(node.name, node.version), more


def _is_model(route: Route) -> bool:
    """Whether it is a model as it is, which requests can name without any route."""
    return not route.handler and not route.version and route.model in (None, route.name)
