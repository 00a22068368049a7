"""Who asks: the token of `TOKEN`, or at Google's Application Default Credentials."""

from __future__ import annotations

import logging
import threading
import urllib.parse
from typing import Any

from loadtest.asking import Mistake

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: Shared endpoints on Vertex AI, and the DNS names of dedicated ones.
_GOOGLE = (".googleapis.com", ".vertexai.goog")


def is_google(url: str) -> bool:
    """Whether Google answers there, over TLS: nobody else is sent a token that was not given for them."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" and (parts.hostname or "").endswith(_GOOGLE)


class Tokens:
    """The headers that say who asks; shared by all users.

    Args:
        token: goes with each request; "" = none.
        default: take Application Default Credentials, and a new token from them when the last one ends.

    Raises:
        Mistake: there are none, or google-auth is not installed.
    """

    def __init__(self, token: str, default: bool) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._credentials = _default() if default and not token else None

    def headers(self) -> dict[str, str]:
        """What is to be sent. Where no new token can be had: nothing, and the server's 401 is the failure."""
        token = self._token if self._credentials is None else self._fresh(self._credentials)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _fresh(self, credentials: Any) -> str:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        with self._lock:  # one user asks for it, the others wait
            try:
                if not credentials.valid:
                    credentials.refresh(Request())
            except GoogleAuthError as error:
                logging.error("no token: %s", _reason(error))
                return ""
            return str(credentials.token)


def _default() -> Any:
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        raise Mistake("no token: set TOKEN=$(gcloud auth print-access-token), or pip install google-auth") from None
    try:
        return google.auth.default(scopes=[_SCOPE])[0]
    except GoogleAuthError as error:
        raise Mistake(f"no token: {_reason(error)}; set TOKEN, or gcloud auth application-default login") from None


def _reason(error: Exception) -> str:
    """The sentence, without the server's whole answer, which google-auth puts behind it."""
    return str(error.args[0]).partition("\n")[0] if error.args else type(error).__name__
