"""Predictions without aiohttp's server around them, which costs more than all the rest of a small request.

A connection begins here. As long as its requests are plain ones, this protocol reads and answers them: POST on the
predict route, HTTP/1.1, a Content-Length, nothing unusual in the head. The first one that is not makes it aiohttp's
connection for good, bytes and all; so there is one HTTP parser for everything odd, and it is not ours. What a
prediction is (`endpoints.Predict`) is the same on both ways, and so is what an error looks like.

Why, and what it saves: docs/adr/0008-fast-path.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from listener.call import Body
from listener.contract import instances
from listener.contract.answer import Answer
from listener.contract.media import JSON
from listener.endpoints.predict import Predict
from listener.gate import Phase
from listener.heads import LONGEST, Head, Heads
from listener.intake import Intake, switch
from listener.middleware import REQUEST_ID_HEADER, refusal, request_id

if TYPE_CHECKING:  # it needs numpy, which is loaded behind the open port
    from listener.triton.shm import Lease

log = logging.getLogger("listener.http")

_IDLE = 75.0  # seconds; as aiohttp's
_SWEEP = 15.0
_LINGER = 5.0  # seconds in which the rest of a refused body is read and thrown away
_PATIENCE = 1.0  # seconds that a stop waits for clients to take their answers; as in app.py
_READ_AHEAD = 65536  # bytes of later requests; with more of them, no more is read while one is answered


class FastPath:
    """What all connections share; call it to make the protocol of a new one.

    Args:
        predict: answers.
        route: path of predictions.
        max_body: bytes; longer ones are aiohttp's to refuse.
        fallback: makes aiohttp's protocol for a connection that is handed over.
        lease: gives room in memory shared with Triton for a raw body of so many bytes, or None.
    """

    def __init__(
        self,
        predict: Predict,
        route: str,
        max_body: int,
        fallback: Callable[[], asyncio.Protocol],
        lease: Callable[[int], Lease | None],
    ) -> None:
        self.predict, self.route, self.fallback, self.lease = predict, route, fallback, lease
        self.heads = Heads(route, max_body)
        self.connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._second, self._date = 0, b""

    def __call__(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return Connection(self)

    def date(self) -> bytes:
        """The Date header's value (RFC 9110, section 6.6.1), made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date

    def _sweep(self) -> None:
        """Closes connections that have been idle for long."""
        loop = asyncio.get_running_loop()
        for connection in list(self.connections):
            connection.sweep(loop.time() - _IDLE)
        self._sweeper = loop.call_later(_SWEEP, self._sweep) if self.connections else None

    async def close(self) -> None:
        """Closes every connection; to be called after the drain. Clients get a moment to take their answers."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while self.connections and loop.time() < end:
            for connection in list(self.connections):
                connection.close()
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper:
            self._sweeper.cancel()


class Connection(asyncio.Protocol):
    """One client's connection: a request at a time, in order."""

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._idle_since: float | None = self._loop.time()  # None = a request is inside
        self._unsent = 0  # bytes, at the last sweep
        self._chunks: list[bytes] = []  # of the body
        self._missing = 0  # bytes of it
        self._lease: Lease | None = None  # where it goes in place of the chunks
        self._unwanted = False  # it has been refused, the rest is thrown away
        self._whole: asyncio.Future[None] | None = None
        self._rest = b""  # what came after, or a head's beginning
        self._paused = False  # reading is
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
        else:
            self._begin(self._rest + data if self._rest else data)
        if len(self._rest) > _READ_AHEAD:
            self._flow()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def sweep(self, oldest: float) -> None:
        """Closes the connection if nothing has come or gone since `oldest`; breaks it off if that was not enough."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:  # somebody is reading, however slowly
            self._unsent = unsent
        elif self._transport.is_closing():
            self.abort()
        elif self._idle_since is not None and self._idle_since < oldest:
            self.close()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _begin(self, data: bytes) -> None:
        """A new request, from its first byte on."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if self._path.heads.may_become(data):
                self._rest = data  # the head goes on
            else:
                self._hand_over(data)
            return
        head = self._path.heads.read(data[:end]) if end <= LONGEST else None
        if head is None:
            self._hand_over(data)
            return
        self._rest = b""
        self._missing = head.length
        self._lease = self._path.lease(head.length) if head.raw else None
        if len(data) > end:
            self._body(data[end:])
        if self._lease and self._missing:
            switch(self._transport, Intake(self))
        self._idle_since = None
        self._task = self._loop.create_task(self._serve(head))

    def _body(self, data: bytes) -> None:
        if len(data) > self._missing:
            self._rest = data[self._missing :]
            data = data[: self._missing]
        if self._lease:
            self.room()[: len(data)] = data
        elif not self._unwanted:
            self._chunks.append(data)
        self._came(len(data))

    def _came(self, nbytes: int) -> None:
        self._missing -= nbytes
        if not self._missing and self._whole and not self._whole.done():
            self._whole.set_result(None)

    def room(self) -> memoryview:
        """Where the rest of the body goes; for `Intake`."""
        assert self._lease is not None
        return self._lease.view[-self._missing :]

    def filled(self, nbytes: int) -> None:
        """So much of it is there; for `Intake`."""
        self._came(nbytes)
        if not self._missing:
            switch(self._transport, self)

    async def _read(self) -> Body:
        if self._missing:
            self._whole = self._loop.create_future()
            await self._whole
        if self._lease:
            return self._lease.view
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def _serve(self, head: Head) -> None:
        """Whatever goes wrong around a request ends its connection; nobody shall wait for an answer in vain."""
        try:
            last = await self._answer(head)
            self._give_back()
            self._next(last)
        except BaseException as error:
            self._task = None  # the error's trace leads to this object, which must not lead back: that is a cycle
            self.abort()
            if not isinstance(error, Exception):
                raise
            log.error("a connection failed", exc_info=error)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """Triton may read on for a call that was given up; then the lease has been parked and stays out."""
        if self._lease:
            self._lease.__exit__(None, None, None)
            self._lease = None

    async def _answer(self, head: Head) -> bool:
        """Gives whether it is the connection's last one."""
        path = self._path
        identifier = request_id(head.headers.get("x-request-id", ""))
        status, more = b"200 OK", _AS_JSON
        try:
            answer = await path.predict(head.headers, head.wanted, identifier, self._read)
            body = answer.body
            if answer.headers or answer.status != 200 or answer.media_type != JSON:
                status, more = _status(answer.status), _lines(answer)
        except Exception as error:
            told = refusal(error, identifier, path.route)
            body, status = instances.encode_error(told), _status(told.status)
            if told.retry_after is not None:
                more = b"Content-Type: application/json\r\nRetry-After: %d\r\n" % told.retry_after
        if self._transport.is_closing():  # the client left, and a handler did not heed the cancellation
            return True
        last = path.predict.gate.phase is not Phase.READY  # a drain lets clients go
        self._write(
            b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n%b: %b\r\nDate: %b\r\n%b\r\n"
            % (status, more, len(body), _ID, identifier.encode(), path.date(), _CLOSE if last else b""),
            body,
        )
        if self._missing:
            last = not await self._rest_of_body() or last
        if self._writable:
            self._idle_since = self._loop.time()
            await self._writable
        return last

    async def _rest_of_body(self) -> bool:
        """Reads what a refused client still sends: closing at once may cost it its answer. True = all came."""
        self._unwanted, self._chunks = True, []
        try:
            async with asyncio.timeout(_LINGER):
                await self._read()
        except TimeoutError:
            return False
        return True

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) < _READ_AHEAD:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def _next(self, last: bool) -> None:
        self._task, self._whole, self._chunks, self._unwanted = None, None, [], False
        self._idle_since = self._loop.time()
        if last:
            self._transport.close()
        elif self._rest:
            rest, self._rest = self._rest, b""
            self._begin(rest)
            self._flow()

    def _flow(self) -> None:
        """Nothing more is read while much of what a client sent ahead still lies here."""
        full = len(self._rest) > _READ_AHEAD
        if full == self._paused:
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _hand_over(self, data: bytes) -> None:
        """From here on the connection is aiohttp's."""
        self._rest = b""
        self._flow()  # aiohttp would not know that reading is paused
        self._path.connections.discard(self)
        successor = self._path.fallback()
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        successor.data_received(data)


def _status(status: int) -> bytes:
    return b"%d %b" % (status, _PHRASES.get(status, b""))


def _lines(answer: Answer) -> bytes:
    """The headers of an answer that is not as most are."""
    headers = {"Content-Type": answer.media_type, **answer.headers}
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_ID, _CLOSE = REQUEST_ID_HEADER.encode(), b"Connection: close\r\n"
_AS_JSON = b"Content-Type: application/json\r\n"
