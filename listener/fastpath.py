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
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from listener import pace
from listener.call import Body
from listener.contract import instances
from listener.contract.answer import Answer
from listener.contract.media import JSON
from listener.endpoints.predict import NONE, Predict
from listener.errors import Overloaded, SlowBody
from listener.gate import Phase
from listener.heads import LONGEST, Head, Heads
from listener.intake import Intake, switch
from listener.middleware import REQUEST_ID_HEADER, refusal, request_id

if TYPE_CHECKING:  # it needs numpy, which is loaded behind the open port
    from listener.triton.shm import Lease

log = logging.getLogger("listener.http")

_IDLE = 75.0  # seconds; as aiohttp's
_SWEEP = 5.0
_LINGER = 5.0  # seconds in which the rest of a refused body is read and thrown away
_LAST_REQUESTS = 0.1  # seconds of a stop in which connections are still answered, with 503
_PATIENCE = 1.0  # seconds that a stop waits for clients to take their answers; as in app.py
_REFUSALS = 5000.0  # a second, of one worker's time a sixth; with more, refused connections are read from later
_BURST, _HELD = 0.02, 0.1  # seconds' worth of them that may come at once; that a connection is held at most
_READ_AHEAD = 65536  # bytes of later requests; with more of them, no more is read while one is answered


class FastPath:
    """What all connections share; call it to make the protocol of a new one.

    Args:
        predict: answers.
        route: path of predictions.
        max_body: bytes; longer ones are aiohttp's to refuse.
        fallback: makes aiohttp's protocol for a connection that is handed over; calls its argument when that is lost.
        lease: gives room in memory shared with Triton for a raw body of so many bytes, or None.
        most: connections at a time. For one more, an idle one is closed; where none is idle, it is broken off.
        knows_clients: whether it matters which address a connection comes from.
    """

    def __init__(
        self,
        predict: Predict,
        route: str,
        max_body: int,
        fallback: Callable[[Callable[[], object]], asyncio.Protocol],
        lease: Callable[[int], Lease | None],
        most: int,
        knows_clients: bool = False,
    ) -> None:
        self.predict, self.route, self.lease, self.knows_clients = predict, route, lease, knows_clients
        self.heads = Heads(route, max_body)
        self.connections: set[Connection] = set()
        self._fallback, self._most, self._broken_off = fallback, most, 0
        # those of aiohttp: bytes that their clients have not taken, and since when it has been so many
        self._handed_over: dict[asyncio.Transport, tuple[int, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._second, self._date = 0, b""
        self._refused_until = 0.0  # refusals up to now take the time of so many a second

    def __call__(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return Connection(self)

    def hold(self) -> float:
        """Counts a refusal of an overload; for how many seconds no more is to be read from whoever got it.

        Clients who come back at once, whatever `Retry-After` says, would keep the loop busy with refusals; the calls to
        Triton, which take turns in the same loop, would wait for them.
        """
        now = asyncio.get_running_loop().time()
        self._refused_until = min(max(self._refused_until, now - _BURST) + 1 / _REFUSALS, now + _HELD)
        return max(0.0, self._refused_until - now)

    def date(self) -> bytes:
        """The Date header's value (RFC 9110, section 6.6.1), made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date

    @property
    def open_connections(self) -> int:
        """Those of ours and of aiohttp."""
        return len(self.connections) + len(self._handed_over)

    def has_room(self) -> bool:
        """Whether one more connection may stay, in the place of an idle one if need be."""
        if self.open_connections < self._most:
            return True
        idle = next((connection for connection in self.connections if connection.is_idle), None)
        if idle is None:
            self._broken_off += 1
            return False
        idle.close()
        return True

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Makes a connection aiohttp's, which gets what has come."""
        self._handed_over[transport] = (0, asyncio.get_running_loop().time())
        successor = self._fallback(partial(self._handed_over.pop, transport, None))
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(data)

    def _sweep(self) -> None:
        """Closes connections that have been idle for long, and breaks off those whose clients take nothing."""
        loop = asyncio.get_running_loop()
        for connection in list(self.connections):
            connection.sweep(loop.time() - _IDLE)
        for transport in list(self._handed_over):
            self._sweep_handed_over(transport, loop.time())
        if self._broken_off:
            log.warning("connections broken off, as %d are open already: %d", self._most, self._broken_off)
            self._broken_off = 0
        self._sweeper = loop.call_later(_SWEEP, self._sweep) if self.connections or self._handed_over else None

    def _sweep_handed_over(self, transport: asyncio.Transport, now: float) -> None:
        before, since = self._handed_over[transport]
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent != before:  # nothing to take, or somebody is reading, however slowly
            self._handed_over[transport] = (unsent, now)
        elif now - since > _IDLE:
            transport.abort()

    async def close(self) -> None:
        """Closes every connection; to be called after the drain, and when nobody connects any more.

        What comes on them in the first moment is told that it is too late, as its client cannot know of the stop yet;
        and clients get a moment to take their answers.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while self.connections and loop.time() < begin + _PATIENCE:
            for connection in list(self.connections):
                connection.finish(idle=loop.time() > begin + _LAST_REQUESTS)
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
        self._length, self._begun = 0, 0.0  # of a body that did not come at once: bytes, and when it began
        self._client = ""  # its address
        self._lease: Lease | None = None  # where it goes in place of the chunks
        self._unwanted = False  # it has been refused, the rest is thrown away
        self._whole: asyncio.Future[None] | None = None
        self._rest = b""  # what came after, or a head's beginning
        self._unread = False  # more of the body came than is kept for a request that has not asked for it
        self._paused = False  # reading is
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        if self._path.has_room():
            self._path.connections.add(self)
            if self._path.knows_clients:
                self._client = self._transport.get_extra_info("peername", ("",))[0]
        else:
            self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no request is inside, and no answer on its way out."""
        return self._idle_since is not None and self._writable is None and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._path.connections.discard(self)
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._body(data)
            if self._missing and self._whole is None and self._lease is None:
                self._unread = True  # it waits for a permit
                self._flow()
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
        if self._missing and self._whole and not self._whole.done() and not self._unwanted:
            received = self._length - self._missing
            if pace.due(self._begun, received) < self._loop.time():
                self._whole.set_exception(SlowBody(pace.sentence(received)))

    def close(self) -> None:
        self._transport.close()

    def finish(self, idle: bool) -> None:
        """Closes it unless a request waits for its answer, or could still come.

        Args:
            idle: none can.
        """
        if self._unwanted or (idle and self._idle_since is not None):
            self.close()

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
        if self._missing:
            self._length, self._begun = head.length, self._loop.time()
            if self._lease:
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
        self._go_on_reading()
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
        status, more, held = b"200 OK", _AS_JSON, 0.0
        try:
            answer = await path.predict(
                head.headers, head.wanted, identifier, self._read, NONE, head.length, self._client, path.route
            )
            body = answer.body
            if answer.headers or answer.status != 200 or answer.media_type != JSON:
                status, more = _status(answer.status), _lines(answer)
        except Exception as error:
            told = refusal(error, identifier, path.route)
            body, status = instances.encode_error(told), _status(told.status)
            if told.retry_after is not None:
                more = b"Content-Type: application/json\r\nRetry-After: %d\r\n" % told.retry_after
            if type(told) is Overloaded:
                held = path.hold()
        if self._transport.is_closing():  # the client left, and a handler did not heed the cancellation
            return True
        last = path.predict.gate.phase is not Phase.READY  # a drain lets clients go
        self._write(
            b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n%b: %b\r\nDate: %b\r\nX-Content-Type-Options: nosniff\r\n%b\r\n"
            % (status, more, len(body), _ID, identifier.encode(), path.date(), _CLOSE if last else b""),
            body,
        )
        if self._missing:
            last = not await self._rest_of_body() or last
        if self._writable:
            self._idle_since = self._loop.time()
            await self._writable
        if held:
            await asyncio.sleep(held)
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
            return
        self._go_on_reading()  # its body may have been refused unread
        if self._rest:
            rest, self._rest = self._rest, b""
            self._begin(rest)
            self._flow()

    def _go_on_reading(self) -> None:
        if self._unread:
            self._unread = False
            self._flow()

    def _flow(self) -> None:
        """Nothing more is read while much of what a client sent ahead, or of a body that waits, still lies here."""
        full = self._unread or len(self._rest) > _READ_AHEAD
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
        self._path.hand_over(self._transport, data)


def _status(status: int) -> bytes:
    return b"%d %b" % (status, _PHRASES.get(status, b""))


def _lines(answer: Answer) -> bytes:
    """The headers of an answer that is not as most are."""
    headers = {"Content-Type": answer.media_type, **answer.headers}
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_ID, _CLOSE = REQUEST_ID_HEADER.encode(), b"Connection: close\r\n"
_AS_JSON = b"Content-Type: application/json\r\n"
