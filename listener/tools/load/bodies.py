"""What is sent: the lines of a file, or the examples of a service's handlers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from listener import importing
from listener.artifacts import choice
from listener.errors import ConfigError
from listener.service import Service
from listener.settings import Settings
from listener.tools import handler_checks


class Bodies(NamedTuple):
    """Requests without their heads.

    Attributes:
        texts: JSON, which take turns.
        places: where each comes from, for sentences.
        words: all of them, for the report.
    """

    texts: Sequence[str]
    places: Sequence[str]
    words: str


def of_file(file: Path) -> Bodies:
    """The bodies of a JSONL file, one a line; empty lines are passed over.

    Raises:
        ConfigError: it cannot be read, a line is no JSON object, or there is none.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    found = {
        f"{file}:{number}": _object(line, f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    }
    if not found:
        raise ConfigError(f"{file}: holds no request; one JSON object a line is wanted")
    return Bodies(list(found.values()), list(found), f"{len(found)} from {file.name}")


def of_service(settings: Settings) -> Bodies:
    """The example of each handler that a request can name.

    Raises:
        ConfigError: there is no service, or no example.
    """
    service = importing.expanded(choice.local(settings))
    examples = {name: example for name in service.routes if (example := _example(service, name)) is not None}
    if not examples:
        raise ConfigError(f"{service.file}: no handler has an example; give one its `example`")
    texts = [_body(example, "" if name == service.default else name) for name, example in examples.items()]
    return Bodies(texts, [f"the example of {name}" for name in examples], f"the example of {', '.join(examples)}")


def _object(line: bytes, place: str) -> str:
    try:
        document = orjson.loads(line)
    except ValueError as error:
        raise ConfigError(f"{place}: no JSON: {error}; one JSON object a line is wanted") from None
    if not isinstance(document, dict):
        raise ConfigError(f'{place}: no request; an object such as {{"instances": [...]}} is wanted')
    return line.decode()


def _example(service: Service, name: str) -> Any:
    route = service.routes[name]
    if not route.handler:
        return None
    with handler_checks.quiet():
        return importing.handler_class(service, route).example


def _body(example: Any, route: str) -> str:
    """A request of one instance; `bytes` go as handlers get them, as `{"b64": ...}`."""
    body = {"instances": [example], **({"parameters": {"model": route}} if route else {})}
    return orjson.dumps(_plain(body), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return {"b64": base64.b64encode(value).decode()}
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value
