"""listener.yaml: which handler, which model, which route. Read and checked here, with file and line for every mistake.

The keys are documented in docs/reference/listener-yaml.md; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from listener import node_reader
from listener.errors import ConfigError
from listener.nodes import (
    PASS,
    Named,
    Node,
    Pass,
    Ref,
    Step,
    cycles,
    field_of,
    name_of,
    placed,
    rebuilt,
    single,
    sources,
    too_deep,
)
from listener.sections import Section, parsed

FILE = "listener.yaml"
#: Of listener.yaml: more would take long to read.
_MOST_BYTES = 1 << 20
#: Nodes one within the other, references followed.
_DEEPEST = 100

#: Takes the line and the sentence of a mistake.
Complain: TypeAlias = Callable[[int, str], None]


class Wrong(ConfigError):
    """listener.yaml has mistakes.

    Args:
        mistakes: a sentence for each.
        rest: the service without the nodes that have one; None where too little is left.
    """

    def __init__(self, *mistakes: str, rest: Service | None = None) -> None:
        super().__init__(*mistakes)
        self.rest = rest


@dataclass(frozen=True, slots=True)
class Route:
    """One name that requests can choose.

    Attributes:
        name: the route's name.
        handler: `module.path:Class` inside the service folder, or None for the generic handler.
        model: the model in the repository; None leaves it to the handler's `model`, or to the route's own name.
        line: where it stands in listener.yaml; 0 when it stands in no file.
        version: of the model, digits; "" = Triton chooses, or the request.
        offload: where plain hooks run: `thread`, `process` or `inline`; "" leaves it to the handler.
        at: its field of listener.yaml, such as `routes.a` or `routes.ab.split.arms.new`; "" = it has none, but
            something refers to a model of that name.
        alone: an instance that is at fault fails alone, where requests name this route.
        lines: of its keys in listener.yaml, by key.
    """

    name: str
    handler: str | None = None
    model: str | None = None
    line: int = 0
    version: str = ""
    offload: str = ""
    at: str = field(default="", compare=False)
    alone: bool = False
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def field(self) -> str:
        """`at`, for messages."""
        return self.at or f"routes.{self.name}"

    def line_of(self, key: str) -> int:
        """Where a key of it stands in listener.yaml; without it, where the whole does."""
        return self.lines.get(key, self.line)


@dataclass(frozen=True, slots=True)
class Service:
    """A folder with listener.yaml, handlers and a model repository; or a model repository alone.

    Attributes:
        folder: absolute path of the folder.
        repository: absolute path of the Triton model repository.
        default: the route, or the model, of requests that name none; '' where nothing says it.
        routes: those of one handler or model, by name; without any, and without graphs, every model of the repository
            is served as it is.
        graphs: routes and nodes of several steps, by name. Their steps are references to routes and parts. What Python
            composes is not in them before `importing.expanded`.
        parts: steps that requests cannot choose, by name.
        default_line: where listener.yaml says the default; 0 = it does not.
    """

    folder: Path
    repository: Path
    default: str
    routes: Mapping[str, Route]
    graphs: Mapping[str, Named] = field(default_factory=dict)
    parts: Mapping[str, Route] = field(default_factory=dict)
    default_line: int = field(default=0, compare=False)

    @property
    def choices(self) -> list[str]:
        """The names that requests can choose: those of single steps first."""
        return [*self.routes, *(name for name, graph in self.graphs.items() if graph.choosable)]

    @property
    def steps(self) -> dict[str, Route]:
        """Routes and parts."""
        return {**self.routes, **self.parts}

    @property
    def alone(self) -> frozenset[str]:
        """The names under which an instance that is at fault fails alone."""
        routes = [name for name, route in self.routes.items() if route.alone]
        return frozenset(routes + [name for name, graph in self.graphs.items() if graph.alone])

    @property
    def sources(self) -> list[str]:
        """Everything in Python that listener.yaml names, `module.path:name`."""
        found = [step.handler for step in self.steps.values() if step.handler]
        return found + [source for graph in self.graphs.values() for source in sources(graph.node)]

    @property
    def file(self) -> Path:
        return self.folder / FILE


def bare(repository: Path, default: str = "") -> Service:
    """A model repository without listener.yaml: every model is served by its name, without code."""
    repository = repository.resolve()
    return Service(repository, repository, default, {})


def read(folder: Path, default: str = "") -> Service:
    """Reads `folder/listener.yaml`.

    Args:
        folder: the service's.
        default: wins over the file's own; '' leaves it.

    Raises:
        ConfigError: the file is missing or wrong; one sentence per mistake, each with file and line. It is `Wrong`
            where it could be read as YAML.
    """
    folder = folder.resolve()
    file = folder / FILE
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{file}: is larger than {_MOST_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such file; a service is a folder with {FILE} (choose it with --service, or a model repository "
            "alone with --repository)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    mistakes: list[str] = []
    service = _service(Section(parsed(text, file), str(file), "the file", mistakes), folder, default)
    if mistakes or service is None:
        raise Wrong(*mistakes, rest=service)
    return service


def _service(top: Section, folder: Path, chosen: str) -> Service | None:
    """The service without the nodes that have mistakes; None where the repository cannot be told."""
    repository = top.text("repository", "triton_repo")
    is_told = not top.mistakes
    default = top.text("default", None)
    named = _named(top)
    top.refuse_others(lambda key: "does it belong below 'routes'?" if node_reader.is_like_a_node(top, key) else "")
    named = _in_order(named, top.complain_at)
    routes, parts, graphs = _apart(named, named, top.complain_at)
    choices = [name for name, each in named.items() if each.choosable]  # in the order of the file
    default = _default(chosen or default, named, choices, top, bool(chosen))
    try:
        path = (folder / str(repository)).resolve()
    except ValueError:  # NUL, or what no file system can say
        top.complain(f"'repository' is {repository!r}, which is no path", key="repository")
        return None
    if choices and default not in choices and default not in named:  # a model of that name, as it is
        routes[default] = Route(default)
    if not is_told or top.mistaken:
        return None
    line = 0 if chosen or "default" not in top.nodes else top.line_of("default")
    return Service(folder, path, default, routes, graphs, parts, line)


def _default(default: str | None, named: Mapping[str, Named], choices: list[str], top: Section, is_given: bool) -> str:
    """The name that counts where a request says none; `is_given` = the file does not say it."""
    if default is None and len(choices) > 1 and "default" not in top.nodes:
        top.complain(f"'default' is missing; it chooses one of the routes {', '.join(choices)}")
    if default in named and default not in choices:
        sentence = f"the default {default!r} is one of 'nodes', which no request can choose; it has to be in 'routes'"
        top.complain(sentence, None if is_given else "default")
    return default or next(iter(choices), "")


def _named(top: Section) -> dict[str, Named]:
    """Everything that has a name, routes first. What has a mistake is replaced by a node that does nothing."""
    found: dict[str, Named] = {}
    for key in ("routes", "nodes"):
        for name, section in top.sections(key):
            before = len(top.mistakes)
            if name in found:
                section.complain(f"{name!r} is the name of a route already; two nodes cannot have one name")
            if sentence := _no_name(name):
                section.complain(sentence)
            read = node_reader.named(name, section, choosable=key == "routes")
            is_wrong = section.mistaken or len(top.mistakes) > before
            found.setdefault(name, replace(read, node=Pass()) if is_wrong else read)
    return found


def _no_name(name: str) -> str:
    """What is wrong with the name of a node; "" = nothing."""
    if name == PASS:
        return f"{PASS!r} is a node of its own and cannot be a name"
    if "@" in name:
        return f"{name!r} cannot be a name: what follows an @ is a version"
    return "" if name else "a name is empty"


def with_graphs(service: Service, graphs: Mapping[str, Named]) -> Service:
    """The service with other nodes as its graphs.

    Raises:
        ConfigError: they refer to one another in a circle, or cannot be what they are for another reason.
    """
    mistakes: list[str] = []

    def complain(line: int, sentence: str) -> None:
        mistakes.append(f"{service.file}:{line}: {sentence}")

    routes, parts, rest = _apart(_in_order(dict(graphs), complain), {*service.steps, *graphs}, complain)
    if mistakes:
        raise ConfigError(*mistakes)
    return replace(service, routes={**service.routes, **routes}, parts={**service.parts, **parts}, graphs=rest)


def _in_order(named: dict[str, Named], complain: Complain) -> dict[str, Named]:
    """The same without what leads back to itself, leads too deep, or has a version that says nothing."""
    wrong: set[str] = set()
    for loop in cycles(named):
        wrong.update(loop)
        complain(named[loop[0]].line, f"the graph has a cycle: {' -> '.join(loop)}")
    named = {name: replace(each, node=Pass()) if name in wrong else each for name, each in named.items()}
    deep = too_deep(named, _DEEPEST)
    for name in deep:
        complain(named[name].line, f"{name!r} leads through more than {_DEEPEST} nodes one within the other")
    if deep:  # and so do all that lead to them
        return {name: replace(each, node=Pass()) for name, each in named.items()}
    for each in named.values():
        for at, node in placed(each):
            if isinstance(node, Ref) and node.version and single(node, named) is None:
                complain(node.line, f"{at}: {node.name!r} has several steps, and no versions")
    return named


def _apart(
    named: Mapping[str, Named], known: Container[str], complain: Complain
) -> tuple[dict[str, Route], dict[str, Route], dict[str, Named]]:
    """Single steps that requests can choose, those that they cannot, and what combines them.

    A step that stands within another node gets the name of its place; a reference to what is not known is one to a
    model of the repository.
    """
    routes: dict[str, Route] = {}
    parts: dict[str, Route] = {}
    graphs: dict[str, Named] = {}
    places: dict[Step, str] = {}

    def flat(node: Node, place: str, at: str) -> Node:
        if isinstance(node, Step):
            place = places.setdefault(node, place)  # in Python one step may stand in several places
            if place in known:
                complain(node.line, f"{at} is called {place!r}, as {place!r} is already; rename that")
            parts[place] = _route(place, node, at)
            return Ref(place, line=node.line)
        if isinstance(node, Ref) and node.name not in known:
            parts.setdefault(node.name, Route(node.name, None, None, node.line))
        return rebuilt(node, lambda where, child: flat(child, place + name_of(node, where), at + field_of(node, where)))

    for name, each in named.items():
        if isinstance(each.node, Step):
            route = _route(name, each.node, each.field)
            (routes if each.choosable else parts)[name] = replace(route, line=each.line, alone=each.alone)
        else:
            graphs[name] = replace(each, node=flat(each.node, name, each.field))
    return routes, parts, graphs


def _route(name: str, step: Step, at: str) -> Route:
    return Route(name, step.handler, step.model or None, step.line, step.version, step.offload, at, lines=step.lines)
