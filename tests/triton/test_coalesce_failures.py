"""Calls that fail, and callers that leave: who hears of it, and who does not."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Sequence

import pytest

from listener.errors import BadRequest, DeadlineExceeded, InstanceError, ListenerError, TritonFailed, Unavailable
from listener.triton.coalesce import Coalescer
from tests.triton.fake_calls import Steady, made, outcomes, queued_behind_one, sent, turns

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


async def test_what_is_queued_can_be_refused_while_the_rest_goes_on() -> None:
    coalescer, triton, tasks = await queued_behind_one("abc")
    coalescer.refuse("the model is not ready")
    answers = await outcomes(tasks[1:])
    assert [(type(answer), str(answer)) for answer in answers] == [(Unavailable, "the model is not ready")] * 3
    tasks += sent(coalescer, "d")
    triton.open.set()
    assert [await tasks[0], await tasks[-1]] == ["0", "D"]
    assert triton.calls == [["0"], ["d"]]


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


async def test_what_a_caller_left_in_the_queue_is_not_kept() -> None:
    coalescer, _, tasks = await queued_behind_one("")
    item = "".join(["a", "bc"])  # known nowhere else
    known = sys.getrefcount(item)
    left = asyncio.create_task(coalescer.infer("k", item, 1))
    await turns()
    assert sys.getrefcount(item) > known
    left.cancel()
    await turns()
    del left
    assert sys.getrefcount(item) == known
    tasks[0].cancel()


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
