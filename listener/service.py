"""listener.yaml: which handler, which model, which route. Read and checked here, with file and line for every mistake.

The keys are documented in docs/reference/listener-yaml.md; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from listener import node_reader
from listener.errors import ConfigError
from listener.nodes import PASS, Named, Node, Ref, Step, cycle, rebuilt, sources
from listener.sections import Section, compose

FILE = "listener.yaml"


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
        alone: an instance that is at fault fails alone, where requests name this route.
    """

    name: str
    handler: str | None = None
    model: str | None = None
    line: int = 0
    version: str = ""
    offload: str = ""
    alone: bool = False


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
            composes is not in them before `loader.expanded`.
        parts: steps that requests cannot choose, by name.
    """

    folder: Path
    repository: Path
    default: str
    routes: Mapping[str, Route]
    graphs: Mapping[str, Named] = field(default_factory=dict)
    parts: Mapping[str, Route] = field(default_factory=dict)

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
        ConfigError: the file is missing or wrong; one sentence per mistake, each with file and line.
    """
    folder = folder.resolve()
    file = folder / FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such file; a service is a folder with {FILE} (choose it with --service, or a model repository "
            "alone with --repository)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    mistakes: list[str] = []
    service = _service(Section(compose(text, file), str(file), "the file", mistakes), folder, default)
    if mistakes or service is None:
        raise ConfigError(*mistakes)
    return service


def _service(top: Section, folder: Path, chosen: str) -> Service | None:
    repository = top.text("repository", "triton_repo")
    default = top.text("default", None)
    named = _named(top)
    top.refuse_others()
    if not top.mistakes and (found := cycle(named)):
        place = named[found[0]].line
        top.mistakes.append(f"{top.file}:{place}: {_in_circle(found)}")
    if top.mistakes:
        return None
    routes, parts, graphs = _apart(named, named)
    choices = [name for name, each in named.items() if each.choosable]  # in the order of the file
    default = chosen or default
    if default is None and len(choices) > 1:
        top.complain(f"'default' is missing; it chooses one of the routes {', '.join(choices)}")
    try:
        path = (folder / str(repository)).resolve()
    except ValueError:  # NUL, or what no file system can say
        top.complain(f"'repository' is {repository!r}, which is no path", key="repository")
        return None
    default = default or next(iter(choices), "")
    if choices and default not in choices and default not in named:  # a model of that name, as it is
        routes[default] = Route(default)
    return Service(folder, path, default, routes, graphs, parts)


def _named(top: Section) -> dict[str, Named]:
    """Everything that has a name, routes first."""
    found: dict[str, Named] = {}
    for key in ("routes", "nodes"):
        for name, section in top.sections(key):
            if name in found:
                section.complain(f"{name!r} is the name of a route already; two nodes cannot have one name")
            if name == PASS:
                section.complain(f"{PASS!r} is a node of its own and cannot be a name")
            found[name] = node_reader.named(name, section, choosable=key == "routes")
    return found


def with_graphs(service: Service, graphs: Mapping[str, Named]) -> Service:
    """The service with other nodes as its graphs.

    Raises:
        ConfigError: they refer to one another in a circle.
    """
    if found := cycle(graphs):
        raise ConfigError(f"{service.file}:{graphs[found[0]].line}: {_in_circle(found)}")
    routes, parts, rest = _apart(graphs, {*service.steps, *graphs})
    return replace(service, routes={**service.routes, **routes}, parts={**service.parts, **parts}, graphs=rest)


def _in_circle(names: list[str]) -> str:
    return f"the graph has a cycle: {' -> '.join(names)}"


def _apart(
    named: Mapping[str, Named], known: Container[str]
) -> tuple[dict[str, Route], dict[str, Route], dict[str, Named]]:
    """Single steps that requests can choose, those that they cannot, and what combines them.

    A step that stands within another node gets the name of its place; a reference to what is not known is one to a
    model of the repository.
    """
    routes: dict[str, Route] = {}
    parts: dict[str, Route] = {}
    graphs: dict[str, Named] = {}
    places: dict[Step, str] = {}

    def flat(node: Node, place: str) -> Node:
        if isinstance(node, Step):
            place = places.setdefault(node, place)  # in Python one step may stand in several places
            parts[place] = _route(place, node)
            return Ref(place, line=node.line)
        if isinstance(node, Ref) and node.name not in known:
            parts.setdefault(node.name, Route(node.name, None, None, node.line))
        return rebuilt(node, lambda where, child: flat(child, f"{place}.{where}"))

    for name, each in named.items():
        if isinstance(each.node, Step):
            (routes if each.choosable else parts)[name] = replace(
                _route(name, each.node), line=each.line, alone=each.alone
            )
        else:
            graphs[name] = replace(each, node=flat(each.node, name))
    return routes, parts, graphs


def _route(name: str, step: Step) -> Route:
    return Route(name, step.handler, step.model or None, step.line, step.version, step.offload)
