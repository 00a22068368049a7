"""Models with any number of responses, served without a handler: docs/reference/contract.md, "Streaming"."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener import decoupled
from listener.call import Call, Context, Rows
from listener.errors import BadRequest, InstanceError, InstancesFailed, ListenerError, TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorSpec
from listener.testing import FakeModel, FakeTriton
from listener.triton.paths import generate_path
from listener.triton.relay import Relay


def spec(inputs: str = "X", outputs: str = "Y") -> ModelSpec:
    ins, outs = (tuple(TensorSpec(name, "BYTES", (1,)) for name in names.split()) for names in (inputs, outputs))
    return ModelSpec("m", ins, outs, 0, decoupled=True)


def body(instance: Any, **parameters: Any) -> Any:
    call = Call([instance], Context(parameters=parameters)).plain()
    return orjson.loads(decoupled.generate_body(call, 0, spec()))


# The request


@pytest.mark.parametrize(
    ("model", "version", "stream", "path"),
    [
        ("m", "", True, "/v2/models/m/generate_stream"),
        ("m", "2", True, "/v2/models/m/versions/2/generate_stream"),
        ("m", "", False, "/v2/models/m/generate"),
        ("a b/c?", "", True, "/v2/models/a%20b%2Fc%3F/generate_stream"),
    ],
)
def test_the_path_is_tritons(model: str, version: str, stream: bool, path: str) -> None:
    assert generate_path(model, version, stream) == path


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        ("one", {"X": "one"}),
        ({"X": "one"}, {"X": "one"}),
        (5, {"X": 5}),
        ([["a"], ["b"]], {"X": [["a"], ["b"]]}),
        (b"raw \xc3\xa4", {"X": "raw ä"}),
        (memoryview(b"raw"), {"X": "raw"}),
        ({"X": [b"a", "b"]}, {"X": ["a", "b"]}),
        ({"X": {"deep": [b"a"]}}, {"X": {"deep": ["a"]}}),
        (None, {"X": None}),
        (np.array(["a", "b"]), {"X": ["a", "b"]}),
        (np.array([[1, 2]], np.int8), {"X": [[1, 2]]}),
        (np.array(0.5, np.float32), {"X": 0.5}),
        (np.array([b"a"]), {"X": ["a"]}),
        ({}, {}),
    ],
)
def test_an_instance_is_inputs_by_name(instance: Any, said: dict[str, Any]) -> None:
    assert body(instance) == {**said, "parameters": {}}


def test_parameters_go_with_it_but_for_the_choice_of_a_model() -> None:
    given = {"model": "m", "version": 2, "top_k": 3, "temperature": 0.5, "n": [1]}
    assert body("a", **given) == {"X": "a", "parameters": {"temperature": 0.5, "n": [1]}}


@pytest.mark.parametrize(
    ("instance", "inputs", "sentence"),
    [
        ({"Z": 1}, "X", "unknown input 'Z' of model 'm'"),
        ("a", "A B", "is not an object; model 'm' has several inputs"),
        (b"\xff", "X", "input 'X' is no UTF-8, which this model's requests have to be"),
        ({"X": [["a", b"\xff"]]}, "X", "input 'X' is no UTF-8, which this model's requests have to be"),
        ({"X": {"a": b"\xff"}}, "X", "input 'X' is no UTF-8, which this model's requests have to be"),
        (np.array([b"\xff"]), "X", "input 'X' is no UTF-8, which this model's requests have to be"),
        (orjson.loads("[" * 900 + "]" * 900), "X", "input 'X' is nested deeper than 100 levels"),
    ],
)
def test_what_cannot_be_said_to_the_model_is_named(instance: Any, inputs: str, sentence: str) -> None:
    with pytest.raises(InstanceError) as caught:
        decoupled.generate_body(Call(["fine", instance]), 1, spec(inputs))
    assert caught.value.message == f"instances[1]: {sentence}"


DEEP = orjson.loads("[" * 400 + "]" * 400)


def test_what_can_be_read_and_not_written_again_is_refused() -> None:
    for write in (lambda: body("a", deep=DEEP), lambda: decoupled.passed_on({"text_input": DEEP})):
        with pytest.raises(BadRequest, match=r"^the request cannot be passed on: "):
            write()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("aä") | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=6,
)


@given(JSON)
def test_any_instance_is_said_or_refused(instance: Any) -> None:
    with contextlib.suppress(InstanceError):
        assert body({"X": instance}).keys() == {"X", "parameters"}


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ({"text_input": "a"}, {"text_input": "a"}),
        (
            {"text_input": "a", "id": "4", "parameters": {"model": "m", "version": 1, "n": 2}},
            {"text_input": "a", "id": "4", "parameters": {"n": 2}},
        ),
        ({"parameters": None}, {"parameters": None}),
        ({"parameters": [1]}, {"parameters": [1]}),
        ({}, {}),
    ],
)
def test_tritons_own_form_is_passed_on_without_the_choice(said: dict[str, Any], passed: Any) -> None:
    assert orjson.loads(decoupled.passed_on(said)) == passed


def test_a_stream_answers_one_instance() -> None:
    assert decoupled.only_one(Call([memoryview(b"a")])).instances == [b"a"]
    for instances in ([1, 2], Rows(np.ones((3, 1)))):
        with pytest.raises(BadRequest, match=rf"^a stream answers one instance, and the request has {len(instances)}$"):
            decoupled.only_one(Call(instances))


# Its answers, collected


class Talking(FakeTriton):
    """Its model says each word of X by itself; some words do something else.

    Attributes:
        at_once: the most requests that it had at a time.
        ended: how many of its generators have come to an end.
    """

    at_once = ended = inside = 0

    def __init__(self, outputs: str = "Y") -> None:
        shapes = {name: ("BYTES", [1]) for name in outputs.split()}
        super().__init__({"m": FakeModel({"X": ("BYTES", [1])}, shapes, dict, 0, events=self.talk)})

    async def talk(self, given: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        self.inside += 1
        self.at_once = max(self.at_once, self.inside)
        try:
            for word in given["X"].split():
                await asyncio.sleep(0.01)
                if word == "fail":
                    raise ValueError("failed in between")
                if word == "wait":
                    await asyncio.sleep(9)
                yield {"Y": word, "sequence_id": 0, **({"Z": len(word)} if "Z" in self.models["m"].outputs else {})}
        finally:
            self.inside -= 1
            self.ended += 1


@contextlib.asynccontextmanager
async def relaying(fake: FakeTriton) -> AsyncIterator[Relay]:
    async with fake.running() as url:
        relay = Relay(url, url)
        await relay.open()
        try:
            async with asyncio.timeout(20):
                yield relay
        finally:
            await relay.close()


async def collected(fake: FakeTriton, *instances: Any, of: ModelSpec | None = None) -> Any:
    async with relaying(fake) as relay:
        return (await decoupled.collect(relay, Call(instances), of or spec())).predictions


async def test_a_prediction_is_the_list_of_an_instances_responses() -> None:
    made = await collected(Talking(), "one two three", {"X": "four"}, "", b"five six")
    assert made == [["one", "two", "three"], ["four"], [], ["five", "six"]]


async def test_of_several_outputs_a_response_is_an_object() -> None:
    made = await collected(Talking("Y Z"), "one two", of=spec(outputs="Y Z"))
    assert made == [[{"Y": "one", "Z": 3}, {"Y": "two", "Z": 3}]]


async def test_a_few_instances_are_asked_for_at_a_time() -> None:
    fake = Talking()
    made = await collected(fake, *(f"w{number}" for number in range(40)))
    assert made == [[f"w{number}"] for number in range(40)]
    assert 1 < fake.at_once <= 8


@pytest.mark.parametrize(
    ("instances", "kind", "sentence"),
    [
        (["fine", "fail"], BadRequest, "model 'm': failed in between"),
        (["a fail"], TritonFailed, "model 'm' failed in the middle of its answer"),
        (
            ["fine", b"\xff"],
            InstanceError,
            "instances[1]: input 'X' is no UTF-8, which this model's requests have to be",
        ),
    ],
)
async def test_a_failure_is_that_of_the_request(instances: list[Any], kind: type[ListenerError], sentence: str) -> None:
    with pytest.raises(ListenerError) as caught:
        await collected(Talking(), *instances)
    assert (type(caught.value), caught.value.message) == (kind, sentence)


def half_bad(count: int) -> Call:
    return Call([b"\xff" if index % 2 else "good" for index in range(count)], alone=True)


async def test_where_instances_fail_alone_all_that_cannot_be_said_are_named_at_once() -> None:
    fake = Talking()
    async with relaying(fake) as relay:
        with pytest.raises(InstancesFailed) as caught:
            await decoupled.collect(relay, half_bad(3000), spec())
    assert [error.index for error in caught.value.errors] == list(range(1, 3000, 2))
    told = "input 'X' is no UTF-8, which this model's requests have to be"
    assert (caught.value.message, {error.reason for error in caught.value.errors}) == (f"instances[1]: {told}", {told})
    assert fake.at_once == 0


async def test_others_have_their_turn_while_many_requests_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoupled, "_TURN", 0)
    turns = 0

    async def counting() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with relaying(Talking()) as relay:
        task = asyncio.create_task(counting())
        with pytest.raises(InstancesFailed):
            await decoupled.collect(relay, half_bad(200), spec())
        task.cancel()
    assert turns > 100


async def test_the_first_failure_ends_the_others() -> None:
    fake = Talking()
    async with asyncio.timeout(5):
        with pytest.raises(BadRequest):
            await collected(fake, "wait", "fail", "wait")
    assert (fake.inside, fake.ended) == (0, 3)


async def test_what_triton_said_of_a_failure_is_for_the_log() -> None:
    with pytest.raises(TritonFailed) as caught:
        await collected(Talking(), "a fail")
    assert caught.value.__notes__ == ["failed in between"]


async def test_whoever_gives_up_ends_the_call() -> None:
    fake = Talking()
    async with relaying(fake) as relay:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await decoupled.collect(relay, Call(["wait", "a wait"]), spec())
        async with asyncio.timeout(5):
            while fake.ended < 2:
                await asyncio.sleep(0.01)


async def test_an_output_may_be_called_error() -> None:
    async def events(given: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        yield {"error": "no error", "id": "5"}

    model = FakeModel({"X": ("BYTES", [1])}, {"error": ("BYTES", [1]), "id": ("BYTES", [1])}, dict, 0, events=events)
    made = await collected(FakeTriton({"m": model}), "a", of=spec(outputs="error id"))
    assert made == [[{"error": "no error", "id": "5"}]]


async def test_a_model_that_is_gone_is_tritons_word() -> None:
    with pytest.raises(BadRequest, match=r"^model 'm': Request for unknown model: 'm' is not found$"):
        await collected(FakeTriton(), "a")


async def test_a_triton_that_is_gone_is_unavailable() -> None:
    relay = Relay("http://127.0.0.1:1", "http://127.0.0.1:1")
    await relay.open()
    with pytest.raises(Unavailable):
        await decoupled.collect(relay, Call(["a", "b"]), spec())
    await relay.close()
