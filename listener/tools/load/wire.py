"""One connection of a client that writes bytes and looks at answers no more than it has to: HTTP/1.1 on a raw protocol.

A client library would cost several times the CPU for each request, and the generator would be what is measured.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from listener.triton.answers import ProtocolError, Reader


@dataclass(frozen=True)
class Address:
    """Where connections go.

    Attributes:
        host: a name or an address.
        port: of TCP.
        tls: for https; None = plain.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Asked(NamedTuple):
    """One request.

    Attributes:
        number: counts requests; -1 = it never got onto a connection.
        intended: when it should have left, in seconds of `time.monotonic()` from a start of the owner's.
        first: when the first try of the same question should have; other than `intended` after a refusal.
    """

    number: int
    intended: float
    first: float


class Owner(Protocol):
    """Whoever uses a connection."""

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        """An answer is whole; `connection.asked` is what it answers, None if nobody asked."""

    def lost(self, connection: Connection) -> None:
        """It has ended; `connection.asked` has no answer."""


class Connection(asyncio.Protocol):
    """One connection, and the request that is on it.

    Attributes:
        asked: the request; None: nothing is on it.
        is_open: whether another one can be sent.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner, self._came = owner, b""
        self._reader: Reader | None = None  # of an answer that takes more than a look
        self._head = b""  # of that one
        self.asked: Asked | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.is_open = True

    def ask(self, asked: Asked, content: bytes) -> None:
        """Sends a request, head and body; its answer is told to the owner."""
        self.asked = asked
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        if self._reader:
            self._read(self._reader, data)
            return
        data = self._came + data if self._came else data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._came = data
            return
        head = data[:end]
        at = head.find(b"\r\nContent-Length: ")  # as the listener writes it
        if at < 0:
            self._came, self._reader = b"", Reader()
            self._read(self._reader, data)
            return
        size = int(head[at + 18 : head.index(b"\r\n", at + 18)])
        body = data[end : end + size]
        if len(body) < size:
            self._came = data
            return
        self._came = b""
        ends = header(head, b"connection").lower() == b"close" or head.startswith(b"HTTP/1.0")
        self._answered(int(head[9:12]), head, body, not ends)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        answer = self._reader.end() if self._reader and error is None else None
        if answer:
            self._owner.answered(self, answer.status, self._head, answer.body)
        self._owner.lost(self)

    def _read(self, reader: Reader, data: bytes) -> None:
        """An answer that is not as the listener writes them: by the reader of Triton's, for several times the CPU."""
        if not self._head:
            self._head = data[: data.index(b"\r\n\r\n") + 4]
        try:
            answer = reader.feed(data)
        except ProtocolError:
            self.transport.abort()
            return
        if answer:
            head, self._head, self._reader = self._head, b"", None
            self._answered(answer.status, head, answer.body, reader.lasting)

    def _answered(self, status: int, head: bytes, body: bytes, lasting: bool) -> None:
        if not lasting:
            self.is_open = False
            self.transport.close()
        self._owner.answered(self, status, head, body)


async def connect(address: Address, owner: Owner) -> Connection:
    """A new connection.

    Raises:
        OSError: there is none to be had, of which `ssl.SSLError` is a kind.
    """
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(owner), address.host, address.port, ssl=address.tls)
    return made


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header, empty if it is missing.

    Args:
        head: with its first line, and the empty one at its end.
        name: in lower case.
    """
    at = head.lower().find(b"\r\n" + name + b":")
    begin = at + len(name) + 3
    return head[begin : head.index(b"\r\n", begin)].strip() if at >= 0 else b""
