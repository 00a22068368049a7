"""HTTP/1.1 to one origin over a few kept connections: the bytes of a call out, the bytes of its answer back.

Made for Triton on the loopback, where a client's own Python is most of what a small call costs. There are no timers in
here: the caller bounds the time, and a cancelled call closes its connection, which Triton takes for a cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import cast

from listener.triton.answers import Answer, ProtocolError, Reader
from listener.triton.vigil import Vigil

__all__ = ["Answer", "ConnectionLost", "ProtocolError", "Unanswered", "Unsent", "Wire"]

#: Bytes from which on a part is handed to the socket as it is; below, copying is cheaper than a buffer more.
_LARGE = 32 << 10


class ConnectionLost(OSError):
    """There is no connection, or it ended before the answer did."""


class Unanswered(ConnectionLost):
    """It ended before the first byte of the answer, so the other side may or may not have the request."""


class Unsent(Unanswered):
    """There was none, so the other side has nothing of the request."""


class Wire:
    """Connections to one origin, for one event loop.

    Args:
        host: name or address.
        port: of the origin.
        limit: connections at a time, at least 1; further calls wait for one in the order in which they came.
        busy_wait: seconds for which a single short call is waited for awake (`vigil.py`); 0 = never.
    """

    def __init__(self, host: str, port: int, limit: int, busy_wait: float = 0.0) -> None:
        self._host = host
        self._port = port
        self._places = limit
        self._closed = False
        self._vigil = Vigil(busy_wait)
        self._open: set[_Connection] = set()
        #: The one used last is used next, so that those beyond the need grow old and are closed by Triton.
        self._idle: list[_Connection] = []
        self._queue: deque[asyncio.Future[None]] = deque()

    async def send(self, head: bytes, parts: Sequence[bytes | memoryview] = (), twice: bool = True) -> Answer:
        """One request and its answer.

        Args:
            head: request line, headers with the Content-Length of all that follows, and the empty line; it may go on
                with the beginning of the body. Not a HEAD request.
            parts: the (rest of the) body, views in bytes (format "B"). They must not change before the answer is there.
            twice: a kept connection that ends without a byte of an answer has met its end in between, and a new one is
                tried; the other side may have got the request all the same. Without it that is done only where nothing
                was sent.

        Raises:
            Unsent: there is no connection.
            Unanswered: it was lost before the first byte of the answer.
            ConnectionLost: it was lost later, or the wire is closed.
            ProtocolError: the answer is not HTTP/1.1.
        """
        if self._closed:
            raise ConnectionLost("the connections are closed")
        if self._places > 0:
            self._places -= 1
        else:
            await self._wait()
        try:
            if self._idle:
                try:
                    return await self._exchange(self._idle.pop(), head, parts)
                except Unsent:
                    pass
                except Unanswered:
                    if not twice:
                        raise
            return await self._exchange(await self._connect(), head, parts)
        finally:
            self._give_place()

    async def close(self) -> None:
        """Closes every connection; calls under way and later ones fail with `ConnectionLost`."""
        self._closed = True
        self._idle.clear()
        for turn in self._queue:
            if not turn.done():
                turn.set_exception(ConnectionLost("the connections are closed"))
        self._queue.clear()
        for connection in self._open:
            connection.abort()
        while self._open:  # each says so itself in one of the next rounds of the loop
            await asyncio.sleep(0)

    async def _exchange(self, connection: _Connection, head: bytes, parts: Sequence[bytes | memoryview]) -> Answer:
        answer = await connection.exchange(head, parts)
        if connection.usable():
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    async def _connect(self) -> _Connection:
        if self._closed:
            raise ConnectionLost("the connections are closed")
        loop = asyncio.get_running_loop()
        connection = _Connection(loop, self)
        try:
            await loop.create_connection(lambda: connection, self._host, self._port)
        except OSError as error:
            raise Unsent(f"no connection to {self._host}:{self._port}") from error
        except BaseException:
            self.forget(connection)  # uvloop closes it now, and does not tell it so even if it said that it is there
            raise
        return connection

    def sent(self, answer: asyncio.Future[Answer], loop: asyncio.AbstractEventLoop) -> None:
        """A request is on its way; its connection says so."""
        if len(self._open) - len(self._idle) == 1:
            self._vigil.watch(answer, loop)

    def made(self, connection: _Connection) -> None:
        """A connection is there; it says so itself."""
        self._open.add(connection)
        if self._closed:
            connection.abort()

    def forget(self, connection: _Connection) -> None:
        """A connection has ended; it says so itself."""
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    async def _wait(self) -> None:
        """Waits in the queue for a place, which the one before hands over."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_place()  # it came at the same moment
            else:
                with contextlib.suppress(ValueError):
                    self._queue.remove(turn)
            raise

    def _give_place(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._places += 1


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time.

    Attributes:
        lost: it has ended, or is about to.
    """

    __slots__ = ("_answer", "_loop", "_reader", "_room", "_transport", "_whole", "_wire", "lost")

    def __init__(self, loop: asyncio.AbstractEventLoop, wire: Wire) -> None:
        self.lost = False
        self._loop = loop
        self._wire = wire
        self._whole = True  # the request went to the transport with all its parts
        self._reader = Reader()
        self._answer: asyncio.Future[Answer] | None = None
        self._room: asyncio.Future[None] | None = None  # there while writing is paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # both kinds of loop set TCP_NODELAY
        self._wire.made(self)

    async def exchange(self, head: bytes, parts: Sequence[bytes | memoryview]) -> Answer:
        """Sends a request and reads its answer; closes the connection if that fails or is cancelled."""
        if self.lost:
            raise Unsent("the connection is closed")
        self._reader.start()
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        try:
            if parts:
                await self._write(head, parts, answer)
            else:
                self._transport.write(head)
            self._wire.sent(answer, self._loop)
            return await answer
        except BaseException:
            self.abort()
            answer.cancel()  # if it has failed in the meantime, this spares the complaint that nobody looked at it
            raise
        finally:
            self._answer = None

    async def _write(self, head: bytes, parts: Sequence[bytes | memoryview], answer: asyncio.Future[Answer]) -> None:
        """Writes until all is with the transport or an answer is there; then the rest is not wanted."""
        self._whole = False
        small: list[bytes | memoryview] = [head]
        for part in parts:
            if len(part) < _LARGE:
                small.append(part)
                continue
            if self._room is not None:
                await self._room
            if answer.done():
                return
            self._transport.write(b"".join(small))
            small.clear()
            self._transport.write(part)
        if small:
            self._transport.write(b"".join(small))
        self._whole = True

    def usable(self) -> bool:
        """Whether another request may follow. Not so if the answer came before the whole request was out."""
        return self._reader.lasting and not self.lost and self._whole and self._transport.get_write_buffer_size() == 0

    def abort(self) -> None:
        """Closes it without sending what is left; the loop says when it is."""
        self.lost = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():  # nobody has asked
            self.abort()
            return
        try:
            found = self._reader.feed(data)
        except ProtocolError as error:
            self._end(error)
            return
        if found is not None:
            answer.set_result(found)
            self._make_room()

    def eof_received(self) -> None:
        # at once, and not after whatever is still to be written
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)
        self._wire.forget(self)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        self._make_room()

    def _end(self, error: Exception | None) -> None:
        """No more will come, or nothing more that counts."""
        self.abort()
        answer = self._answer
        if answer is not None and not answer.done():
            found = None if error else self._reader.end()
            if found is not None:
                answer.set_result(found)
            elif isinstance(error, ProtocolError):
                answer.set_exception(error)
            else:
                kind = ConnectionLost if self._reader.begun else Unanswered
                lost = kind("the connection was lost before the answer")
                lost.__cause__ = error
                answer.set_exception(lost)
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
