"""Google's client for Cloud Storage, as far as we need it: what lies there, and one object's bytes.

Its errors become sentences. Each request is repeated until nothing has come for a minute, where that can help
(connection lost, 408, 429, 5xx). Listing, credentials and the emulator's address are Google's client; the bytes come
through `reading`, for less CPU, and `transfers` holds them against the checksum of the listing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import google.auth
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException

from listener import settings
from listener.artifacts import checksum
from listener.artifacts.bucket import Bucket, Item
from listener.artifacts.parts import Span
from listener.artifacts.patience import Again, Patience
from listener.artifacts.reading import Block, Media, Refused
from listener.errors import ConfigError, one_line

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS = "items(name,size,generation,contentEncoding,crc32c),nextPageToken"
#: Seconds without any progress after which a request is not repeated any more.
_PATIENCE = 60.0


class Cloud:
    """Reads with Application Default Credentials; without any where there are none, or an emulator is named."""

    def __init__(self) -> None:
        self._credentials = _credentials()
        # none of the requests is billed to a project of the caller's, but the client wants one
        self._client = storage.Client(project="none", credentials=self._credentials)
        self._retry = DEFAULT_RETRY.with_timeout(_PATIENCE)
        self._media = Media(self._client.api_endpoint, self._credentials)

    def items(self, bucket: Bucket) -> list[Item]:
        """Every object of a folder.

        Raises:
            ConfigError: they cannot be listed; the sentence says why, and what to do.
        """
        with self._told(bucket, f"there is no bucket {bucket.name!r}; check the name"):
            listed = self._client.list_blobs(
                bucket.name, prefix=bucket.prefix or None, fields=_FIELDS, retry=self._retry
            )
            return [_item(blob) for blob in listed]

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
        with self._told(bucket, f"there is no {item.name!r}"):
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
    def _told(self, bucket: Bucket, not_found: str) -> Iterator[None]:
        try:
            yield
        except api.NotFound:
            raise ConfigError(f"{bucket}: {not_found}") from None
        except (api.Unauthorized, api.Forbidden):
            raise ConfigError(f"{bucket}: {self._refused()}") from None
        except auth.GoogleAuthError as error:
            if self._anonymous:  # the client answers a 401 by renewing credentials
                raise ConfigError(f"{bucket}: {self._refused()}") from None
            raise ConfigError(f"{bucket}: the credentials cannot be used: {one_line(str(error))}") from None
        except Refused as error:
            if error.status in (401, 403):
                raise ConfigError(f"{bucket}: {self._refused()}") from None
            raise ConfigError(f"{bucket}: cannot be fetched: {one_line(str(error))}") from None
        except Again as error:
            raise ConfigError(
                f"{bucket}: cannot be fetched: {one_line(str(error))}, and nothing came for {_PATIENCE:g} s"
            ) from None
        except (api.GoogleAPIError, RequestException) as error:
            cause = error.__cause__ or error
            raise ConfigError(f"{bucket}: cannot be fetched: {one_line(str(cause))}") from None

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
    if settings.has_storage_emulator():
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except auth.DefaultCredentialsError:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    return credentials


def _item(blob: Any) -> Item:
    return Item(
        blob.name,
        int(blob.size),
        int(blob.generation),
        packed=blob.content_encoding == "gzip",
        crc32c=checksum.from_listing(blob.crc32c),
    )
