"""Splitting, checking and joining around the client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.call import Arrays
from listener.errors import DeadlineExceeded, TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorError, TensorSpec
from listener.testing import FakeModel, FakeTriton
from listener.triton import model as under_test
from listener.triton.client import TritonClient
from listener.triton.codec import Codec
from listener.triton.model import Model


class Recorder(TritonClient):
    """Answers with twice the input, later calls first; fails for a batch that holds -1."""

    def __init__(self, max_batch_size: int) -> None:
        super().__init__("http://127.0.0.1:1")
        self.calls: list[tuple[int, ...]] = []
        self.cancelled = 0
        self._spec = ModelSpec("m", (TensorSpec("X", "FP32", (2,)),), (TensorSpec("Y", "FP32", (2,)),), max_batch_size)

    async def spec(self, name: str) -> ModelSpec:
        return self._spec

    async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        arrays = groups[0] if len(groups) == 1 else {"X": np.concatenate([group["X"] for group in groups])}
        self.calls.append(arrays["X"].shape)
        if (arrays["X"] == -1).any():
            raise TritonFailed("the model failed")
        try:
            await asyncio.sleep(0.05 / len(self.calls))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"Y": arrays["X"] * 2}


async def model(max_batch_size: int) -> tuple[Model, Recorder]:
    client = Recorder(max_batch_size)
    made = Model("m", client)
    await made.read_spec()
    return made, client


@pytest.mark.parametrize(
    ("count", "max_batch_size", "calls"),
    [(1, 4, [1]), (4, 4, [4]), (5, 4, [4, 1]), (9, 4, [4, 4, 1]), (3, 1, [1, 1, 1])],
)
async def test_rows_keep_their_order_over_the_parts(count: int, max_batch_size: int, calls: list[int]) -> None:
    made, client = await model(max_batch_size)
    batch = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    outputs = await made.infer({"X": batch})
    np.testing.assert_array_equal(outputs["Y"], batch * 2)
    assert [shape[0] for shape in client.calls] == calls


async def test_a_model_without_batching_gets_each_row_alone() -> None:
    made, client = await model(0)
    outputs = await made.infer({"X": np.ones((3, 2), np.float32)})
    assert outputs["Y"].shape == (3, 2)
    assert client.calls == [(2,)] * 3


async def test_the_failure_of_a_part_ends_the_others() -> None:
    made, client = await model(1)
    batch = np.array([[1, 1], [-1, 1], [1, 1]], np.float32)
    with pytest.raises(TritonFailed):
        await made.infer({"X": batch})
    assert client.cancelled == 2


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "misses its input 'X'"),
        ({"Z": np.ones((1, 2))}, "has no input 'Z'; it takes 'X'"),
        ({"X": np.ones((1, 3))}, "has shape [1, 3], the model takes ['batch', 2]"),
        ({"X": np.float32(1)}, "has shape []"),
        ({"X": np.ones((0, 2))}, "do not share one batch dimension of at least 1"),
        ({"X": np.array([["a", "b"]])}, "is <U1, the model takes FP32"),
    ],
)
async def test_what_the_model_does_not_take_is_not_sent(arrays: dict[str, Any], sentence: str) -> None:
    made, client = await model(4)
    with pytest.raises(TensorError) as raised:
        await made.infer(arrays)
    assert sentence in str(raised.value)
    assert client.calls == []


async def test_doubles_become_floats() -> None:
    made, _ = await model(4)
    outputs = await made.infer({"X": np.ones((1, 2), np.float64)})
    assert outputs["Y"].dtype == np.float32


# Several batches


async def test_batches_of_several_kinds_go_out_side_by_side() -> None:
    made, client = await model(2)
    numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
    answers = await made.infer_batches([{"X": numbers[:3]}, {"X": numbers[3:4]}, {"X": numbers[4:]}])
    assert [[part["Y"].tolist() for part in parts] for parts in answers] == [
        [(numbers[:2] * 2).tolist(), (numbers[2:3] * 2).tolist()],
        [(numbers[3:4] * 2).tolist()],
        [(numbers[4:] * 2).tolist()],
    ]
    assert sum(shape[0] for shape in client.calls) == 5  # rows that are alike may share a call


async def test_one_wrong_batch_and_none_is_sent() -> None:
    made, client = await model(2)
    with pytest.raises(TensorError, match="has shape"):
        await made.infer_batches([{"X": np.ones((1, 2))}, {"X": np.ones((1, 3))}])
    assert client.calls == []


async def test_time_is_up_for_all_batches() -> None:
    made, _ = await model(2)
    with pytest.raises(DeadlineExceeded):
        await made.infer_batches([{"X": np.ones((1, 2))}] * 2, time.monotonic() + 0.01)


class Classifying(TritonClient):
    """Remembers what each call asked of its output, and how many rows it had; takes its time."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__("http://127.0.0.1:1")
        self.model_spec = spec
        self.calls: list[tuple[int, int]] = []

    async def spec(self, name: str) -> ModelSpec:
        return self.model_spec

    async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        head, _ = codec.request(groups)
        parameters = json.loads(head.partition(b"\r\n\r\n")[2])["outputs"][0]["parameters"]
        rows = sum(len(group["X"]) for group in groups)
        self.calls.append((parameters.get("classification", 0), rows))
        await asyncio.sleep(0.01)
        return {"Y": np.full((rows, 1), parameters.get("classification", 0))}


LABELLED = ModelSpec("m", (TensorSpec("X", "FP32", (2,)),), (TensorSpec("Y", "FP32", (2,), labelled=True),), 8)


async def test_only_requests_for_the_same_number_of_classes_share_a_call() -> None:
    client = Classifying(LABELLED)
    made = Model("m", client)
    await made.read_spec()
    row = {"X": np.ones((1, 2), np.float32)}
    wanted = [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 1, 0]
    answers = await asyncio.gather(*(made.infer_checked(row, count) for count in wanted))
    assert [part["Y"].item() for (part,) in answers] == wanted
    assert {count for count, _ in client.calls} == {0, 1, 2}
    assert max(rows for _, rows in client.calls) > 1
    assert sum(rows for _, rows in client.calls) == len(wanted)


async def test_classes_of_a_batch_that_is_cut() -> None:
    client = Classifying(replace(LABELLED, max_batch_size=2))
    made = Model("m", client)
    await made.read_spec()
    ((first, second),) = await made.infer_batches([{"X": np.ones((3, 2))}], top_k=7)
    assert (first["Y"].tolist(), second["Y"].tolist()) == ([[7], [7]], [[7]])
    assert client.calls == [(7, 2), (7, 1)]


async def test_encoders_for_classes_are_kept_but_not_all_of_them() -> None:
    client = Classifying(LABELLED)
    made = Model("m", client)
    await made.read_spec()
    row = {"X": np.ones((1, 2), np.float32)}
    for count in range(1, 40):
        ((part,),) = await made.infer_batches([row], top_k=count)
        assert part["Y"].item() == count
    assert len(made._classifying) == under_test._CODECS
    made.know(replace(LABELLED, max_batch_size=4))
    assert made._classifying == {}


# Calls without inputs


async def test_a_model_without_batching_may_be_called_without_inputs() -> None:
    async def run(inputs: dict[str, Any], batch: int) -> list[Any]:
        spec = {"A": ("FP32", [1])} if batch else {}
        fake = FakeModel(spec, {"Y": ("FP32", [1])}, lambda _: {"Y": np.ones(1)}, batch, optional=["A"])
        async with FakeTriton({"m": fake}).running() as url:
            client = TritonClient(url)
            await client.open()
            made = Model("m", client)
            await made.read_spec()
            try:
                return [part["Y"].tolist() for part in await made.infer_parts(inputs)]
            finally:
                await client.close()

    assert await run({}, 0) == [[1.0]]
    with pytest.raises(TensorError, match="do not share one batch dimension"):
        await run({}, 8)


async def test_an_answer_without_outputs_is_a_failure() -> None:
    class Silent(Recorder):
        async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
            return {}

    made = Model("m", Silent(4))
    await made.read_spec()
    with pytest.raises(TritonFailed, match="model 'm' answered without any output"):
        await made.infer({"X": np.ones((1, 2))})


def test_a_model_that_was_never_read_is_not_ready() -> None:
    with pytest.raises(Unavailable):
        _ = Model("m", Recorder(1)).spec


# Versions


class Versioned(Recorder):
    """Remembers the head of each call."""

    def __init__(self) -> None:
        super().__init__(4)
        self.paths: list[bytes] = []

    async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        head, *_ = codec.request(groups)
        self.paths.append(bytes(head).split(b" ")[1])
        return await super().infer(model, codec, groups)


async def test_a_version_is_called_by_its_own_path() -> None:
    client = Versioned()
    made = Model("m", client)
    await made.read_spec()
    row = {"X": np.ones((1, 2), np.float32)}
    for model in (made, made.at("2"), made.at("3"), made.at("2")):
        np.testing.assert_array_equal((await model.infer(row))["Y"], [[2, 2]])
    plain = b"/v2/models/m/infer"
    second, third = (b"/v2/models/m/versions/%b/infer" % version for version in (b"2", b"3"))
    assert client.paths == [plain, second, third, second]


async def test_the_version_that_a_model_is_at_is_the_model() -> None:
    made, _ = await model(4)
    assert made.at("") is made
    assert made.at("2") is made.at("2")
    assert made.at("2").at("2") is made.at("2")
    assert (made.at("2").name, made.at("2").spec) == ("m", made.spec)


async def test_requests_of_different_versions_do_not_share_a_call() -> None:
    made, client = await model(8)
    row = {"X": np.ones((1, 2), np.float32)}
    versions = [made.at(version) for version in ("", "1", "2")]
    await asyncio.gather(*(versions[number % 3].infer(row) for number in range(12)))
    assert sum(shape[0] for shape in client.calls) == 12
    assert max(shape[0] for shape in client.calls) <= 4


async def test_a_new_configuration_is_that_of_every_version() -> None:
    made, client = await model(4)
    second = made.at("2")
    client._spec = ModelSpec("m", (TensorSpec("X", "FP32", (3,)),), (TensorSpec("Y", "FP32", (3,)),), 8)
    await made.read_spec()
    assert second.spec is made.spec
    assert (await second.infer({"X": np.ones((1, 3), np.float32)}))["Y"].shape == (1, 3)


def test_a_version_of_a_model_that_was_never_read_is_not_ready() -> None:
    with pytest.raises(Unavailable):
        Model("m", Recorder(1)).at("2")


async def test_a_version_that_was_asked_for_too_early_is_there_later() -> None:
    client = Recorder(4)
    made = Model("m", client)
    with pytest.raises(Unavailable):
        made.at("2")
    await made.read_spec()
    assert made.at("2").spec is made.spec
