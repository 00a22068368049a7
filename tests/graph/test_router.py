"""Nodes: one handler's predict, and the choice among routes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from listener.call import Call, Columns, Context, Numbers, Reply, Rows
from listener.errors import BadRequest, HandlerFailed, InstanceError, ListenerError, Unavailable, UnknownModel
from listener.graph.router import Router
from listener.graph.step import Step
from listener.handler import Handler
from listener.pool import Pool
from listener.tensors import ModelSpec, TensorSpec
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


async def test_where_there_are_several_routes_each_request_counts_for_its_own() -> None:
    """On every way to a route; where there is one alone, nobody else could want the permits."""
    reply, models = Reply([1]), FakeModels(m=("1",))
    steps = {name: step(name, Answering(reply)) for name in ("a", "b")}
    counted = list[str]()
    stay: Any = SimpleNamespace(share=counted.append, took=lambda branch, model: None, route="")
    for names, seen in ((("a", "b"), ["a", "b", "b", "m"]), (("a",), [])):
        counted.clear()
        router = Router({name: steps[name] for name in names}, "a", models, RELAY, Pool(1))
        await router(Call([1], Context(stay=stay)))
        if len(names) > 1:
            await router(Call([1], Context(parameters={"model": "b"}, stay=stay)))
            await router.choose_step(Call([1], Context(model="b", stay=stay)))
        router.share(stay, "m")
        await router(Call([1], Context()))  # a warm-up, which nobody is answered
        assert counted == seen


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
    found, _ = await router(default="", routes="", m=("1",)).choose_step(Call([1]))
    assert (found.name, found.model) == ("m", "m")


async def test_without_a_default_a_request_has_to_choose() -> None:
    with pytest.raises(BadRequest, match=r"^there is no default model; say one in parameters\.model: 'a', 'b', 'm'$"):
        await router(default="", m=("1",))(Call([1]))


async def test_a_repository_without_models_serves_none() -> None:
    with pytest.raises(BadRequest, match=r"^the model repository has no models$"):
        await router(default="", routes="")(Call([1]))


async def test_a_model_that_no_route_names_is_served_without_a_handler() -> None:
    routes = router(m=("1",))
    found, _ = await routes.choose_step(asking(model="m"))
    assert type(found.handler) is Handler
    assert routes.names() == ["a", "b", "m"]


async def test_of_a_version_of_a_route_its_model_is_asked() -> None:
    steps = {"r": step("r", Named("r", model="m"))}
    routes = Router(steps, "r", FakeModels(m=("1", "2")), RELAY, Pool(1))
    assert (await routes(asking(version=2))).predictions == ["r2"]
    with pytest.raises(BadRequest, match=r"^parameters\.version: model 'm' has no version 3; it has 1, 2$"):
        await routes(asking(version=3))


async def test_the_step_of_a_model_without_route_is_kept_as_long_as_the_model_is() -> None:
    models = FakeModels(m=("1",))
    routes = Router({}, "", models, RELAY, Pool(1))
    kept = FakeModel("m")
    with mock.patch.object(models, "find", return_value=kept):
        first, again = [await routes.step("m", Context()) for _ in range(2)]
    assert first is again
    with mock.patch.object(models, "find", return_value=FakeModel("m")):
        assert await routes.step("m", Context()) is not first


async def test_a_model_that_is_not_ready_is_no_unknown_one() -> None:
    models = FakeModels(m=("1",))
    routes = Router({}, "", models, RELAY, Pool(1))
    with mock.patch.object(models, "find", side_effect=Unavailable("later")), pytest.raises(Unavailable):
        await routes(asking(model="m"))


# Streams


class Telling(Handler):
    """Yields what its instance tells it to."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.seen: list[Call] = []

    async def predict(self, call: Call) -> Any:
        self.seen.append(call)
        try:
            for word in call.instances[0]:
                match word:
                    case "bug":
                        raise ValueError("a secret")
                    case "exit":
                        raise SystemExit(1)
                    case "cancelled":
                        raise asyncio.CancelledError
                    case "bad":
                        raise InstanceError("is bad")
                    case "third is bad":
                        raise InstanceError("is bad", 3)
                    case "later":
                        raise Unavailable("later")
                    case "wait":
                        await asyncio.sleep(9)
                yield word
        except GeneratorExit:
            self.ended.append("left")
            raise
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            self.ended.append("ended")


class Unclosable(Handler):
    async def predict(self, call: Call) -> Any:
        try:
            yield 1
        finally:
            raise KeyError("a secret")


async def told(handler: Handler, *instances: Any) -> list[Any]:
    found = []
    async for event in step("r", handler).stream(Call(instances)):
        found.append(event)
    return found


async def test_a_generators_events_come_as_it_yields_them() -> None:
    handler = Telling()
    assert await told(handler, ["a", 1, None, {"b": [2]}]) == ["a", 1, None, {"b": [2]}]
    assert handler.ended == ["ended"]


async def test_a_generator_may_yield_nothing() -> None:
    assert await told(Telling(), []) == []
    assert (await step("r", Telling())(Call([[], ["a"]]))).predictions == [[], ["a"]]


async def test_without_events_a_prediction_is_their_list_and_each_instance_is_alone() -> None:
    handler = Telling()
    assert (await step("r", handler)(Call([["a", "b"], ["c"]]))).predictions == [["a", "b"], ["c"]]
    assert [call.instances for call in handler.seen] == [[["a", "b"]], [["c"]]]
    assert handler.ended == ["ended"] * 2


@pytest.mark.parametrize("instances", [[["a"], ["b"]], [["a"]] * 3])
async def test_events_are_those_of_one_instance(instances: list[Any]) -> None:
    with pytest.raises(BadRequest, match=r"^a stream answers one instance, and the request has [23]$"):
        await told(Telling(), *instances)


async def test_any_other_handler_has_one_event() -> None:
    assert await told(Answering(Reply([1, 2])), "a", "b") == [{"predictions": [1, 2]}]


@pytest.mark.parametrize("first", [[], ["fine"]], ids=["before the first", "after it"])
@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("bug", HandlerFailed, "the handler of 'r' failed in predict; the log has the reason"),
        ("exit", HandlerFailed, "the handler of 'r' failed in predict; the log has the reason"),
        ("cancelled", HandlerFailed, "the handler of 'r' failed in predict; the log has the reason"),
        ("bad", InstanceError, "instances[0]: is bad"),
        ("third is bad", InstanceError, "instances[3]: is bad"),
        ("later", Unavailable, "later"),
    ],
)
async def test_a_generators_failure_is_that_of_its_handler(
    first: list[str], word: str, kind: type[ListenerError], sentence: str
) -> None:
    """Alike in a stream and where its events are collected."""
    found = []
    with pytest.raises(ListenerError) as caught:
        async for event in step("r", Telling()).stream(Call([[*first, word]])):
            found.append(event)
    assert found == first
    assert (type(caught.value), caught.value.message) == (kind, sentence)
    with pytest.raises(ListenerError) as caught:
        await step("r", Telling())(Call([[*first, word]]))
    assert (type(caught.value), caught.value.message) == (kind, sentence)


async def test_the_instance_that_is_bad_is_named() -> None:
    with pytest.raises(InstanceError, match=r"^instances\[1\]: is bad$"):
        await step("r", Telling())(Call([["a"], ["a", "bad"], ["bad"]]))


async def test_whoever_leaves_a_stream_ends_the_generator() -> None:
    handler = Telling()
    async with contextlib.aclosing(step("r", handler).stream(Call([["a", "b"]]))) as events:
        assert await anext(events) == "a"
    assert handler.ended == ["left", "ended"]


async def test_a_cancellation_reaches_the_generator() -> None:
    handler = Telling()
    for asked in (told(handler, ["wait"]), step("r", handler)(Call([["wait"]]))):
        task = asyncio.ensure_future(asked)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert handler.ended == ["cancelled", "ended"] * 2


async def test_a_generator_that_fails_when_it_is_closed_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HandlerFailed):
        async with contextlib.aclosing(step("r", Unclosable()).stream(Call(["a"]))) as events:
            assert await anext(events) == 1
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "instances",
    [
        Numbers((2, 1), memoryview(bytes(16)), lambda: [[1], [1]]),
        Columns([[1], [1]], lambda: [[1], [1]]),
        Rows(np.ones((2, 1), np.int8)),
        [memoryview(b"a"), memoryview(b"b")],
    ],
    ids=["numbers", "columns", "rows", "views"],
)
async def test_a_handler_of_whole_requests_gets_a_list(instances: Any) -> None:
    """Which it may change, and hold on to."""
    seen: list[Any] = []

    class Seeing(Handler):
        async def predict(self, call: Call) -> Reply:
            seen.append(call.instances)
            return Reply([*call.instances])

    await step("r", Seeing())(Call(instances))
    assert type(seen[0]) is list
    assert not any(isinstance(instance, memoryview) for instance in seen[0])
    assert len(seen[0]) == 2


# Decoupled models


def decoupled_step(handler: Handler) -> Step:
    spec = ModelSpec("m", (TensorSpec("X", "BYTES", (1,)),), (), 0, decoupled=True)
    model = FakeModel("m")
    model.spec = spec
    handler.bind("r", "m", {"m": model}, Pool(1))  # type: ignore[dict-item]
    return step("r", handler)


def test_a_decoupled_model_counts_as_one_without_a_handler_only() -> None:
    assert decoupled_step(Handler()).is_decoupled
    assert not decoupled_step(Telling()).is_decoupled


async def test_what_is_streamed_from_triton() -> None:
    found = decoupled_step(Handler())
    context = Context(parameters={"model": "r", "n": 1}, version="2")
    said = {"X": "b", "parameters": {"model": "r", "n": 1}}
    path = "/v2/models/m/versions/2/generate_stream"
    assert found.generate_request(Call((), context), said) == (path, b'{"X":"b","parameters":{"n":1}}')
    with pytest.raises(BadRequest, match="a stream answers one instance, and the request has 2"):
        await anext(found.stream(Call(["a", "b"], context)))
