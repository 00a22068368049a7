"""Nodes: one handler's predict, and the choice among routes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from listener.call import Call, Context, Reply
from listener.errors import BadRequest, HandlerFailed, Unavailable, UnknownModel
from listener.graph import Router, Step
from listener.handler import Handler
from listener.pool import Pool
from listener.tensors import ModelSpec
from listener.triton.relay import Relay

#: To nowhere.
RELAY = Relay("http://127.0.0.1:1", "http://127.0.0.1:1")


def step(name: str, handler: Handler) -> Step:
    return Step(name, handler, RELAY)


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
    assert await step("r", Answering(reply))(Call(["a", "b"])) is reply


@pytest.mark.parametrize("error", [BadRequest("no"), Unavailable("later")], ids=["400", "503"])
async def test_errors_of_the_family_pass_a_step(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await step("r", Answering(error))(Call([1]))
    assert caught.value is error
    assert caplog.records == []


async def test_any_other_error_becomes_a_fixed_sentence(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("secret")
    with pytest.raises(HandlerFailed) as caught:
        await step("r", Answering(error))(Call([1]))
    assert caught.value.message == "the handler of 'r' failed in predict; the log has the reason"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("listener.handler", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("result", [Reply([1]), Reply([]), [1, 2], None], ids=["too few", "none", "a list", "nothing"])
async def test_a_wrong_number_of_predictions_has_failed(caplog: pytest.LogCaptureFixture, result: Any) -> None:
    with pytest.raises(HandlerFailed, match="'r' failed in predict"):
        await step("r", Answering(result))(Call([1, 2]))
    assert "for 2 instances" in caplog.text


# The choice


class Named(Handler):
    """Its predictions are its name, and the version that was asked for."""

    def __init__(self, name: str, model: str = "") -> None:
        self.name, self.model = name, model or name

    async def predict(self, call: Call) -> Reply:
        return Reply([f"{self.name}{call.context.version}" for _ in call.instances])


class FakeModels:
    """Models that no route names, and versions of all."""

    def __init__(self, **versions: tuple[str, ...]) -> None:
        self.known = versions

    def names(self) -> list[str]:
        return list(self.known)

    async def find(self, name: str) -> Any:
        return FakeModel(name) if name in self.known else None

    async def versions(self, name: str) -> tuple[str, ...]:
        return self.known.get(name, ())

    async def has_version(self, name: str, version: str) -> bool:
        return version in self.known.get(name, ())


class FakeModel:
    def __init__(self, name: str) -> None:
        self.spec = ModelSpec(name, (), (), 0)


def router(default: str = "b", routes: str = "ab", **models: tuple[str, ...]) -> Router:
    steps = {name: step(name, Named(name)) for name in routes}
    return Router(steps, default, FakeModels(**models), RELAY, Pool(1))


def asking(**parameters: Any) -> Call:
    return Call([1], Context(parameters=parameters))


@pytest.mark.parametrize(
    ("call", "expected"),
    [(asking(model="a"), "a"), (asking(model="b"), "b"), (asking(), "b"), (asking(other="a"), "b"), (Call([1]), "b")],
    ids=["a", "b", "default", "other parameters", "no context"],
)
async def test_the_request_chooses_its_route(call: Call, expected: str) -> None:
    assert (await router()(call)).predictions == [expected]


@pytest.mark.parametrize("name", ["", 1, True, ["a"], {"a": 1}], ids=repr)
async def test_what_is_no_name_is_the_callers_fault(name: Any) -> None:
    with pytest.raises(BadRequest, match=r"^parameters\.model is not the name of a route or model$"):
        await router()(asking(model=name))


async def test_null_is_no_choice() -> None:
    assert (await router()(asking(model=None, version=None))).predictions == ["b"]


@pytest.mark.parametrize("name", ["c", "A", "x" * 10_000])
async def test_an_unknown_name_is_the_callers_fault_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await router(m=("1",))(asking(model=name))
    assert type(caught.value) is BadRequest
    assert caught.value.message == f"parameters.model: no route or model {name[:100]!r}; there are 'a', 'b', 'm'"


async def test_the_path_wins_and_what_it_does_not_find_is_not_there() -> None:
    call = Call([1], Context(model="a", parameters={"model": "b"}))
    assert (await router()(call)).predictions == ["a"]
    with pytest.raises(UnknownModel, match=r"^no route or model 'c'; there are 'a', 'b'$"):
        await router()(Call([1], Context(model="c")))


@pytest.mark.parametrize("version", [2, 2.0, "2", "02"])
async def test_a_version_is_a_number_however_it_is_said(version: Any) -> None:
    reply = await router(a=("1", "2"))(asking(model="a", version=version))
    assert reply.predictions == ["a2"]


@pytest.mark.parametrize("version", [2.5, -1, True, "", "x", "1.0", "\u0663", [1], "9" * 30])
async def test_what_is_no_version_is_the_callers_fault(version: Any) -> None:
    with pytest.raises(BadRequest, match=r"^parameters\.version is not the number of a version$"):
        await router(b=("1",))(asking(version=version))


async def test_an_unknown_version_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(BadRequest, match=r"^parameters\.version: model 'b' has no version 3; it has 1, 2$"):
        await router(b=("1", "2"))(asking(version=3))
    with pytest.raises(UnknownModel, match=r"^model 'b' has no version 3; it has 1, 2$"):
        await router(b=("1", "2"))(Call([1], Context(model="b", version="3")))


async def test_the_only_name_is_the_default() -> None:
    assert (await router(default="", routes="a")(Call([1]))).predictions == ["a"]
    found, _ = await router(default="", routes="", m=("1",)).choose(Call([1]))
    assert (found.name, found.model) == ("m", "m")


async def test_without_a_default_a_request_has_to_choose() -> None:
    with pytest.raises(BadRequest, match=r"^there is no default model; say one in parameters\.model: 'a', 'b', 'm'$"):
        await router(default="", m=("1",))(Call([1]))


async def test_a_repository_without_models_serves_none() -> None:
    with pytest.raises(BadRequest, match=r"^the model repository has no models$"):
        await router(default="", routes="")(Call([1]))


async def test_a_model_that_no_route_names_is_served_without_a_handler() -> None:
    routes = router(m=("1",))
    found, _ = await routes.choose(asking(model="m"))
    assert type(found.handler) is Handler
    assert routes.names() == ["a", "b", "m"]
