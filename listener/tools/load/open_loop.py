"""An open loop: requests leave when they are to, whatever has become of those before them.

A request's time counts from when it was to leave, whether there was a connection for it or not. So what waits is
counted with the time that it waited (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from listener.tools.load.wire import Address, Asked, Connection, connect

#: How a request ends that gets no answer.
CLOSED, REFUSED, TIMEOUT = "connection closed", "no connection", "timeout"
#: Of those who wait for answers no longer, as a step is over.
UNFINISHED = "no answer by the end"


class Book(Protocol):
    """Says what is sent and writes down what comes of it. Times are seconds from the start."""

    def content(self, number: int) -> bytes:
        """Head and body of a request."""

    def left(self, intended: float, now: float) -> None:
        """A request that was to leave leaves now."""

    def answered(self, asked: Asked | None, now: float, status: int, head: bytes, body: bytes) -> None:
        """An answer has come; None: nobody had asked."""

    def unanswered(self, asked: Asked, now: float, why: str) -> None:
        """A request has come to its end without one: CLOSED, REFUSED, TIMEOUT or UNFINISHED."""


class OpenLoop:
    """Sends requests at given times, on a pool of connections that grows.

    Attributes:
        waited: requests for which no connection was left.
        gone: connections that the server closed while nothing was on them.
        connections: how many there are.
        under_way: those with a request on them, the first one that was sent first.

    Args:
        address: of the server.
        book: for the requests.
        most: connections.
    """

    def __init__(self, address: Address, book: Book, most: int) -> None:
        self._address, self.book, self._most = address, book, most
        self._loop = asyncio.get_running_loop()
        self._times: Sequence[float] = ()
        self._begin, self._next, self._numbers = 0.0, 0, 0
        self.waited = self.gone = self.connections = 0
        self._free: list[Connection] = []  # the last one that was used comes first
        self._without: deque[float] = deque()  # requests that wait for a connection
        self._connecting: dict[asyncio.Task[None], float] = {}
        self.under_way: dict[Connection, None] = {}
        self._all: set[Connection] = set()
        self._ended = False

    @property
    def now(self) -> float:
        """Seconds from the start. Not by the loop's clock, which uvloop looks at once a turn, in whole milliseconds."""
        return time.monotonic() - self._begin

    @property
    def is_behind(self) -> bool:
        """Whether a request that should have left has not, or has no answer yet."""
        return bool(self._without or self._connecting or self.under_way) or self._next < len(self._times)

    async def open(self, count: int) -> None:
        """Makes connections before they are needed.

        Raises:
            OSError: there is none to be had.
        """
        self._free += [await self._connected() for _ in range(count)]
        self.connections += count

    def start(self, times: Sequence[float]) -> None:
        """From now on requests leave at these times, sorted seconds; a former start has to be over."""
        self._begin, self._times, self._next = time.monotonic(), times, 0
        self._let_go_what_is_due()

    def stop(self) -> None:
        """What has not left by now stays."""
        self._times = self._times[: self._next]

    def oldest(self) -> float:
        """When the oldest request was to leave that has no answer; infinity where there is none."""
        on_the_way = next(iter(self.under_way), None)
        return min(
            on_the_way.asked.intended if on_the_way and on_the_way.asked else float("inf"),
            self._without[0] if self._without else float("inf"),
            min(self._connecting.values(), default=float("inf")),
        )

    def give_up(self, before: float, why: str = TIMEOUT) -> None:
        """Ends what was to leave before that and has no answer; its connections are closed."""
        now = self.now
        while self._without and self._without[0] < before:
            intended = self._without.popleft()
            self.book.unanswered(Asked(-1, intended, intended), now, why)
        for connection in [one for one in self.under_way if one.asked and one.asked.intended < before]:
            self._end(connection, why)
            connection.transport.abort()
        for task in [task for task, intended in self._connecting.items() if intended < before]:
            task.cancel()

    def close(self) -> None:
        """Closes all connections."""
        self._ended = True
        for connection in self._all:
            connection.transport.close()

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        asked, connection.asked = connection.asked, None
        self.book.answered(asked, self.now, status, head, body)
        if asked is None:
            return
        self.under_way.pop(connection, None)
        if self._without and connection.is_open:
            self._ask(connection, self._without.popleft())
        elif self._without:
            self.connections -= 1
            self._on_another(self._without.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self.under_way:
            self._end(connection, CLOSED)
        elif not self._ended and connection.asked is None:
            self.gone += 1

    def _end(self, connection: Connection, why: str) -> None:
        """A request that gets no answer any more; its connection counts for nothing."""
        del self.under_way[connection]
        self.connections -= 1
        asked = connection.asked
        if asked:
            self.book.unanswered(asked, self.now, why)
        if self._without and not self._ended:
            self._on_another(self._without.popleft())

    def _let_go_what_is_due(self) -> None:
        """Lets go what is due, and comes again when the next one is."""
        now = self.now
        while self._next < len(self._times) and self._times[self._next] <= now:
            intended = self._times[self._next]
            self._next += 1
            self.book.left(intended, now)
            self._let_go(intended)
        if self._next < len(self._times):
            self._loop.call_later(self._times[self._next] - now, self._let_go_what_is_due)

    def _let_go(self, intended: float) -> None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._ask(connection, intended)
                return
            self.connections -= 1
        if self.connections < self._most:
            self._on_another(intended)
        else:
            self.waited += 1
            self._without.append(intended)

    def _ask(self, connection: Connection, intended: float) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self.under_way[connection] = None
        connection.ask(Asked(number, intended, intended), self.book.content(number))

    def _on_another(self, intended: float) -> None:
        self.connections += 1
        task = self._loop.create_task(self._on_a_new_one(intended))
        self._connecting[task] = intended
        task.add_done_callback(lambda done: self._connecting.pop(done, None))

    async def _on_a_new_one(self, intended: float) -> None:
        try:
            connection = await self._connected()
        except (OSError, asyncio.CancelledError) as error:
            self.connections -= 1
            why = REFUSED if isinstance(error, OSError) else TIMEOUT
            self.book.unanswered(Asked(-1, intended, intended), self.now, why)
        else:
            self._ask(connection, intended)

    async def _connected(self) -> Connection:
        connection = await connect(self._address, self)
        self._all.add(connection)
        return connection
