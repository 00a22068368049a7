"""What is sent, where to, and what is wrong with an answer."""

from __future__ import annotations

import json
import textwrap
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

#: Characters of an error that a failure is named by. Locust makes a row of each name, so it must not get long.
_WORDS = 80


class Mistake(Exception):
    """A setting is wrong; the text is one line that says which, where and why."""


class Body(NamedTuple):
    """One request.

    Attributes:
        content: JSON in UTF-8, as it is sent.
        instances: how many predictions have to come back.
    """

    content: bytes
    instances: int


def read(file: Path) -> list[Body]:
    """The bodies in a JSONL file, one a line; empty lines are passed over.

    Raises:
        Mistake: it cannot be read, a line (named by its number) is no request, or there is none.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise Mistake(f"BODIES={file}: cannot be read: {error.strerror}") from None
    bodies = [_body(line, f"BODIES={file}: line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not bodies:
        raise Mistake(f"BODIES={file}: holds no request; one body a line is wanted")
    return bodies


def _body(line: bytes, place: str) -> Body:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{place}: no JSON: {error}; one whole body a line is wanted") from None
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        raise Mistake(f'{place}: no request: {{"instances": [...]}} with at least one instance is wanted')
    return Body(line, len(instances))


def predict_url(host: str, route: str) -> str:
    """Where requests go.

    Args:
        host: a server's URL; one with a path is the whole URL.
        route: the path of predictions on that server, or a whole URL, which needs no host.
    """
    if route.startswith(("http://", "https://")):
        return route
    whole = urllib.parse.urlsplit(host).path not in ("", "/")
    return host if whole else f"{host.rstrip('/')}/{route.lstrip('/')}"


def mistake(status: int, content: bytes, instances: int) -> str:
    """What is wrong with an answer, by its status and the first words of its error; "" = nothing.

    Args:
        status: of HTTP.
        content: the answer's body.
        instances: how many there were in the request.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if status != 200:
        return f"{status}: {_said(document, content)}"
    predictions = document.get("predictions") if isinstance(document, dict) else None
    if not isinstance(predictions, list):
        return f"200: no list of predictions: {_short(content.decode(errors='replace'))}"
    return "" if len(predictions) == instances else f"200: {len(predictions)} predictions for {instances} instances"


def no_answer(error: BaseException) -> str:
    """What names a request to which none came, or half of one."""
    return f"no answer: {_short(f'{type(error).__name__}: {error}')}"


def _said(document: Any, content: bytes) -> str:
    """The listener's `{"error": "..."}`, Google's `{"error": {"message": "..."}}`, or whatever came."""
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return _short(error if isinstance(error, str) else content.decode(errors="replace")) or "no body"


def _short(text: str) -> str:
    shortened = textwrap.shorten(text, _WORDS, placeholder=" ...")
    return text.strip()[:_WORDS] if shortened == "..." else shortened  # one word that is longer than all of it
