"""Bytes of objects over plain HTTP/1.1: a connection for each thread that is kept as long as the other side keeps it.

Google's client spends 3 ms of CPU on each request, http.client 0.5 ms, and with few connections it is as fast as curl
(ADR 10). Credentials, proxies and certificates are those of the client.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_auth_from_url, select_proxy

from listener.artifacts import obstacles
from listener.artifacts.bucket import Item
from listener.artifacts.obstacles import Hopeless
from listener.artifacts.parts import Span
from listener.artifacts.patience import Again, asked_for
from listener.artifacts.tokens import Tokens

#: Bytes of a block; one is held for each connection.
BLOCK = 256 * 1024
#: Seconds in which a connection has to be made, and the next bytes have to come.
_SILENCE = 20.0
#: Not a memoryview, because google_crc32c takes none.
Block = ctypes.Array[ctypes.c_char]
_REPLACED = frozenset({404, 412, 416})
#: Bytes of an error's body that are looked at.
_SAID = 4096


class Replaced(Exception):
    """The object is not there any more as it was listed."""


class Refused(Exception):
    """A status that another try does not mend, and what the other side says to it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


class Media:
    """Where the bytes come from.

    Args:
        endpoint: URL of the API.
        credentials: Google's.

    Raises:
        Hopeless: certificates that are named to be trusted cannot be read.
    """

    def __init__(self, endpoint: str, credentials: Any) -> None:
        self._parts = urllib.parse.urlsplit(endpoint)
        session = requests.Session()  # for tokens; and it knows how this machine goes to the net
        around = session.merge_environment_settings(endpoint, {}, None, None, None)
        self._context = _trusting(around["verify"]) if self._parts.scheme == "https" else None
        self._proxy = select_proxy(endpoint, around["proxies"])
        self._tokens = Tokens(credentials, session)
        self._local = threading.local()
        self._open = set[http.client.HTTPConnection]()
        self._lock = threading.Lock()

    def blocks(self, bucket: str, item: Item, span: Span) -> Iterator[Block]:
        """A span's bytes, from one request; it may end early. A block is valid until the next one is asked for.

        Raises:
            Again: no answer, or one that asks for another try.
            Replaced: there is no such generation.
            Refused: any other status.
            Hopeless: no way leads there.
            GoogleAuthError: of the credentials.
        """
        connection = self._connection()
        finished = False
        response: http.client.HTTPResponse | None = None
        try:
            response = self._asked(connection, bucket, item, span)
            skip = self._checked(response, item, span)
            left = skip + len(span)
            while left and (count := response.readinto(self._room(min(BLOCK, left)))):
                left -= count
                if count > skip:
                    yield self._room(count - skip, skip)
                skip = max(skip - count, 0)
            finished = not left and response.isclosed() and not response.will_close
        except TimeoutError:
            raise Again(f"no bytes for {_SILENCE:g} s") from None
        except (http.client.HTTPException, OSError) as error:
            if why := obstacles.lasting(error, self._parts.hostname):
                raise Hopeless(why) from None
            raise Again(f"the connection was lost: {error or type(error).__name__}") from None
        finally:
            if not finished:
                if response:
                    response.close()
                self._drop(connection)

    def close(self) -> None:
        """Closes connections that are kept. To be called when no thread reads any more."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()

    def hang_up(self) -> None:
        """Ends what is under way in other threads: they get an Again."""
        with self._lock:
            for connection in self._open:
                if connection.sock:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _room(self, count: int, start: int = 0) -> Block:
        """Bytes of this thread's one buffer, which stays in the CPU's cache."""
        whole = getattr(self._local, "buffer", None)
        if whole is None:
            whole = self._local.buffer = (ctypes.c_char * BLOCK)()
        return (ctypes.c_char * count).from_buffer(whole, start)

    def _asked(
        self, connection: http.client.HTTPConnection, bucket: str, item: Item, span: Span
    ) -> http.client.HTTPResponse:
        """The answer's head. The bytes are wanted as they are stored, as the checksum is theirs."""
        name = urllib.parse.quote(item.name, safe="")
        path = f"{self._parts.path.rstrip('/')}/download/storage/v1/b/{bucket}/o/{name}"
        headers = {"Accept-Encoding": "gzip" if item.packed else "identity", "User-Agent": "triton-listener"}
        if len(span) < item.size:
            headers["Range"] = f"bytes={span.start}-{span.stop - 1}"
        url = f"{path}?alt=media&generation={item.generation}"
        self._local.token = self._tokens.sign(f"{self._parts.scheme}://{self._parts.netloc}{url}", headers)
        connection.request("GET", url, headers=headers)
        return connection.getresponse()

    def _checked(self, response: http.client.HTTPResponse, item: Item, span: Span) -> int:
        """Bytes to be skipped before the span begins, if the answer is one that holds it."""
        if response.status not in (200, 206):
            raise self._failure(response)
        generation = response.getheader("x-goog-generation")
        if generation not in (None, str(item.generation)):
            raise Replaced
        # of another size: cut short on its way, if it says that it is the generation that was asked for
        other = Replaced() if generation is None else Again("an answer came that is shorter than the object")
        if response.status == 200:
            if response.getheader("content-length") not in (None, str(item.size)):
                raise other
            return span.start
        given, _, size = response.getheader("content-range", "").partition("/")
        if size != str(item.size):
            raise other
        if given != f"bytes {span.start}-{span.stop - 1}":
            raise Again("another range came than was asked for")
        return 0

    def _failure(self, response: http.client.HTTPResponse) -> Exception:
        status = response.status
        if status in _REPLACED:
            return Replaced()
        if obstacles.is_passing(status):
            return Again(f"{status} {response.reason}", asked_for(response.headers.get("retry-after", "")))
        if status == 401 and self._tokens.renew(self._local.token):
            return Again(f"{status} {response.reason}")
        return Refused(status, ": ".join(filter(None, [response.reason, _message(response)])))

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._new()
            with self._lock:
                self._open.add(connection)
        return connection

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)

    def _new(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=_SILENCE)
        if not self._proxy:
            return http.client.HTTPSConnection(host, port, timeout=_SILENCE, context=self._context)
        through = urllib.parse.urlsplit(self._proxy if "//" in self._proxy else f"//{self._proxy}")
        connection = http.client.HTTPSConnection(
            through.hostname or "", through.port or http.client.HTTP_PORT, timeout=_SILENCE, context=self._context
        )
        connection.set_tunnel(host, port or http.client.HTTPS_PORT, _proxy_headers(self._proxy))
        return connection


def _trusting(verify: Any) -> ssl.SSLContext:
    """Trusts those whom requests would trust: a file or a folder of certificates that the environment names."""
    trusted = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
    in_folder = Path(trusted).is_dir()
    try:
        return ssl.create_default_context(cafile=None if in_folder else trusted, capath=trusted if in_folder else None)
    except OSError as error:
        raise Hopeless(
            f"certificates cannot be read from {trusted}, which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names: "
            f"{error.strerror or error}"
        ) from None


def _message(response: http.client.HTTPResponse) -> str:
    """What an error's body says to people: JSON as of the API, or a line of text."""
    said = response.read(_SAID).decode(errors="replace").strip()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(said)["error"]["message"])
    return "" if said.startswith(("<", "{")) else said


def _proxy_headers(proxy: str) -> dict[str, str]:
    user, password = get_auth_from_url(proxy)
    if not user:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
