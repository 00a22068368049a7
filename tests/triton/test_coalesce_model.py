"""The coalescer against a model of it: whatever comes, fails, leaves or closes, in whatever order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from listener.errors import BadRequest, ListenerError, TritonFailed, Unavailable
from listener.triton.coalesce import Coalescer
from listener.triton.flight import Flight
from tests.triton.on_a_loop import OnALoop

KINDS: list[type[ListenerError]] = [BadRequest, TritonFailed, Unavailable]


@dataclass(eq=False)
class Request:
    number: int
    key: str
    rows: int
    task: asyncio.Task[str] | None = None
    expected: str | type[ListenerError] | None = None  # none while nothing is decided
    blame: str = ""  # what the error must say
    left: bool = False
    tried: int = 0  # calls that held it

    @property
    def settled(self) -> bool:
        return self.left or self.expected is not None


@dataclass(eq=False)
class Call:
    """One run under way, and the items of the first call that it is a part of: more if it is a second try."""

    number: int
    requests: list[Request]
    group: list[Request]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Limit(Flight):
    """One that does not adapt."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def returned(self, now: float, rows: int, under_way: int, waiting: bool) -> None:
        assert 1 <= under_way <= self.limit


class Coalescing(OnALoop):
    """Each rule ends with some turns of the loop, after which everything that can happen has."""

    @initialize(limit=st.integers(1, 3), max_rows=st.integers(3, 6))
    def begin(self, limit: int, max_rows: int) -> None:
        self.open_loop()
        self.limit, self.max_rows = limit, max_rows
        self.requests: list[Request] = []
        self.queue: list[Request] = []
        self.calls: list[Call] = []
        self.groups: dict[Request, list[Request]] = {}
        self.made = 0
        self.lonely = False  # the call before had one request, and nothing waited at its end
        self.closed = False
        self.broken: list[str] = []  # what `run` saw that must not be
        self.coalescer = Coalescer[Request, str](self.run_call, max_rows, Limit(limit))

    async def run_call(self, items: Sequence[Request]) -> list[str]:
        requests = list(items)
        first = not requests[0].tried
        if first:
            self.check_departure(requests)
        elif len(requests) > 1 or requests[0].tried > 1:
            self.broken.append("tried again in company, or more than once")
        if any(request.left for request in requests):
            self.broken.append("sent for a caller that had left")
        for request in requests:
            request.tried += 1
            self.groups.setdefault(request, requests)
        self.made += 1
        call = Call(self.made, requests, self.groups[requests[0]])
        self.calls.append(call)
        try:
            await call.done
        finally:
            self.calls.remove(call)
            self.lonely = len(call.group) == 1 and not self.queue
        return [f"result {request.number}" for request in requests]

    def check_departure(self, requests: list[Request]) -> None:
        key = requests[0].key
        in_line = [request for request in self.queue if request.key == key]
        rows = sum(request.rows for request in requests)
        rest = in_line[len(requests) :]
        if requests != in_line[: len(requests)]:
            self.broken.append("another order, another key, or one that had left")
        at_once = self.lonely and not self.calls and len(requests) == 1
        if rows > self.max_rows or (not at_once and rest and rows + rest[0].rows <= self.max_rows):
            self.broken.append("too many rows, or fewer than would have fitted")
        if len(self.calls) >= self.limit:
            self.broken.append("more calls than the limit")
        self.queue = [request for request in self.queue if request not in requests]

    @rule(sizes=st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 3)), min_size=1, max_size=6))
    def submit(self, sizes: list[tuple[str, int]]) -> None:
        for key, rows in sizes:
            request = Request(len(self.requests), key, rows)
            request.task = self.loop.create_task(self.coalescer.infer(key, request, rows))
            self.requests.append(request)
            if self.closed:
                request.expected, request.blame = Unavailable, "not called any more"
            else:
                self.queue.append(request)
        self.turn()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.calls))
        for request in call.requests:
            request.expected = f"result {request.number}"
        call.done.set_result(None)
        self.turn()

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def fail(self, data: st.DataObject, kind: type[ListenerError]) -> None:
        self.fail_one(data.draw(st.sampled_from(self.calls)), kind)

    @precondition(lambda self: any(len(call.requests) > 1 for call in self.calls))
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def fail_several(self, data: st.DataObject, kind: type[ListenerError]) -> None:
        self.fail_one(data.draw(st.sampled_from([call for call in self.calls if len(call.requests) > 1])), kind)

    def fail_one(self, call: Call, kind: type[ListenerError]) -> None:
        if kind is Unavailable or len(call.requests) == 1:
            for request in call.requests:
                request.expected, request.blame = kind, f"call {call.number} failed"
        call.done.set_exception(kind(f"call {call.number} failed"))
        self.turn()

    @precondition(lambda self: any(not request.settled for request in self.requests))
    @rule(data=st.data(), count=st.integers(1, 4))
    def leave(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            if there := [request for request in self.requests if not request.settled]:
                request = data.draw(st.sampled_from(there))
                assert request.task is not None
                request.left = request.task.cancel()
                self.queue = [other for other in self.queue if other is not request]
        self.turn()

    @rule()
    def close(self) -> None:
        self.closed = True
        for request in self.queue:
            request.expected, request.blame = Unavailable, "not called any more"
        self.queue = []
        self.coalescer.close()
        self.turn()

    @invariant()
    def run_saw_nothing_wrong(self) -> None:
        assert (self.broken, self.complaints) == ([], [])

    @invariant()
    def each_has_its_own_outcome_and_no_other(self) -> None:
        errors = []
        for request in self.requests:
            assert request.task is not None
            assert request.task.done() == request.settled
            if request.left:
                assert request.task.cancelled()
            elif isinstance(request.expected, str):
                assert request.task.result() == request.expected
            elif request.expected is not None:
                error = request.task.exception()
                assert type(error) is request.expected
                assert request.blame in str(error)
                errors.append(error)
        assert len({id(error) for error in errors}) == len(errors)

    @invariant()
    def nothing_waits_while_a_place_is_free(self) -> None:
        assert not self.queue or len(self.calls) == self.limit

    @invariant()
    def no_call_is_under_way_for_nobody(self) -> None:
        assert all(any(not request.settled for request in call.group) for call in self.calls)

    def teardown(self) -> None:
        while self.calls:
            self.calls[0].done.set_result(None)
            for request in self.calls[0].requests:
                request.expected = f"result {request.number}"
            self.turn()
        self.each_has_its_own_outcome_and_no_other()
        assert asyncio.all_tasks(self.loop) == set()
        self.loop.close()
        self.requests.clear()
        gc.collect(0)
        self.run_saw_nothing_wrong()


Coalescing.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCoalescing = Coalescing.TestCase
