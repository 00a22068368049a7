"""Requests that wait together travel together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from listener.errors import BadRequest, TritonFailed, Unavailable
from listener.triton.coalesce import Coalescer
from listener.triton.flight import Flight
from tests.triton.fake_calls import Steady, Triton, made, outcomes, queued_behind_one, sent, turns

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


async def test_the_controller_hears_of_the_rows_that_second_tries_brought() -> None:
    coalescer, triton, flight = made()
    triton.bad["b"] = lambda: BadRequest("no")
    triton.open.set()
    await outcomes(sent(coalescer, "abc"))
    assert flight.told == [(3, 1, False)]


async def test_it_runs_with_the_real_controller() -> None:
    triton = Triton()
    triton.open.set()
    coalescer = Coalescer[str, str](triton.run, 4, Flight())
    assert await outcomes(sent(coalescer, "abcdefghij")) == list("ABCDEFGHIJ")


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


async def test_a_client_that_is_alone_makes_its_calls_itself() -> None:
    coalescer, triton, flight = made()
    triton.open.set()
    assert await outcomes(sent(coalescer, "a")) == ["A"]
    tasks = len(asyncio.all_tasks())
    triton.open.clear()
    alone = sent(coalescer, "b")
    await turns(1)
    assert (triton.calls[-1], len(asyncio.all_tasks())) == (["b"], tasks + 1)  # its own and no other
    alone += sent(coalescer, "cd")
    await turns()
    triton.open.set()
    assert await outcomes(alone) == list("BCD")
    assert triton.calls == [["a"], ["b"], ["c", "d"]]
    assert flight.told == [(1, 1, False), (1, 1, True), (2, 1, False)]


async def test_one_that_is_alone_and_leaves_gives_its_place_up() -> None:
    coalescer, triton, _ = made()
    triton.open.set()
    await outcomes(sent(coalescer, "a"))
    triton.open.clear()
    (alone,) = sent(coalescer, "b")
    await turns()
    waiting = sent(coalescer, "cd")
    await turns()
    alone.cancel()
    await turns()
    assert triton.cancelled == [["b"]]
    triton.open.set()
    assert await outcomes(waiting) == list("CD")


async def test_a_failure_of_one_that_is_alone_is_its_own() -> None:
    coalescer, triton, _ = made()
    triton.open.set()
    await outcomes(sent(coalescer, "a"))
    triton.bad["b"] = lambda: TritonFailed("the model failed")
    (failed,) = await outcomes(sent(coalescer, "b"))
    assert str(failed) == "the model failed"
    assert triton.calls == [["a"], ["b"]]
    assert await outcomes(sent(coalescer, "c")) == ["C"]
