"""One request from the command line: what to send, and how to show what came back."""

from __future__ import annotations

import base64
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import orjson

from listener import forms
from listener.errors import ConfigError

#: How pictures begin: PNG, JPEG, GIF, BMP, TIFF, WebP.
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")


def read_source(source: str) -> bytes:
    """The contents of a file, or of standard input for '-'.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None


def request_body(content: bytes) -> bytes:
    """A request: a picture as one `{"b64": ...}` instance, a whole request as it is, other JSON as the one instance.

    Raises:
        ConfigError: neither a picture nor JSON.
    """
    if content.startswith(_PICTURES):
        return orjson.dumps({"instances": [{"b64": base64.b64encode(content).decode()}]})
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"the input is neither a picture nor JSON: {error}") from None
    if isinstance(document, dict) and "instances" in document:
        return content
    return orjson.dumps({"instances": [document]})


def predict_url(url: str, route: str) -> str:
    """Where requests go: a URL with a path as it is, one of a listener with the predict route."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # which asking tells
        return url
    return url if parts.path not in ("", "/") or parts.query else f"{url.rstrip('/')}{route}"


def base_url(url: str, route: str) -> str:
    """A listener's URL, of which its predict URL may be given."""
    return url.removesuffix("/").removesuffix(route)


def post(url: str, body: bytes, timeout: float) -> tuple[int, str]:
    """Sends a request; returns status and body.

    Args:
        url: http or https.
        body: JSON.
        timeout: seconds.

    Raises:
        ConfigError: no answer.
    """
    return _answer(url, body, timeout)


def get(url: str, timeout: float) -> tuple[int, str]:
    """Asks for a document; returns status and body.

    Raises:
        ConfigError: no answer.
    """
    return _answer(url, None, timeout)


def _answer(url: str, body: bytes | None, timeout: float) -> tuple[int, str]:
    try:
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"} if body else {})
        with _opener(url).open(request, timeout=timeout) as response:
            return response.status, response.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"{url}: no answer: {reason}; is the listener running?") from None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Through the proxy that the environment names, unless the listener is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({} if forms.is_here(url) else None))


def for_people(answer: str) -> str:
    """One line per prediction; an object's fields side by side, numbers short. Anything else as it is."""
    try:
        predictions = list(orjson.loads(answer)["predictions"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer
    width = len(str(len(predictions) - 1))
    return "\n".join(f"[{index:{width}}] {_shown(prediction)}" for index, prediction in enumerate(predictions))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "   ".join(f"{key}: {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        inner = ", ".join(_shown(item) for item in value[:12])
        return f"[{inner}{', ...' if len(value) > 12 else ''}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
