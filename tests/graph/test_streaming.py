"""Answers in pieces through the nodes of a graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from listener.call import Call, Context, Json, Reply
from listener.errors import BadRequest, DeadlineExceeded, InstanceError, ListenerError, TritonFailed, Unavailable
from listener.graph.fallback import Fallback
from listener.graph.limits import Limits
from listener.graph.sequence import Sequence_, passed
from listener.graph.split import Split
from listener.graph.streaming import stream
from listener.graph.switch import Switch
from listener.nodes import From
from tests.graph.made import switch


class Telling:
    """Says its words one by one; a number is a pause, an error is raised."""

    def __init__(self, *words: Any) -> None:
        self.words = words
        self.begun = self.ended = 0

    async def __call__(self, call: Call) -> Reply:
        return Reply([list(self.words)] * len(call.instances))

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        self.begun += 1
        try:
            for word in self.words:
                if isinstance(word, ListenerError):
                    raise word
                if isinstance(word, float):
                    await asyncio.sleep(word)
                else:
                    yield word
        finally:
            self.ended += 1


async def told(node: Any, *instances: Json, **said: Any) -> list[Json]:
    async with aclosing(stream(node, Call(list(instances), Context(**said)))) as pieces:
        return [piece async for piece in pieces]


def by_kind(**cases: Any) -> Switch:
    return switch(From("field", "kind"), cases, None)


async def test_a_switch_hands_on_the_stream_of_what_it_chooses() -> None:
    node = by_kind(a=Telling("x", "y"), b=passed)
    assert await told(node, {"kind": "a"}) == ["x", "y"]
    assert await told(node, {"kind": "b"}) == [{"predictions": [{"kind": "b"}]}]
    with pytest.raises(InstanceError, match="it can be a, b"):
        await told(node, {"kind": "c"})


async def test_instances_that_go_different_ways_are_one_piece() -> None:
    said = await told(by_kind(a=Telling("x", "y"), b=passed), {"kind": "a"}, {"kind": "b"})
    assert said == [{"predictions": [["x", "y"], {"kind": "b"}]}]


async def test_a_switch_asks_its_function_once() -> None:
    asked: list[Json] = []

    def function(instance: Json, context: Context) -> str:
        asked.append(instance)
        return "a"

    node = switch(From("function", function), {"a": by_kind(a=Telling("x"))}, None)
    assert await told(node, {"kind": "a"}) == ["x"]
    assert len(asked) == 1


async def test_a_split_hands_on_the_stream_of_an_arm() -> None:
    arms: dict[str, Any] = {"a": Telling("x", "y"), "b": Telling("z")}
    drawn = {tuple(await told(Split("s", {"a": 1, "b": 1}, arms), 1)) for _ in range(100)}
    assert drawn == {("x", "y"), ("z",)}
    sticky = Split("s", {"a": 1, "b": 1}, arms, From("field", "user"))
    for user in "abcdef":
        assert await told(sticky, {"user": user}) == list(arms[sticky.arm(user)].words)


async def test_other_nodes_say_their_predictions_at_once() -> None:
    assert await told(Sequence_([(Telling("x", "y"), "prediction")]), 1) == [{"predictions": [["x", "y"]]}]


@pytest.mark.parametrize("error", [Unavailable("x"), TritonFailed("x"), DeadlineExceeded("x")])
async def test_a_fallback_takes_the_next_before_the_first_piece_alone(error: ListenerError) -> None:
    last = Telling("z")
    assert await told(Fallback("f", [Telling(error), last]), 1) == ["z"]
    with pytest.raises(type(error)):
        await told(Fallback("f", [Telling("x", error), last]), 1)
    assert last.begun == 1
    with pytest.raises(BadRequest):
        await told(Fallback("f", [Telling(BadRequest("x")), last]), 1)


async def test_a_time_of_its_own_begins_anew_with_each_piece() -> None:
    assert await told(Limits("l", Telling(*[0.05, "x"] * 4), timeout=0.15), 1) == ["x"] * 4
    slow = Telling("x", 5.0)
    with pytest.raises(DeadlineExceeded, match=r"'l' took longer than its 0.05 s"):
        await told(Limits("l", slow, timeout=0.05), 1)
    assert slow.ended == 1
    assert await told(Fallback("f", [Limits("l", Telling(5.0), timeout=0.05), Telling("y")]), 1) == ["y"]


async def test_further_attempts_share_the_time_before_the_first_piece() -> None:
    class Later(Telling):
        async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
            self.begun += 1
            if self.begun < 3:
                raise Unavailable("later")
            yield "x"

    node = Later()
    assert (await told(Limits("l", node, timeout=5, retry=2), 1), node.begun) == (["x"], 3)
    with pytest.raises(Unavailable):
        await told(Limits("l", Later(), retry=1), 1)
    late = Telling("x", Unavailable("later"))
    with pytest.raises(Unavailable):
        await told(Limits("l", late, retry=5), 1)
    assert late.begun == 1


async def test_whoever_leaves_ends_the_step_behind_all_nodes() -> None:
    endless = Telling(*["x"] * 1000)
    node = Fallback("f", [Limits("l", by_kind(a=endless), timeout=5), passed])
    async with aclosing(stream(node, Call([{"kind": "a"}]))) as pieces:
        assert await anext(pieces) == "x"
        assert endless.ended == 0
    assert endless.ended == 1
