"""One token for all threads: one of them asks for it, the others wait, and share what becomes of that.

Google's credentials know no locks, so each thread that finds a token too old would ask for one of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import requests
from google.auth import compute_engine
from google.auth import exceptions as auth
from google.auth.transport.requests import Request

from listener.artifacts import obstacles
from listener.artifacts.obstacles import Hopeless
from listener.artifacts.patience import Again

#: Seconds in which an answer has to come.
_SILENCE = 20.0
#: Seconds in which a token that is not taken was got for nothing.
_NEW = 20.0


class Tokens:
    """Those of some credentials.

    Args:
        credentials: Google's.
        session: in which tokens are asked for.
    """

    def __init__(self, credentials: Any, session: requests.Session) -> None:
        self._credentials, self._request = credentials, _Request(session)
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._failures = 0
        self._renewed: tuple[str, float] | None = None

    def sign(self, url: str, headers: dict[str, str]) -> str | None:
        """Puts the token into a request's headers, a new one if need be.

        Returns:
            The token; None where there are no credentials.

        Raises:
            Again: none can be had at the moment.
            Hopeless: nor will be.
            GoogleAuthError: the credentials cannot be used.
        """
        return self._alone(lambda: self._credentials.before_request(self._request, "GET", url, headers))

    def renew(self, refused: str | None) -> bool:
        """After a 401: whether there is a new token, with which another try makes sense.

        Args:
            refused: the token that was not taken.

        Raises:
            Again, Hopeless, GoogleAuthError: as of `sign`.
        """
        if refused is None:
            return False
        self._alone(lambda: self._renew(refused))
        return bool(self._credentials.token != refused)

    def _renew(self, refused: str) -> None:
        if self._credentials.token != refused or self._is_new(refused):
            return  # another thread was first; or it is the new one that is not taken
        self._credentials.refresh(self._request)
        self._renewed = self._credentials.token, time.monotonic()

    def _is_new(self, token: str) -> bool:
        return self._renewed is not None and self._renewed[0] == token and time.monotonic() - self._renewed[1] < _NEW

    def _alone(self, work: Callable[[], None]) -> str | None:
        """The token after some work with the credentials, which one thread does at a time."""
        failures = self._failures
        with self._lock:
            if self._failure and failures != self._failures:
                raise self._failure  # of another thread, while this one waited for the same
            try:
                work()
            except auth.GoogleAuthError as error:
                self._failure, self._failures = self._told(error), self._failures + 1
                raise self._failure from None
            self._failure = None
            return getattr(self._credentials, "token", None)

    def _told(self, error: auth.GoogleAuthError) -> Exception:
        if why := obstacles.lasting(error):
            return Hopeless(why)
        return Again(missing(self._credentials, error)) if obstacles.passes(error) else error


class _Request(Request):
    """With a time-out that suits those who wait for it; google-auth names each argument."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        return super().__call__(*args, **{"timeout": _SILENCE, **named})  # type: ignore[no-untyped-call]


def missing(credentials: Any, error: auth.GoogleAuthError) -> str:
    """That there is no token, from whom, and why."""
    giver = getattr(credentials, "token_uri", None) or getattr(credentials, "_token_uri", None)
    if isinstance(credentials, compute_engine.Credentials):
        giver = "the metadata server"
    return f"no token can be had{f' from {giver}' if giver else ''}: {obstacles.reason(error)}"
