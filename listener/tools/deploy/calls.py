"""Calls of Vertex AI by Google's own client: repeated where that can help, and answered with sentences where it cannot.

Bytes go through requests, as those of Cloud Storage do, so that proxies and certificates are configured once.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import google.auth
import httplib2
import requests
from google.auth import exceptions as auth
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials as PersonsCredentials
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from listener import forms
from listener.artifacts import obstacles, tokens
from listener.artifacts.patience import Again, Patience, asked_for
from listener.errors import ConfigError, one_line

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: Seconds for one answer; and without any success, after which a call is not repeated any more.
_SILENCE, _LIMIT = 60.0, 60.0
#: Whoever follows an operation of half an hour does not end with a router that starts anew.
FOLLOWING = 300.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
#: Of a call that must not happen twice: what says that it has not happened at all.
_NOT_BEGUN = frozenset({429, 503})
_COLLECTION = re.compile(r"projects/[^/]+/locations/[^/]+/(?:(models|endpoints)/[^/]+/)?operations/[^/]+")


class Refused(ConfigError):
    """A call was answered with an error.

    Args:
        sentence: what it said, and what to do.
        status: HTTP's.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Uncertain(ConfigError):
    """The connection broke while something was to begin; whether it has is not known."""


class Api:
    """That of one region.

    Args:
        project: the project, for sentences.
        region: where.
        address: of the API, in the stead of the region's own; one on this machine stands for all of Google, and knows
            no credentials.
        tell: takes a sentence when something has to be tried again.

    Raises:
        ConfigError: there are no credentials.
    """

    def __init__(self, project: str, region: str, address: str = "", tell: Callable[[str], None] = lambda text: None):
        self.project, self._tell = project, tell
        self.is_emulated = forms.is_here(address)
        self.address = address.rstrip("/") or f"https://{region}-aiplatform.googleapis.com"
        self._credentials = None if self.is_emulated else _credentials(project)
        self.session = _session(self._credentials)
        service = discovery.build(
            "aiplatform",
            "v1",
            http=_Transport(self.session),
            static_discovery=True,
            client_options={"api_endpoint": self.address},
        )
        locations = service.projects().locations()
        self.models, self.endpoints = locations.models(), locations.endpoints()
        self._operations = {
            "models": self.models.operations(),
            "endpoints": self.endpoints.operations(),
            None: locations.operations(),
        }

    def look(self, call: Any, limit: float | None = None) -> dict[str, Any] | None:
        """The answer to something that only reads; None where there is no such thing.

        Raises:
            ConfigError: as of `begin`.
        """
        try:
            return self._repeated(call, lambda status: status in _PASSING, limit or _LIMIT)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def begin(self, call: Any) -> dict[str, Any]:
        """The answer to something that changes, and is not sent a second time unless the first was not heard.

        Raises:
            Refused: it was answered with an error.
            Uncertain: nobody knows.
            ConfigError: nobody answers, or the credentials cannot be used.
        """
        return self._repeated(call, lambda status: status in _NOT_BEGUN, _LIMIT)

    def operation(self, name: str) -> dict[str, Any]:
        """The state of a long-running operation."""
        found = _COLLECTION.fullmatch(name)
        collection = self._operations[found[1] if found else None]
        state = self.look(collection.get(name=name), FOLLOWING)
        if state is None:
            raise ConfigError(f"the platform does not know its operation {name} any more")
        return state

    def running(self, collection: str, name: str) -> list[dict[str, Any]]:
        """Operations on a model or an endpoint that have not ended."""
        found = self.pages(self._operations[collection], "list", "operations", name=name)
        try:
            return [each for each in found if not each.get("done")]
        except Refused as error:
            if error.status in (401, 403):
                raise
            return []  # of what is not there the platform may say so in any way

    def pages(self, collection: Any, method: str, key: str, **named: Any) -> Iterator[dict[str, Any]]:
        """What a list has, page after page; nothing where there is no such thing."""
        call = getattr(collection, method)(**named)
        while call is not None:
            answer = self.look(call) or {}
            yield from answer.get(key, [])
            call = getattr(collection, f"{method}_next")(call, answer)

    def _repeated(self, call: Any, passes: Callable[[int], bool], limit: float) -> dict[str, Any]:
        patience, reads = Patience(limit), call.method == "GET"
        while True:
            try:
                try:
                    answer: dict[str, Any] = call.execute(num_retries=0)
                    return answer
                except HttpError as error:
                    if not passes(error.status_code) or _is_quota(error):
                        raise Refused(self._sentence(error), error.status_code) from None
                    raise Again(_reason(error), asked_for(error.resp.get("retry-after", ""))) from None
                except (requests.RequestException, http.client.HTTPException, ConnectionError) as error:
                    raise self._broken(error, reads) from None
                except auth.GoogleAuthError as error:
                    raise self._without_token(error) from None
            except Again as again:
                self._wait(patience, again)

    def _wait(self, patience: Patience, again: Again) -> None:
        try:
            seconds = patience.wait(again)
        except Again:
            raise ConfigError(f"{self._host}: {one_line(str(again))}; tried again until nothing helped") from None
        self._tell(f"{one_line(str(again))}; trying again")
        time.sleep(seconds)

    def _broken(self, error: Exception, reads: bool) -> Exception:
        if why := obstacles.lasting(error):
            return ConfigError(why)
        said = f"the connection to {self._host} was lost ({one_line(obstacles.reason(error))})"
        is_unheard = isinstance(error, requests.exceptions.ConnectTimeout) or "refused" in str(error).lower()
        return (
            Again(said)
            if reads or is_unheard
            else Uncertain(f"{said} before it said whether that has begun; the same command again finds out")
        )

    def _without_token(self, error: auth.GoogleAuthError) -> Exception:
        if why := obstacles.lasting(error):
            return ConfigError(why)
        said = one_line(tokens.missing(self._credentials, error))
        if obstacles.passes(error):
            return Again(said)
        return ConfigError(f"{said}; sign in anew with `gcloud auth application-default login`")

    @property
    def _host(self) -> str:
        return urllib.parse.urlsplit(self.address).netloc

    def _sentence(self, error: HttpError) -> str:
        reason, status = _reason(error), error.status_code
        if status == 401:
            return f"the credentials are not taken: {reason}; sign in with `gcloud auth application-default login`"
        if status == 403 and (
            "has not been used" in reason or "disabled" in reason or "SERVICE_DISABLED" in str(error)
        ):
            return (
                f"the project {self.project} does not use Vertex AI yet; turn it on with "
                f"`gcloud services enable aiplatform.googleapis.com --project={self.project}`"
            )
        if status == 403:
            return (
                f"not permitted: {reason}; what is needed is roles/aiplatform.user on the project, and "
                "roles/iam.serviceAccountUser on the account of --service-account"
            )
        if _is_quota(error):
            return quota(reason, self.project)
        return f"refused with status {status}: {reason}"


def quota(reason: str, project: str) -> str:
    """That there are not enough machines, and where to get more."""
    return (
        f"the quota does not suffice: {one_line(reason)} - ask for more at "
        f"https://console.cloud.google.com/iam-admin/quotas?project={project}, or take another region or accelerator"
    )


def _is_quota(error: HttpError) -> bool:
    """No other try helps against a quota of machines; that of calls in a minute is over in a minute."""
    text = f"{_reason(error)} {error.error_details}".lower()
    return error.status_code == 429 and "quota" in text and "per minute" not in text and "rate_limit" not in text


def _reason(error: HttpError) -> str:
    return one_line(str(error.reason or error)).rstrip(".")


def _credentials(project: str) -> Any:
    """Application Default Credentials; those of a person are counted against the project, as the platform wants it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # that no project is named, which the next lines mend
            credentials, _ = google.auth.default(scopes=[_SCOPE])
    except auth.GoogleAuthError as error:
        said = one_line(obstacles.reason(error))
        raise ConfigError(f"no credentials: {said}; sign in with `gcloud auth application-default login`") from None
    if isinstance(credentials, PersonsCredentials) and not credentials.quota_project_id:
        return credentials.with_quota_project(project)
    return credentials


def _session(credentials: Any) -> requests.Session:
    return requests.Session() if credentials is None else AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


class _Transport:
    """What Google's client asks of httplib2, which it was written for."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> tuple[httplib2.Response, bytes]:
        answer = self._session.request(method, uri, data=body, headers=headers, timeout=_SILENCE)
        found = httplib2.Response({**answer.headers, "status": str(answer.status_code)})
        found.reason = answer.reason
        return found, answer.content

    def close(self) -> None:
        self._session.close()
