"""listener.yaml: which handler, which model, which route. Read and checked here, with file and line for every mistake.

The keys are documented in docs/reference/listener-yaml.md; a test holds the two together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from listener.errors import ConfigError, one_line

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
    service = _service(_Section(_compose(text, file), str(file), "the file", mistakes), folder, default)
    if mistakes or service is None:
        raise ConfigError(*mistakes)
    return service


def _compose(text: str, file: Path) -> yaml.Node | None:
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.reason}") from None
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{file}:{loader.line + 1}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML's own chr() and int() among them
        raise ConfigError(f"{file}:{loader.line + 1}: not YAML: {one_line(str(error))}") from None
    finally:
        loader.dispose()
    return node


def _service(top: _Section, folder: Path, chosen: str) -> Service | None:
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


def _route(name: str, section: _Section) -> Route:
    route = Route(name, section.text("handler", None), section.text("model", None), section.line)
    section.refuse_others()
    module, _, attribute = (route.handler or "m:C").partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        section.complain(f"{route.handler!r} is not of the form 'module.path:Class'", key="handler")
    return route


class _Section:
    """A YAML mapping that knows its lines and which of its keys were asked for."""

    def __init__(self, node: yaml.Node | None, file: str, what: str, mistakes: list[str]) -> None:
        self.file, self.what, self.mistakes = file, what, mistakes
        self.line = node.start_mark.line + 1 if node else 1
        self._nodes: dict[str, tuple[int, yaml.Node]] = {}
        self._asked: set[str] = set()
        if isinstance(node, yaml.MappingNode):
            self._read(node)
        elif node is not None and not _is_null(node):
            self.complain(f"{what} is not a mapping of keys to values")

    def _read(self, node: yaml.MappingNode) -> None:
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistakes.append(f"{self.file}:{line}: {one_line(f'a key of {self.what} is not a piece of text')}")
                continue
            key = str(key_node.value)
            if key in self._nodes:
                self.mistakes.append(f"{self.file}:{line}: {one_line(f'{key!r} stands twice in {self.what}')}")
            self._nodes[key] = (line, value)

    def complain(self, sentence: str, key: str | None = None) -> None:
        line = self._nodes[key][0] if key in self._nodes else self.line
        self.mistakes.append(f"{self.file}:{line}: {one_line(sentence)}")

    def text(self, key: str, default: str | None) -> str | None:
        node = self._take(key)
        if node is None or _is_null(node):
            return default
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.complain(f"{key!r} is not a piece of text", key)
            return default
        return str(node.value)

    def sections(self, key: str) -> Iterator[tuple[str, _Section]]:
        node = self._take(key)
        if node is None:
            return
        inner = _Section(node, self.file, repr(key), self.mistakes)
        for name, (line, value) in inner._nodes.items():
            section = _Section(value, self.file, f"{key}.{name}", self.mistakes)
            section.line = line
            yield name, section

    def refuse_others(self) -> None:
        """Complains of every key that nobody asked for, with a guess at what was meant."""
        for key in [key for key in self._nodes if key not in self._asked]:
            near = difflib.get_close_matches(key, self._asked, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self._asked))}"
            self.complain(f"unknown key {key!r} in {self.what}; {hint}", key)

    def _take(self, key: str) -> yaml.Node | None:
        self._asked.add(key)
        return self._nodes[key][1] if key in self._nodes else None


def _is_null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
