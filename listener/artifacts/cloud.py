"""Google's client for Cloud Storage, as far as we need it: what lies there, and one object's bytes.

Its errors become sentences. Each request is repeated by the client for a minute where that can help (connection lost,
408, 429, 5xx), and the bytes of an object are held against the checksum that comes with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any

import google.auth
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException

from listener import settings
from listener.artifacts.bucket import Bucket, Item
from listener.errors import ConfigError, one_line

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS = "items(name,size,generation,contentEncoding),nextPageToken"
#: Seconds in which a request is repeated.
_PATIENCE = 60.0


class Cloud:
    """Reads with Application Default Credentials; without any where there are none, or an emulator is named."""

    def __init__(self) -> None:
        self._credentials = _credentials()
        # none of the requests is billed to a project of the caller's, but the client wants one
        self._client = storage.Client(project="none", credentials=self._credentials)
        self._retry = DEFAULT_RETRY.with_timeout(_PATIENCE)

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

    def download(self, bucket: Bucket, item: Item, stream: IO[bytes]) -> None:
        """Writes one object's bytes, of the generation that was listed.

        Raises:
            ConfigError: it cannot be read.
        """
        with self._told(bucket, f"{item.name!r} was removed or replaced while it was fetched; start again"):
            blob = self._client.bucket(bucket.name).blob(item.name, generation=item.generation)
            blob.download_to_file(stream, checksum="crc32c", retry=self._retry)

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
        except DataCorruption:
            raise ConfigError(f"{bucket}: an object arrived damaged (its checksum is wrong); start again") from None
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
    return Item(blob.name, int(blob.size), int(blob.generation), packed=bool(blob.content_encoding))
