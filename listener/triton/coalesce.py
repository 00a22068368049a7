"""Requests that wait together travel together: one call to Triton for what several callers sent.

There is no timer. A request that finds a free place leaves in the next turn of the event loop, with whatever that turn
brought; the others wait for a call to come back, and then leave together.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from listener.errors import BadRequest, ListenerError, TritonFailed, Unavailable
from listener.metrics.times import CURRENT, Times
from listener.triton.flight import Flight

Item = TypeVar("Item")
Result = TypeVar("Result")

#: One item may be to blame for what befell all of its call. After any other failure a second try would fail as well.
BLAMED = (BadRequest, TritonFailed)


class _Waiter(Generic[Item, Result]):
    """One item and the caller that waits for its result."""

    __slots__ = ("call", "future", "item", "key", "left", "mates", "rows", "traceparent")

    def __init__(self, key: Hashable, item: Item, rows: int, future: asyncio.Future[Result]) -> None:
        self.key, self.item, self.rows, self.future = key, item, rows, future
        self.call: asyncio.Task[None] | None = None  # none while it is queued
        self.left = 0.0  # when its call did
        self.traceparent = ""  # of a caller whose trace is recorded
        self.mates: list[_Waiter[Item, Result]] = []  # all waiters of the call


class Coalescer(Generic[Item, Result]):
    """Joins the items of many callers into few calls, and takes the answers apart again. For one event loop.

    Items of the same key travel together in the order in which they came; the keys take turns.

    Args:
        run: makes one call for several items of one key and gives one result for each, in their order.
        max_rows: of one call, at least 1.
        flight: says how many calls may be under way at a time, and learns from each.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], max_rows: int, flight: Flight
    ) -> None:
        self._run, self._max_rows, self._flight = run, max_rows, flight
        self._queues: dict[Hashable, deque[_Waiter[Item, Result]]] = {}  # none is empty; the next key comes first
        self._calls: set[asyncio.Task[None]] = set()  # those with several items, perhaps
        self._under_way = 0  # all calls
        self._lonely = False  # the call before had one item, and nothing waited when it came back
        self._gathering = False  # the newest call has not taken its items yet
        self._closed = False
        self._traces = False  # a request whose trace is recorded has been here
        # a call belongs to no single request, so it does not run in the context of one
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, None)

    async def infer(self, key: Hashable, item: Item, rows: int) -> Result:
        """The result of one item, which may travel with others.

        A caller that is cancelled gives up its place; a call that nobody waits for any more is cancelled too.

        Args:
            key: what all items of a call have in common.
            item: never cut.
            rows: of the item, from 1 to `max_rows`.

        Raises:
            Unavailable: the coalescer is closed, or its call was given up.
            Exception: what `run` raised for this item: alone where the failure may be a single item's, otherwise the
                failure of the whole call.
        """
        if self._closed:
            raise Unavailable("the model is not called any more")
        times = CURRENT.get()
        begun = time.monotonic() if times else 0.0
        if self._lonely and not self._under_way and not self._queues:
            result = await self._at_once(item, rows)
            if times:
                times.call(begun, begun, time.monotonic())
            return result
        waiter: _Waiter[Item, Result] = _Waiter(key, item, rows, asyncio.get_running_loop().create_future())
        if times and times.traceparent:
            waiter.traceparent, self._traces = times.traceparent, True
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        queue.append(waiter)
        self._start()
        try:
            result = await waiter.future
        except asyncio.CancelledError:
            self._left(waiter)
            raise
        if times:
            times.call(begun, waiter.left, time.monotonic())
        return result

    def close(self) -> None:
        """Refuses what is queued and what comes later; calls under way come to their end."""
        self._closed = True
        self.refuse("the model is not called any more")

    def refuse(self, sentence: str) -> None:
        """Refuses what is queued; calls under way come to their end."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            _tell(queue, Unavailable(sentence))

    async def _at_once(self, item: Item, rows: int) -> Result:
        """A call made by its one caller, which is less work; for a client that asks again and again, and is alone."""
        self._under_way += 1
        brought = 0
        try:
            (result,) = await self._run([item])
            brought = rows
            return result
        finally:
            self._give_place(1, brought)

    def _start(self) -> None:
        """Begins a call if there is something to send and a place for it."""
        if self._queues and not self._gathering and self._under_way < self._flight.limit:
            self._gathering = True
            self._under_way += 1
            loop = asyncio.get_running_loop()
            self._calls.add(loop.create_task(self._call(), context=self._context))

    async def _call(self) -> None:
        """One call, from taking its items to telling their results; it holds its place for as long."""
        task = asyncio.current_task()
        assert task is not None
        self._gathering = False  # this turn's requests are in the queue now
        waiters = self._take()
        self._start()
        now = time.monotonic()
        for waiter in waiters:
            waiter.call, waiter.mates, waiter.left = task, waiters, now
        outcome: Sequence[Result] | Exception = []
        try:
            if waiters:
                outcome = await self._outcome(waiters)
            if isinstance(outcome, BLAMED) and len(waiters) > 1:
                for waiter in waiters:
                    await self._alone(waiter)
                outcome = []
        except BaseException:
            outcome = Unavailable("the call to Triton was given up")
            raise
        finally:
            self._came_back(task, waiters, outcome)

    async def _outcome(self, waiters: Sequence[_Waiter[Item, Result]]) -> Sequence[Result] | Exception:
        try:
            items = [waiter.item for waiter in waiters]
            results = await (self._traced(items, waiters) if self._traces else self._run(items))
            if len(results) != len(waiters):
                raise RuntimeError(f"{len(results)} results came for {len(waiters)} items")
            return results
        except Exception as error:
            return error

    async def _traced(self, items: Sequence[Item], waiters: Sequence[_Waiter[Item, Result]]) -> Sequence[Result]:
        """A call in the trace of its first request that has one: in a task of its own, as calls share a context."""
        times = Times()
        times.traceparent = next((waiter.traceparent for waiter in waiters if waiter.traceparent), "")
        if not times.traceparent:
            return await self._run(items)
        context = self._context.copy()
        context.run(CURRENT.set, times)
        return await asyncio.get_running_loop().create_task(self._ran(items), context=context)

    async def _ran(self, items: Sequence[Item]) -> Sequence[Result]:
        return await self._run(items)

    async def _alone(self, waiter: _Waiter[Item, Result]) -> None:
        """The second try of an item whose call failed; not for a caller that has left."""
        if not waiter.future.done():
            _tell([waiter], await self._outcome([waiter]))

    def _came_back(
        self, task: asyncio.Task[None], waiters: list[_Waiter[Item, Result]], outcome: Sequence[Result] | Exception
    ) -> None:
        """Gives the place to the next call, and then their results to the callers.

        In this order, as Triton need not wait until all those callers have answered their clients.
        """
        self._calls.discard(task)
        rows = 0 if isinstance(outcome, Exception) else sum([waiter.rows for waiter in waiters])
        self._give_place(len(waiters), rows)
        _tell(waiters, outcome)
        waiters.clear()  # they refer to this list

    def _give_place(self, items: int, rows: int) -> None:
        """A call of so many items has come back and brought so many rows."""
        self._lonely = items == 1 and not self._queues
        if items:
            self._flight.returned(time.monotonic(), rows, self._under_way, bool(self._queues))
        self._under_way -= 1
        self._start()

    def _take(self) -> list[_Waiter[Item, Result]]:
        """The waiters of the next call: all of one key, in their order, as many as fit."""
        taken: list[_Waiter[Item, Result]] = []
        while self._queues and not taken:
            key = next(iter(self._queues))
            queue, rows = self._queues.pop(key), 0
            while queue and (not rows or rows + queue[0].rows <= self._max_rows):
                waiter = queue.popleft()
                if not waiter.future.done():  # its caller may have been cancelled in this turn
                    taken.append(waiter)
                    rows += waiter.rows
            if queue:
                self._queues[key] = queue  # behind the other keys
        return taken

    def _left(self, waiter: _Waiter[Item, Result]) -> None:
        """Forgets a caller that was cancelled, and with the last one the call."""
        if waiter.call is None:
            self._unqueue(waiter)
        elif all(mate.future.done() for mate in waiter.mates):
            waiter.call.cancel()  # does nothing to one that has come back

    def _unqueue(self, waiter: _Waiter[Item, Result]) -> None:
        queue = self._queues.get(waiter.key)
        if queue is None:
            return
        with suppress(ValueError):  # a call that left in this turn has skipped it
            queue.remove(waiter)
        if not queue:
            del self._queues[waiter.key]


def _tell(waiters: Iterable[_Waiter[Item, Result]], outcome: Sequence[Result] | Exception) -> None:
    """Each caller that is still there its own result, or the failure of all."""
    if isinstance(outcome, Exception):
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(_copy(outcome))
        return
    for waiter, result in zip(waiters, outcome, strict=False):
        if not waiter.future.done():
            waiter.future.set_result(result)


def _copy(error: Exception) -> Exception:
    """An error of our family for one caller alone, who may add notes or a cause to it; any other as it is.

    It is made without `__init__`, whose arguments are not known here.
    """
    if not isinstance(error, ListenerError):
        return error
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = list(notes)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy.with_traceback(error.__traceback__)
