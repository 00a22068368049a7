"""The nodes that combine others, with nodes that say where a request has been."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from listener.call import Call, Context, Json, Reply
from listener.errors import (
    BadRequest,
    DeadlineExceeded,
    HandlerFailed,
    InstanceError,
    ListenerError,
    TritonFailed,
    Unavailable,
)
from listener.graph.fallback import Fallback
from listener.graph.limits import Limits
from listener.graph.sequence import Sequence_, passed
from listener.graph.shadow import Counts, Shadow
from listener.graph.split import Split
from listener.graph.streaming import stream
from listener.nodes import From
from tests.graph.made import cascade, ensemble, saying, switch


class Place:
    """A node that says its name with each instance, and counts its calls."""

    def __init__(self, name: str, error: ListenerError | None = None, delay: float = 0.0) -> None:
        self.name, self.error, self.delay = name, error, delay
        self.calls: list[list[Json]] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(list(call.instances))
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return Reply([f"{self.name}:{instance}" for instance in call.instances])


async def ask(node: Any, *instances: Json, **said: Any) -> Json:
    reply = await node(Call(list(instances), Context(**said)))
    return list(reply.predictions)


# As deep as listener.yaml may nest them


@pytest.mark.parametrize("kind", ["switch", "cascade", "ensemble", "fallback"])
async def test_a_hundred_nodes_one_within_the_other_answer(kind: str) -> None:
    node: Any = Place("end")
    for _ in range(100):
        node = {
            "switch": switch(From("field", "k"), {"a": node, "b": node}, None),
            "cascade": cascade([node, node], float("-inf"), lambda _prediction: 1.0),
            "ensemble": ensemble({"a": node}, lambda row: row["a"]),
            "fallback": Limits("l", Fallback("f", [node, node]), 60.0, 1),
        }[kind]
    assert len(await ask(node, {"k": "a"}, {"k": "b"})) == 2


# switch


@pytest.mark.parametrize(
    ("on", "said", "expected"),
    [
        (From("parameter", "size"), {"parameters": {"size": "b"}}, "b"),
        (From("parameter", "deep.size"), {"parameters": {"deep": {"size": "a"}}}, "a"),
        (From("header", "X-Tier"), {"headers": {"x-tier": "a"}}, "a"),
        (From("parameter", "size"), {"parameters": {"size": 1.0}}, "1"),
        (From("parameter", "size"), {"parameters": {"size": True}}, "true"),
        (From("parameter", "size"), {}, "other"),
    ],
)
async def test_a_switch_goes_where_the_request_says(on: From, said: dict[str, Any], expected: str) -> None:
    places: dict[str, Any] = {name: Place(name) for name in ("a", "b", "1", "true")}
    node = switch(on, places, Place("other"))
    assert await ask(node, 7, **said) == [f"{expected}:7"]


async def test_a_switch_on_a_field_sends_the_instances_of_a_branch_together_and_keeps_their_order() -> None:
    a, b = Place("a"), Place("b")
    instances = [{"kind": "ab"[i % 2], "n": i} for i in range(64)]
    said = await ask(switch(From("field", "kind"), {"a": a, "b": b}, None), *instances)
    assert said == [f"{each['kind']}:{each}" for each in instances]
    assert (len(a.calls), len(b.calls)) == (1, 1)


async def test_a_switch_takes_a_function_of_the_instance_and_the_context() -> None:
    on = From("function", lambda instance, context: instance > context.parameters["limit"])
    node = switch(on, {"true": Place("big"), "false": Place("small")}, None)
    assert await ask(node, 1, 9, parameters={"limit": 5}) == ["small:1", "big:9"]


async def test_a_value_without_a_case_is_the_callers_fault_and_named() -> None:
    node = switch(From("field", "kind"), {"a": Place("a")}, None)
    with pytest.raises(InstanceError, match=r"^instances\[1\]: its 'kind' is 'z'; it can be a$"):
        await ask(node, {"kind": "a"}, {"kind": "z"})
    with pytest.raises(BadRequest, match=r"parameters\.size is missing"):
        await ask(switch(From("parameter", "size"), {"a": Place("a")}, None), 1)


async def test_a_function_that_fails_fails_its_request() -> None:
    with pytest.raises(HandlerFailed):
        await ask(switch(From("function", lambda _i, _c: 1 / 0), {"a": Place("a")}, None), 1)


async def test_an_error_of_a_branch_has_the_place_that_the_instance_has_in_the_request() -> None:
    node = switch(From("field", "k"), {"a": Place("a"), "b": Place("b", InstanceError("is bad", 0))}, None)
    with pytest.raises(InstanceError, match=r"^instances\[2\]: is bad$"):
        await ask(node, {"k": "a"}, {"k": "a"}, {"k": "b"})


# split


def test_ten_thousand_keys_keep_to_the_weights_and_to_their_arm() -> None:
    first, again = (Split("ab", {"a": 90, "b": 10}, {}) for _ in range(2))
    arms = [first.arm(f"user-{n}") for n in range(10_000)]
    assert arms == [again.arm(f"user-{n}") for n in range(10_000)]
    assert abs(arms.count("b") / 10_000 - 0.1) < 0.02


def test_a_greater_weight_moves_keys_to_that_arm_alone() -> None:
    before, after = Split("ab", {"a": 1, "b": 1, "c": 1}, {}), Split("ab", {"a": 1, "b": 1, "c": 2}, {})
    moved = {(before.arm(key), after.arm(key)) for key in map(str, range(2_000))}
    assert {pair for pair in moved if pair[0] != pair[1]} == {("a", "c"), ("b", "c")}


async def test_a_sticky_split_groups_instances_by_their_key() -> None:
    a, b = Place("a"), Place("b")
    node = Split("ab", {"a": 1, "b": 1}, {"a": a, "b": b}, From("field", "user"))
    said = await ask(node, *({"user": str(n)} for n in range(50)))
    assert [text[0] for text in said] == [node.arm(str(n)) for n in range(50)]
    assert (len(a.calls), len(b.calls)) == (1, 1)


async def test_a_request_without_a_key_stays_together() -> None:
    a, b = Place("a"), Place("b")
    node = Split("ab", {"a": 1, "b": 1}, {"a": a, "b": b}, From("field", "user"))
    for _ in range(20):
        await ask(node, {}, {}, {})
    assert {len(call) for call in a.calls + b.calls} == {3}


# sequence, cascade, ensemble, fallback


async def test_a_sequence_makes_predictions_instances() -> None:
    assert await ask(Sequence_([(Place("a"), "prediction"), (Place("b"), "prediction")]), 1) == ["b:a:1"]
    assert await ask(Sequence_([(Place("a"), "prediction"), (Place("b"), "instance")]), 1) == ["b:1"]
    both = Sequence_([(Place("a"), "prediction"), (passed, "both")])
    assert await ask(both, 1) == [{"instance": 1, "prediction": "a:1"}]


async def test_a_cascade_asks_further_where_the_score_is_low_and_nowhere_else() -> None:
    large = Place("large")
    node = cascade([saying({"p": 0.9}, {"p": 0.1}, {"p": 0.8}), large], 0.8, "p")
    assert await ask(node, "x", "y", "z") == [{"p": 0.9}, "large:y", {"p": 0.8}]
    assert large.calls == [["y"]]


async def test_the_score_of_plain_numbers_is_the_greatest_one() -> None:
    assert await ask(cascade([saying([0.1, 0.9], 0.2), Place("l")], 0.5), "x", "y") == [[0.1, 0.9], "l:y"]
    with pytest.raises(HandlerFailed):
        await ask(cascade([saying({"q": 1}), Place("l")], 0.5, "p"), "x")


async def test_an_ensemble_merges() -> None:
    members: dict[str, Any] = {"a": saying([1, 2]), "b": saying([3, 4]), "c": saying([3, 4])}
    assert await ask(ensemble(members), 1) == [{"a": [1, 2], "b": [3, 4], "c": [3, 4]}]
    assert await ask(ensemble(members, "vote"), 1) == [[3, 4]]
    assert await ask(ensemble({"a": saying([1, 2]), "b": saying([3, 6])}, "mean"), 1) == [[2, 4]]
    assert await ask(ensemble({"a": saying({"p": 1}), "b": saying({"p": 3})}, "mean"), 1) == [{"p": 2}]
    assert await ask(ensemble(members, lambda row: sum(row["a"])), 1) == [3]


async def test_an_optional_member_may_fail_and_no_other() -> None:
    members: dict[str, Any] = {"a": Place("a"), "b": Place("b", Unavailable("gone"))}
    assert await ask(ensemble(members, "object", {"b"}), 1) == [{"a": "a:1", "b": None}]
    with pytest.raises(Unavailable):
        await ask(ensemble(members), 1)


@pytest.mark.parametrize("error", [Unavailable("x"), TritonFailed("x"), DeadlineExceeded("x"), HandlerFailed("x")])
async def test_a_fallback_takes_the_next_on_failures(error: ListenerError) -> None:
    assert await ask(Fallback("f", [Place("a", error), Place("b")]), 1) == ["b:1"]


async def test_a_fallback_leaves_the_callers_faults() -> None:
    second = Place("b")
    with pytest.raises(BadRequest):
        await ask(Fallback("f", [Place("a", BadRequest("x")), second]), 1)
    assert second.calls == []


# limits


async def test_a_timeout_of_its_own_is_a_504_that_a_fallback_takes() -> None:
    slow = Limits("slow", Place("a", delay=5), timeout=0.02)
    with pytest.raises(DeadlineExceeded, match=r"'slow' took longer than its 0.02 s"):
        await ask(slow, 1)
    assert await ask(Fallback("f", [slow, Place("b")]), 1) == ["b:1"]


@pytest.mark.parametrize(("error", "attempts"), [(Unavailable("x"), 3), (TritonFailed("x"), 1), (BadRequest("x"), 1)])
async def test_only_what_may_go_away_is_tried_again(error: ListenerError, attempts: int) -> None:
    place = Place("a", error)
    with pytest.raises(type(error)):
        await ask(Limits("l", place, retry=2), 1)
    assert len(place.calls) == attempts


# shadow


def shadow(mirror: Any, **given: Any) -> Shadow:
    said = {"share": 1.0, "limit": 2, "compare": False, "timeout": 5.0, **given}
    return Shadow("s", Place("a"), mirror, **said)


async def test_a_mirror_gets_the_request_when_it_has_been_answered() -> None:
    mirror, later = Place("m"), list[Callable[[], None]]()
    node, stay = shadow(mirror), SimpleNamespace(after=later.append)
    assert await ask(node, 1, stay=stay) == ["a:1"]
    await asyncio.sleep(0.01)
    assert mirror.calls == []
    later[0]()
    await asyncio.sleep(0.01)
    assert (mirror.calls, node.counts) == ([[1]], Counts(answered=1))


async def test_a_mirror_that_hangs_delays_nobody_and_takes_no_more_than_its_limit() -> None:
    mirror = Place("m", delay=60)
    node = shadow(mirror)
    async with asyncio.timeout(2):
        for _ in range(5):
            assert await ask(node, 1) == ["a:1"]
            await asyncio.sleep(0)
    assert (len(mirror.calls), node.counts.dropped) == (2, 3)
    await node.close()


async def test_a_mirror_that_fails_or_differs_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.shadow")
    failing, different = shadow(Place("m", TritonFailed("broken"))), shadow(Place("m"), compare=True)
    for node in (failing, different, shadow(Place("a"), compare=True)):
        await ask(node, 1)
    await asyncio.sleep(0.01)
    assert (failing.counts, different.counts) == (Counts(failed=1), Counts(different=1))
    assert [record.getMessage() for record in caplog.records] == [
        "the mirror of 's' failed: broken",
        'the mirror of \'s\' differs in 1 of 1: predictions[0]: "a:1" and "m:1"',
    ]


# Functions of a user's


async def test_functions_run_in_threads_until_they_have_proved_short() -> None:
    threads: list[int] = []

    def slow(_: Any) -> float:
        threads.append(threading.get_ident())
        time.sleep(0.01)
        return 1.0

    for node in (cascade([Place("a"), Place("b")], 0.5, slow), ensemble({"a": Place("a")}, slow)):
        for _ in range(3):
            await ask(node, 1)
    assert len(threads) == 6
    assert threading.get_ident() not in threads


async def test_functions_may_be_async_and_take_the_context() -> None:
    async def score(prediction: Json, context: Context) -> Json:
        await asyncio.sleep(0)
        return context.parameters["score"]

    node = cascade([Place("a"), Place("b")], 0.5, score)
    assert await ask(node, 1, parameters={"score": 0.4}) == ["b:1"]
    assert await ask(node, 1, parameters={"score": 0.6}) == ["a:1"]


async def test_a_function_of_pythons_own_will_do() -> None:
    assert await ask(cascade([saying([0.1, 0.9]), Place("b")], 0.5, max), 1) == [[0.1, 0.9]]
    assert await ask(ensemble({"a": saying(3), "b": saying(5)}, lambda row: sorted(row.values())), 1) == [[3, 5]]


@pytest.mark.parametrize("score", [None, "high", object()])
async def test_a_score_that_cannot_be_compared_fails_the_request(score: Any) -> None:
    with pytest.raises(HandlerFailed, match="failed in score"):
        await ask(cascade([Place("a"), Place("b")], 0.5, lambda _: score), 1)


@pytest.mark.parametrize(
    ("value", "case"),
    [
        (1.0, "1"),
        ([1.0], "1"),
        ([["a"]], "a"),
        (np.array([2], np.float32), "2"),
        (np.float64(0.5), "0.5"),
        ([1, 2], "[1,2]"),
    ],
)
async def test_a_value_is_compared_as_json_writes_it(value: Json, case: str) -> None:
    node = switch(From("field", "k"), {case: Place("right")}, Place("other"))
    (said,) = await ask(node, {"k": value})
    assert said.startswith("right:")


async def test_a_shadow_hands_on_the_stream_of_its_node_and_mirrors_it_once() -> None:
    class Telling:
        async def __call__(self, call: Call) -> Reply:
            raise NotImplementedError

        async def stream(self, call: Call) -> Any:
            for word in call.instances[0]:
                yield word

    mirror = Place("m")
    node = Shadow("w", Telling(), mirror, 1.0, 1, True, 5.0)
    for _ in range(2):
        async with contextlib.aclosing(stream(node, Call(["xyz"]))) as pieces:
            assert [piece async for piece in pieces] == ["x", "y", "z"]
        await asyncio.sleep(0.05)
    assert (mirror.calls, node.counts) == ([["xyz"], ["xyz"]], Counts(answered=2))


async def test_a_stream_that_is_left_is_not_mirrored_and_gives_its_place_back() -> None:
    class Telling:
        async def __call__(self, call: Call) -> Reply:
            raise NotImplementedError

        async def stream(self, call: Call) -> Any:
            while True:
                yield 1

    mirror = Place("m")
    node = Shadow("w", Telling(), mirror, 1.0, 1, False, 5.0)
    for _ in range(3):
        async with contextlib.aclosing(stream(node, Call(["x"]))) as pieces:
            assert await anext(pieces) == 1
    await asyncio.sleep(0.05)
    assert (mirror.calls, node.counts) == ([], Counts())


async def test_dropped_copies_are_told_by_the_log(caplog: pytest.LogCaptureFixture) -> None:
    node = Shadow("w", Place("a"), Place("m", delay=1.0), 1.0, 1, False, 5.0)
    for n in range(4):
        await ask(node, n)
    assert node.counts.dropped == 3
    assert [record.getMessage() for record in caplog.records] == [
        "'w' has dropped 1 copies for its mirror so far: 1 are on their way"
    ]
    await node.close()
