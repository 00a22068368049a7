"""listener.yaml: which handler, which model, which route. Read and checked here, with file and line for every mistake.

The keys are documented in docs/reference/listener-yaml.md; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from listener.errors import ConfigError
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
    """

    name: str
    handler: str | None = None
    model: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A folder with listener.yaml, handlers and a model repository; or a model repository alone.

    Attributes:
        folder: absolute path of the folder.
        repository: absolute path of the Triton model repository.
        default: the route, or the model, of requests that name none; '' where nothing says it.
        routes: by name; none = every model of the repository is served as it is.
    """

    folder: Path
    repository: Path
    default: str
    routes: Mapping[str, Route]

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
    routes = {name: _route(name, section) for name, section in top.sections("routes")}
    top.refuse_others()
    if top.mistakes:
        return None
    default = chosen or default
    if default is None and len(routes) > 1:
        top.complain(f"'default' is missing; it chooses one of the routes {', '.join(routes)}")
    try:
        path = (folder / str(repository)).resolve()
    except ValueError:  # NUL, or what no file system can say
        top.complain(f"'repository' is {repository!r}, which is no path", key="repository")
        return None
    default = default or next(iter(routes), "")
    if routes and default not in routes:  # a model of that name, as it is
        routes[default] = Route(default)
    return Service(folder, path, default, routes)


def _route(name: str, section: Section) -> Route:
    route = Route(name, section.text("handler", None), section.text("model", None), section.line)
    section.refuse_others()
    module, _, attribute = (route.handler or "m:C").partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        section.complain(f"{route.handler!r} is not of the form 'module.path:Class'", key="handler")
    return route
