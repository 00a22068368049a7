"""Requests that wait together travel together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable, Sequence

import pytest

from listener.errors import BadRequest, DeadlineExceeded, InstanceError, ListenerError, TritonFailed, Unavailable
from listener.triton.coalesce import Coalescer
from listener.triton.flight import Flight


class Steady(Flight):
    """A limit that stays; remembers what it was told: rows, calls under way, whether something waits."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.told: list[tuple[int, int, bool]] = []

    def returned(self, now: float, rows: int, under_way: int, waiting: bool) -> None:
        self.told.append((rows, under_way, waiting))


class Triton:
    """Calls that come back when the test says so; `bad` items spoil theirs."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.open = asyncio.Event()
        self.bad: dict[str, Callable[[], Exception]] = {}

    async def run(self, items: Sequence[str]) -> list[str]:
        self.calls.append(list(items))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(items))
            raise
        for item in items:
            if item in self.bad:
                raise self.bad[item]()
        return [item.upper() for item in items]


def made(limit: int = 1, max_rows: int = 4) -> tuple[Coalescer[str, str], Triton, Steady]:
    triton, flight = Triton(), Steady(limit)
    return Coalescer(triton.run, max_rows, flight), triton, flight


def sent(coalescer: Coalescer[str, str], items: str, key: str = "k", rows: int = 1) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(coalescer.infer(key, item, rows)) for item in items]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes(tasks: Sequence[asyncio.Task[str]]) -> list[str | BaseException]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def queued_behind_one(items: str, limit: int = 1) -> tuple[Coalescer[str, str], Triton, list[asyncio.Task[str]]]:
    """A call of '0' under way and `items` in the queue."""
    coalescer, triton, _ = made(limit)
    tasks = sent(coalescer, "0")
    await turns()
    tasks += sent(coalescer, items)
    await turns()
    return coalescer, triton, tasks


# Who travels with whom


async def test_a_request_that_finds_a_free_place_leaves_without_waiting() -> None:
    coalescer, triton, _ = made()
    tasks = sent(coalescer, "a")
    await turns(2)
    assert triton.calls == [["a"]]
    triton.open.set()
    assert await outcomes(tasks) == ["A"]


async def test_what_comes_in_one_turn_leaves_in_one_call() -> None:
    coalescer, triton, _ = made(limit=8)
    triton.open.set()
    assert await outcomes(sent(coalescer, "abcd")) == list("ABCD")
    assert triton.calls == [list("abcd")]


async def test_what_waits_leaves_together_when_a_call_comes_back() -> None:
    _, triton, tasks = await queued_behind_one("abcdef")
    assert triton.calls == [["0"]]
    triton.open.set()
    assert await outcomes(tasks) == list("0ABCDEF")
    assert triton.calls == [["0"], list("abcd"), list("ef")]


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        ([1, 1, 1, 1, 1], ["abcd", "e"]),
        ([3, 2, 2, 4], ["a", "bc", "d"]),
        ([3, 3, 1], ["a", "bc"]),  # c would fit into the first, but nobody overtakes
        ([4, 4], ["a", "b"]),
    ],
)
async def test_a_call_has_no_more_rows_than_fit_and_nobody_overtakes(rows: list[int], calls: list[str]) -> None:
    coalescer, triton, _ = made()
    triton.open.set()
    await asyncio.gather(*[coalescer.infer("k", item, count) for item, count in zip("abcde", rows, strict=False)])
    assert ["".join(call) for call in triton.calls] == calls


async def test_keys_do_not_mix_and_take_turns() -> None:
    coalescer, triton, _ = made(max_rows=2)
    triton.open.set()
    await outcomes(sent(coalescer, "abcde", "x") + sent(coalescer, "ABC", "y") + sent(coalescer, "1", "z"))
    assert ["".join(call) for call in triton.calls] == ["ab", "AB", "1", "cd", "C", "e"]


async def test_further_calls_leave_while_there_are_places() -> None:
    coalescer, triton, _ = made(limit=2, max_rows=2)
    tasks = sent(coalescer, "abcdef")
    await turns(5)
    assert triton.calls == [["a", "b"], ["c", "d"]]
    triton.open.set()
    assert await outcomes(tasks) == list("ABCDEF")


async def test_the_controller_hears_of_each_call() -> None:
    coalescer, triton, flight = made(max_rows=2)
    triton.bad["f"] = lambda: Unavailable("gone")
    triton.open.set()
    await outcomes(sent(coalescer, "abcde") + sent(coalescer, "f", "y"))
    assert flight.told == [(2, 1, True), (0, 1, True), (2, 1, True), (1, 1, False)]


async def test_it_runs_with_the_real_controller() -> None:
    triton = Triton()
    triton.open.set()
    coalescer = Coalescer[str, str](triton.run, 4, Flight())
    assert await outcomes(sent(coalescer, "abcdefghij")) == list("ABCDEFGHIJ")


# Failures


@pytest.mark.parametrize("kind", [BadRequest, TritonFailed, InstanceError])
async def test_one_bad_item_does_not_spoil_the_others(kind: type[ListenerError]) -> None:
    _, triton, tasks = await queued_behind_one("abc")
    triton.bad["b"] = lambda: kind("b is bad")
    triton.open.set()
    answers = await outcomes(tasks)
    assert answers[:2] + answers[3:] == ["0", "A", "C"]
    assert type(answers[2]) is kind
    assert str(answers[2]) == "b is bad"
    assert triton.calls == [["0"], list("abc"), ["a"], ["b"], ["c"]]


async def test_an_item_that_was_alone_is_not_tried_again() -> None:
    coalescer, triton, _ = made()
    triton.bad["a"] = lambda: TritonFailed("no")
    triton.open.set()
    assert [type(answer) for answer in await outcomes(sent(coalescer, "a"))] == [TritonFailed]
    assert triton.calls == [["a"]]


@pytest.mark.parametrize("kind", [Unavailable, DeadlineExceeded])
async def test_another_failure_is_that_of_all_and_each_has_an_error_of_its_own(kind: type[ListenerError]) -> None:
    def failure() -> ListenerError:
        error = kind("no")
        error.add_note("what Triton said")
        error.__cause__ = OSError("refused")
        return error

    _, triton, tasks = await queued_behind_one("ab")
    triton.bad["b"] = failure
    triton.open.set()
    _, one, other = await outcomes(tasks)
    assert isinstance(one, kind)
    assert isinstance(other, kind)
    assert one is not other
    assert str(one) == str(other) == "no"
    assert isinstance(one.__cause__, OSError)
    one.add_note("mine")
    assert other.__notes__ == ["what Triton said"]
    assert triton.calls == [["0"], ["a", "b"]]


async def test_a_bug_reaches_all_and_its_trace_does_not_grow() -> None:
    _, triton, tasks = await queued_behind_one("abcd")
    triton.bad["a"] = lambda: KeyError("x")
    triton.open.set()
    answers = await outcomes(tasks)
    assert [type(answer) for answer in answers[1:]] == [KeyError] * 4
    last = answers[-1]
    assert isinstance(last, KeyError)
    assert [frame.name for frame in traceback.extract_tb(last.__traceback__)] == ["infer", "_outcome", "run"]


async def test_a_wrong_number_of_results_is_no_result() -> None:
    async def run(items: Sequence[str]) -> list[str]:
        return [*items, "more"]

    coalescer = Coalescer(run, 4, Steady(1))
    with pytest.raises(RuntimeError, match="3 results came for 2 items"):
        await asyncio.gather(coalescer.infer("k", "a", 1), coalescer.infer("k", "b", 1))


async def test_a_call_that_is_cancelled_from_elsewhere_leaves_nobody_waiting() -> None:
    async def run(items: Sequence[str]) -> list[str]:
        raise asyncio.CancelledError

    coalescer = Coalescer(run, 4, Steady(1))
    answers = await outcomes(sent(coalescer, "ab"))
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]


# Callers that leave


async def test_a_caller_that_leaves_the_queue_is_not_sent() -> None:
    _, triton, tasks = await queued_behind_one("abc")
    tasks[2].cancel()
    triton.open.set()
    answers = await outcomes(tasks)
    assert answers[:2] + answers[3:] == ["0", "A", "C"]
    assert triton.calls == [["0"], ["a", "c"]]


async def test_a_caller_that_leaves_in_the_turn_of_the_call_is_not_sent() -> None:
    coalescer, triton, _ = made()
    tasks = sent(coalescer, "abc")
    await turns(1)
    tasks[0].cancel()
    tasks[2].cancel()
    triton.open.set()
    assert (await outcomes(tasks))[1] == "B"
    assert triton.calls == [["b"]]


async def test_a_queue_whose_callers_have_all_left_is_nothing_to_send() -> None:
    coalescer, triton, tasks = await queued_behind_one("ab")
    for task in tasks[1:]:
        task.cancel()
    triton.open.set()
    await outcomes(tasks)
    await turns()
    assert await coalescer.infer("k", "c", 1) == "C"
    assert triton.calls == [["0"], ["c"]]


async def test_a_result_without_its_caller_is_dropped() -> None:
    coalescer, triton, _ = made()
    tasks = sent(coalescer, "abc")
    await turns()
    tasks[1].cancel()
    await turns()
    assert triton.cancelled == []
    triton.open.set()
    answers = await outcomes(tasks)
    assert [answers[0], answers[2]] == ["A", "C"]


async def test_a_call_whose_callers_have_all_left_is_cancelled_and_gives_up_its_place() -> None:
    _, triton, tasks = await queued_behind_one("ab")
    tasks[0].cancel()
    await turns(5)
    assert triton.cancelled == [["0"]]
    assert triton.calls == [["0"], ["a", "b"]]
    triton.open.set()
    assert (await outcomes(tasks))[1:] == ["A", "B"]


async def test_a_caller_that_has_left_gets_no_second_try() -> None:
    coalescer, triton, _ = made()
    triton.bad["a"] = lambda: BadRequest("no")
    tasks = sent(coalescer, "abc")
    await turns()
    tasks[1].cancel()
    triton.open.set()
    await outcomes(tasks)
    assert triton.calls == [list("abc"), ["a"], ["c"]]


# Closing


async def test_closing_refuses_the_queue_and_what_comes_later_but_not_what_is_under_way() -> None:
    coalescer, triton, tasks = await queued_behind_one("ab")
    coalescer.close()
    triton.open.set()
    answers = await outcomes(tasks)
    assert [answers[0], *map(type, answers[1:])] == ["0", Unavailable, Unavailable]
    with pytest.raises(Unavailable, match="not called any more"):
        await coalescer.infer("k", "c", 1)
    assert triton.calls == [["0"]]


async def test_closing_in_the_turn_of_the_call_sends_nothing() -> None:
    coalescer, triton, _ = made()
    tasks = sent(coalescer, "ab")
    await turns(1)
    coalescer.close()
    assert [type(answer) for answer in await outcomes(tasks)] == [Unavailable, Unavailable]
    await turns()
    assert triton.calls == []


async def test_an_item_is_not_kept_after_its_answer() -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    async def run(items: Sequence[Large]) -> list[int]:
        return [len(items)] * len(items)

    coalescer = Coalescer(run, 4, Steady(1))
    gc.disable()  # counting of references alone must be enough
    try:
        assert await asyncio.gather(*[coalescer.infer("k", Large(), 1) for _ in range(3)]) == [3, 3, 3]
        await turns()
        assert Large.alive == 0
    finally:
        gc.enable()
