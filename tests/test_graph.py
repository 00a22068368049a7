"""Nodes: one handler's predict, and the choice among routes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from listener import graph
from listener.call import Call, Context, Reply
from listener.errors import BadRequest, HandlerFailed, Unavailable
from listener.handler import Handler


class Answering(Handler):
    """Its predict returns, or raises, what it was given."""

    def __init__(self, result: Any) -> None:
        self.result = result

    async def predict(self, call: Call) -> Reply:
        if isinstance(self.result, Exception):
            raise self.result
        result: Reply = self.result
        return result


# A step


async def test_a_step_hands_on_what_the_handler_says() -> None:
    reply = Reply([1, 2])
    assert await graph.step("r", Answering(reply))(Call(["a", "b"])) is reply


@pytest.mark.parametrize("error", [BadRequest("no"), Unavailable("later")], ids=["400", "503"])
async def test_errors_of_the_family_pass_a_step(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await graph.step("r", Answering(error))(Call([1]))
    assert caught.value is error
    assert caplog.records == []


async def test_any_other_error_becomes_a_fixed_sentence(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("secret")
    with pytest.raises(HandlerFailed) as caught:
        await graph.step("r", Answering(error))(Call([1]))
    assert caught.value.message == "the handler of 'r' failed in predict; the log has the reason"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("listener.handler", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("result", [Reply([1]), Reply([]), [1, 2], None], ids=["too few", "none", "a list", "nothing"])
async def test_a_wrong_number_of_predictions_has_failed(caplog: pytest.LogCaptureFixture, result: Any) -> None:
    with pytest.raises(HandlerFailed, match="'r' failed in predict"):
        await graph.step("r", Answering(result))(Call([1, 2]))
    assert "for 2 instances" in caplog.text


# The choice


def named(name: str) -> graph.Node:
    async def node(call: Call) -> Reply:
        return Reply([name for _ in call.instances])

    return node


ROUTES = graph.by_route({"a": named("a"), "b": named("b")}, "b")


def asking(**parameters: Any) -> Call:
    return Call([1], Context(parameters=parameters))


@pytest.mark.parametrize(
    ("call", "expected"),
    [(asking(model="a"), "a"), (asking(model="b"), "b"), (asking(), "b"), (asking(other="a"), "b"), (Call([1]), "b")],
    ids=["a", "b", "default", "other parameters", "no context"],
)
async def test_the_request_chooses_its_route(call: Call, expected: str) -> None:
    assert (await ROUTES(call)).predictions == [expected]


@pytest.mark.parametrize("name", ["c", "", "A", 1, True, ["a"], {"a": 1}], ids=repr)
async def test_an_unknown_route_is_the_callers_fault_and_the_known_ones_are_named(name: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        await ROUTES(asking(model=name))
    assert caught.value.message.startswith("parameters.model: ")
    assert caught.value.message.endswith("the routes are 'a', 'b'")


async def test_a_monstrous_name_is_the_callers_fault_too() -> None:
    name: Any = "a"
    for _ in range(1000):  # about as deep as the JSON parser lets it be
        name = [name]
    with pytest.raises(BadRequest, match=r"^parameters\.model: "):
        await ROUTES(asking(model=name))


async def test_a_long_name_does_not_push_out_the_known_ones() -> None:
    with pytest.raises(BadRequest, match=r"the routes are 'a', 'b'$"):
        await ROUTES(asking(model="x" * 10_000))


async def test_a_choice_can_stand_within_a_choice() -> None:
    inner = graph.by_route({"a": named("inner a"), "x": named("x")}, "x")
    outer = graph.by_route({"a": inner, "z": named("z")}, "z")
    assert (await outer(asking(model="a"))).predictions == ["inner a"]
