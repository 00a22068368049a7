"""Predictions without aiohttp's server around them, which costs more than all the rest of a small request.

A connection begins here. As long as its requests are plain ones, this protocol reads and answers them: POST on the
predict route, HTTP/1.1, a Content-Length, nothing unusual in the head. The first one that is not makes it aiohttp's
connection for good, bytes and all; so there is one HTTP parser for everything odd, and it is not ours. What a
prediction is (`endpoints.Predict`) is the same on both ways, and so is what an error looks like.

Figures: benchmarks/profile.md.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import cast

from listener.contract import instances
from listener.endpoints import Predict
from listener.gate import Phase
from listener.middleware import REQUEST_ID_HEADER, refusal, request_id

#: Token, colon, visible ASCII: no folded lines, no control characters, no blanks before the colon.
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+\r\n")
_DIGITS = re.compile(r"[0-9]{1,12}")
#: These change how a message is read; whoever sends them talks to aiohttp.
_UNUSUAL = frozenset({"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te"})
_LONGEST_HEAD = 8192
_KNOWN_HEADS = 512
_IDLE = 75.0  # seconds; as aiohttp's
_SWEEP = 15.0
_READ_AHEAD = 65536  # bytes of later requests kept while one is answered


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head.

    Attributes:
        headers: names in lower case.
        length: of the body, in bytes.
    """

    headers: Mapping[str, str]
    length: int


class FastPath:
    """What all connections share; call it to make the protocol of a new one.

    Args:
        predict: answers.
        route: path of predictions.
        max_body: bytes; longer ones are aiohttp's to refuse.
        fallback: makes aiohttp's protocol for a connection that is handed over.
    """

    def __init__(self, predict: Predict, route: str, max_body: int, fallback: Callable[[], asyncio.Protocol]) -> None:
        self.predict, self.route, self.fallback = predict, route, fallback
        self.start = f"POST {route} HTTP/1.1\r\n".encode()
        self.connections: set[Connection] = set()
        self._max_body = max_body
        self._heads: dict[bytes, Head | None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._second, self._date = 0, b""

    def __call__(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return Connection(self)

    def head(self, raw: bytes) -> Head | None:
        """A head that this path takes, with its blank line; None = it is for aiohttp."""
        try:
            return self._heads[raw]
        except KeyError:
            if len(self._heads) >= _KNOWN_HEADS:
                self._heads.clear()
            head = self._heads[raw] = self._parsed(raw)
            return head

    def _parsed(self, raw: bytes) -> Head | None:
        lines = raw[len(self.start) :]
        if not raw.startswith(self.start) or not _LINES.fullmatch(lines):
            return None
        pairs = [line.partition(":") for line in lines[:-4].decode("ascii").split("\r\n")]
        headers = {name.lower(): value.strip(" \t") for name, _, value in pairs}
        if len(headers) != len(pairs) or not _UNUSUAL.isdisjoint(headers) or "host" not in headers:
            return None
        if headers.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        length = headers.get("content-length", "")
        if not _DIGITS.fullmatch(length) or not 0 < int(length) <= self._max_body:
            return None
        return Head(MappingProxyType(headers), int(length))

    def date(self) -> bytes:
        """The Date header's value (RFC 9110, section 6.6.1), made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date

    def _sweep(self) -> None:
        """Closes connections that have been idle for long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - _IDLE
        for connection in [c for c in self.connections if c.idle_since is not None and c.idle_since < oldest]:
            connection.close()
        self._sweeper = loop.call_later(_SWEEP, self._sweep) if self.connections else None

    def close(self) -> None:
        """Closes every connection; to be called after the drain."""
        for connection in list(self.connections):
            connection.close()
        if self._sweeper:
            self._sweeper.cancel()


class Connection(asyncio.Protocol):
    """One client's connection: a request at a time, in order.

    Attributes:
        idle_since: the loop's time since which nothing is being answered; None = a request is inside.
    """

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self.idle_since: float | None = self._loop.time()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []  # of the body
        self._missing = 0  # bytes of it
        self._whole: asyncio.Future[None] | None = None
        self._rest = b""  # what came after, or a head's beginning
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._path.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._path.connections.discard(self)
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._body(data)
        elif self._task:
            self._rest += data
            if len(self._rest) > _READ_AHEAD:
                self._transport.pause_reading()
        else:
            self._begin(self._rest + data if self._rest else data)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def close(self) -> None:
        self._transport.close()

    def _begin(self, data: bytes) -> None:
        """A new request, from its first byte on."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            start = self._path.start
            if len(data) < _LONGEST_HEAD and data[: len(start)] == start[: len(data)]:
                self._rest = data  # the head goes on
            else:
                self._hand_over(data)
            return
        head = self._path.head(data[:end]) if end <= _LONGEST_HEAD else None
        if head is None:
            self._hand_over(data)
            return
        self._rest = b""
        self._missing = head.length
        self._body(data[end:])
        self.idle_since = None
        self._task = self._loop.create_task(self._answer(head))

    def _body(self, data: bytes) -> None:
        if len(data) > self._missing:
            self._rest = data[self._missing :]
            data = data[: self._missing]
        self._chunks.append(data)
        self._missing -= len(data)
        if not self._missing and self._whole and not self._whole.done():
            self._whole.set_result(None)

    async def _read(self) -> bytes:
        if self._missing:
            self._whole = self._loop.create_future()
            await self._whole
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def _answer(self, head: Head) -> None:
        path = self._path
        identifier = request_id(head.headers.get("x-request-id", ""))
        status, retry = b"200 OK", b""
        try:
            body = await path.predict(head.headers, identifier, self._read)
        except Exception as error:
            told = refusal(error, identifier, path.route)
            body = instances.encode_error(told)
            status = b"%d %b" % (told.status, HTTPStatus(told.status).phrase.encode())
            retry = b"" if told.retry_after is None else b"Retry-After: %d\r\n" % told.retry_after
        # whose body has not come yet is not read any more; and a drain lets clients go
        last = self._missing > 0 or path.predict.gate.phase is not Phase.READY
        self._write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b: %b\r\n%bDate: %b\r\n%b\r\n"
            % (status, len(body), _ID, identifier.encode(), retry, path.date(), _CLOSE if last else b""),
            body,
        )
        if self._writable:
            await self._writable
        self._next(last)

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) < _READ_AHEAD:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def _next(self, last: bool) -> None:
        self._task, self._whole, self._chunks = None, None, []
        self.idle_since = self._loop.time()
        if last:
            self._transport.close()
        elif self._rest:
            rest, self._rest = self._rest, b""
            self._transport.resume_reading()
            self._begin(rest)

    def _hand_over(self, data: bytes) -> None:
        """From here on the connection is aiohttp's."""
        self._path.connections.discard(self)
        successor = self._path.fallback()
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        successor.data_received(data)


_ID = REQUEST_ID_HEADER.encode()
_CLOSE = b"Connection: close\r\n"
