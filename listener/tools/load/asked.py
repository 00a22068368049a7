"""The first requests: whether the URL is one, who asks, what the server says, and how long that takes."""

from __future__ import annotations

import http.client
import json
import ssl
import statistics
import textwrap
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from listener.errors import ConfigError
from listener.tools.load.bodies import Bodies

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: Shared endpoints on Vertex AI, and the DNS names of dedicated ones: nobody else is sent a token of Google's.
_GOOGLE = (".googleapis.com", ".vertexai.goog")
#: Bodies that are tried before the run, and how often the first one is asked to see how long it takes.
_BODIES, _TIMES = 8, 5
_WORDS = 200


def checked(url: str) -> str:
    """The URL.

    Raises:
        ConfigError: it is none to which requests can go.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"{url}: no URL; http://127.0.0.1:8080/predict, for instance")
    if parts.path in ("", "/"):
        raise ConfigError(f"{url}: has no path; {url.rstrip('/')}/predict, for instance")
    if not url.isascii() or any(character <= " " for character in url):
        raise ConfigError(f"{url!r}: has characters that have to be escaped in a URL (%20)")
    return url


def headers(given: Sequence[str]) -> dict[str, str]:
    """Those of `--header NAME:VALUE`.

    Raises:
        ConfigError: one of them is none.
    """
    found = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not name.strip().replace("-", "").isalnum() or not one.isprintable() or not one.isascii():
            raise ConfigError(f"--header {name!r}: NAME:VALUE is wanted, in ASCII")
        if name.strip().lower() in ("host", "content-length", "transfer-encoding", "connection"):
            raise ConfigError(f"--header {name.strip()}: is the generator's own business")
        found[name.strip()] = value.strip()
    return found


class Token:
    """Who asks: Application Default Credentials at Google's addresses, over TLS; nobody elsewhere.

    Args:
        url: that is asked.
        wanted: unless it is False.

    Raises:
        ConfigError: there are none, or google-auth is not installed.
    """

    def __init__(self, url: str, wanted: bool) -> None:
        parts = urllib.parse.urlsplit(url)
        is_google = parts.scheme == "https" and (parts.hostname or "").endswith(_GOOGLE)
        self._credentials = _default() if wanted and is_google else None

    def headers(self) -> dict[str, str]:
        """What is to be sent with the next requests.

        Raises:
            ConfigError: no new token can be had.
        """
        if self._credentials is None:
            return {}
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except GoogleAuthError as error:
            raise ConfigError(f"no token: {_first_line(error)}") from None
        return {"Authorization": f"Bearer {self._credentials.token}"}


def first(url: str, bodies: Bodies, sent: Mapping[str, str], timeout: float) -> float:
    """Sends the first bodies one after the other, and one of them again and again; the median of its seconds.

    Args:
        url: of predictions.
        bodies: of which the first eight are tried.
        sent: headers.
        timeout: seconds for each.

    Raises:
        ConfigError: no answer, or another one than 200.
    """
    for body, place in list(zip(bodies.texts, bodies.places, strict=True))[:_BODIES]:
        status, answer = _post(url, body, sent, timeout)
        if status != 200:
            raise ConfigError(f"{url}: {status}: {_said(answer)} ({place})")
    times = []
    for _ in range(_TIMES):
        begin = time.monotonic()
        _post(url, bodies.texts[0], sent, timeout)
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def _post(url: str, body: str, sent: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """On a connection of its own, without a proxy and without following redirects, as the generator does it."""
    parts = urllib.parse.urlsplit(url)
    of_kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = of_kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
        connection.request("POST", path, body.encode(), {"Content-Type": "application/json", **sent})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except ssl.SSLError as error:
        raise ConfigError(f"{url}: no answer: {error.reason or error}") from None
    except (OSError, http.client.HTTPException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise ConfigError(f"{url}: no answer: {why}; is the listener running?") from None
    finally:
        connection.close()


def _said(answer: str) -> str:
    """The listener's `{"error": "..."}`, Google's `{"error": {"message": "..."}}`, or whatever came."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return textwrap.shorten(error if isinstance(error, str) else answer, _WORDS, placeholder=" ...") or "no body"


def _default() -> Any:
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        raise ConfigError(
            "no token: pip install google-auth, or --token none --header 'Authorization: Bearer ...'"
        ) from None
    try:
        return google.auth.default(scopes=[_SCOPE])[0]
    except GoogleAuthError as error:
        raise ConfigError(
            f"no token: {_first_line(error)}; gcloud auth application-default login, or --token none"
        ) from None


def _first_line(error: Exception) -> str:
    """The sentence, without the server's whole answer, which google-auth puts behind it."""
    return str(error.args[0]).partition("\n")[0] if error.args else type(error).__name__
