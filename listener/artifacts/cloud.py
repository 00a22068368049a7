"""Google's client for Cloud Storage, as far as we need it: what lies there, and one object's bytes.

Its errors become sentences. Each request is repeated until nothing has come for a minute, where that can help
(connection lost, 408, 429, 5xx). Listing, credentials and the emulator's address are Google's client; the bytes come
through `reading`, for less CPU, and `transfers` holds them against the checksum of the listing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import google.auth
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import DEFAULT_UNIVERSE_DOMAIN, AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import ConnectionError as RequestsConnectionError
from requests import RequestException

from listener import settings
from listener.artifacts import checksum, obstacles, tokens
from listener.artifacts.bucket import Bucket, Item
from listener.artifacts.obstacles import Hopeless
from listener.artifacts.parts import Span
from listener.artifacts.patience import Again, Patience
from listener.artifacts.reading import Block, Media, Refused
from listener.errors import ConfigError, one_line

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS = "items(name,size,generation,contentEncoding,crc32c),nextPageToken"
#: Seconds without any progress after which a request is not repeated any more.
_PATIENCE = 60.0
#: They warn of each repetition and of projects, which we do without.
_TALKATIVE = ("google.auth", "urllib3.connectionpool")


class Cloud:
    """Reads with Application Default Credentials; without any where there are none, or an emulator is named.

    Raises:
        ConfigError: there are some that cannot be used, certificates cannot be read, or the emulator's name is no URL.
    """

    def __init__(self) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._credentials = _credentials()
        self._client = _client(self._credentials)
        self._retry = DEFAULT_RETRY.with_timeout(_PATIENCE).with_predicate(obstacles.passes)
        try:
            self._media = Media(self._client.api_endpoint, self._credentials)
        except Hopeless as error:
            raise ConfigError(str(error)) from None

    def items(self, bucket: Bucket) -> list[Item]:
        """Every object of a folder.

        Raises:
            ConfigError: they cannot be listed, or it is an object; the sentence says why, and what to do.
        """
        with self._told(bucket, f"there is no bucket {bucket.name!r}; check the name"):
            found = [_item(blob) for blob in self._listed(bucket.name, bucket.prefix)]
            alone = bucket.prefix.rstrip("/")
            if not found and alone and [blob.name for blob in self._listed(bucket.name, alone, 1)] == [alone]:
                raise ConfigError(f"gs://{bucket.name}/{alone}: is an object; name the folder that it lies in")
            return found

    def _listed(self, bucket: str, prefix: str, most: int | None = None) -> Any:
        """Objects in the order of their names, page after page."""
        return self._client.list_blobs(
            bucket, max_results=most, prefix=prefix or None, fields=_FIELDS, retry=self._retry
        )

    def read(self, bucket: Bucket, item: Item, span: Span, stopped: threading.Event) -> Iterator[Block]:
        """A span of one object as it is stored, of the generation that was listed, in blocks.

        A block is valid until the next one is asked for. A transfer that breaks off goes on where it broke off.

        Args:
            bucket: where the object lies.
            item: the object.
            span: which bytes.
            stopped: set: do not wait for another try.

        Raises:
            ConfigError: it cannot be read, for as long as our patience lasts.
            Replaced: there is no such generation any more.
        """
        patience, position = Patience(_PATIENCE), span.start
        with self._told(bucket, f"there is no {item.name!r}", repr(item.name)):
            while position < span.stop and not stopped.is_set():
                try:
                    for block in self._media.blocks(bucket.name, item, Span(position, span.stop)):
                        patience.progressed()
                        position += len(block)
                        yield block
                    if position < span.stop:
                        raise Again("the connection was lost")
                except Again as again:
                    stopped.wait(patience.wait(again))

    def hang_up(self) -> None:
        """Ends what `read` does in other threads, whose `stopped` is set."""
        self._media.hang_up()

    def close(self) -> None:
        """Closes connections of `read`, when nobody reads any more."""
        self._media.close()

    @contextlib.contextmanager
    def _told(self, bucket: Bucket, not_found: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except (api.GoogleAPIError, auth.GoogleAuthError, RequestException, Refused, Hopeless, Again) as error:
            cause = error.__cause__ if isinstance(error, api.RetryError) and error.__cause__ else error
            raise ConfigError(f"{bucket}: {one_line(self._sentence(cause, not_found, name))}") from None

    def _sentence(self, error: BaseException, not_found: str, name: str) -> str:
        if why := obstacles.lasting(error):
            return f"cannot be fetched: {why}"
        match error:
            case api.NotFound():
                return not_found
            case api.Unauthorized() | api.Forbidden() | Refused(status=401 | 403):
                return self._refused()
            case auth.GoogleAuthError() if self._anonymous:  # the client answers a 401 by renewing credentials
                return self._refused()
            case auth.GoogleAuthError() if not obstacles.passes(error):
                return f"the credentials cannot be used: {obstacles.reason(error)}"
            case auth.GoogleAuthError():
                error = Again(tokens.missing(self._credentials, error))
            case Refused():
                return f"{name} cannot be fetched: {error}"
        waited = f", and nothing came for {_PATIENCE:g} s" if isinstance(error, Again) else ""
        return f"cannot be fetched: {_reason(error)}{waited}"

    @property
    def _anonymous(self) -> bool:
        return isinstance(self._credentials, AnonymousCredentials)

    def _refused(self) -> str:
        if self._anonymous:
            return (
                "may not be read without credentials, and there are none; run with a service account, or "
                "`gcloud auth application-default login`"
            )
        account = getattr(self._credentials, "service_account_email", None)
        who = f"the account {account}" if account else "the account in use"
        return f"{who} may not read it; grant it roles/storage.objectViewer on the bucket"


def _credentials() -> Any:
    """Raises ConfigError where a file is named, or lies where one is looked for, that holds none."""
    if settings.storage_emulator():
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(action="ignore"):  # of a user's, that no project is billed for them
            credentials, _ = google.auth.default(scopes=[_SCOPE])
    except Exception as error:  # a file that holds something else ends in any of them
        if file := settings.credentials_file():
            why = one_line(obstacles.reason(error))
            raise ConfigError(f"{file}: the credentials cannot be used: {why}") from None
        if not isinstance(error, auth.GoogleAuthError):
            raise
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    return credentials


def _client(credentials: Any) -> storage.Client:
    """Google's client, in the universe (one cloud of several) that the credentials are of."""
    try:
        universe = credentials.universe_domain
    except auth.GoogleAuthError as error:
        raise ConfigError(one_line(tokens.missing(credentials, error))) from None
    elsewhere = {} if universe == DEFAULT_UNIVERSE_DOMAIN else {"universe_domain": universe}
    # none of the requests is billed to a project of the caller's, but the client wants one
    return storage.Client(project="none", credentials=credentials, client_options=elsewhere)


def _reason(error: BaseException) -> str:
    emulator = settings.storage_emulator()
    if emulator and isinstance(error, RequestsConnectionError):
        return f"nobody answers at {emulator}, which STORAGE_EMULATOR_HOST names"
    return one_line(str(error))


def _item(blob: Any) -> Item:
    return Item(
        blob.name,
        int(blob.size),
        int(blob.generation),
        packed=blob.content_encoding == "gzip",
        crc32c=None if blob.crc32c is None else checksum.from_listing(blob.crc32c),
    )
