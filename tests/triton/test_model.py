"""Splitting, checking and joining around the client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.call import Arrays
from listener.errors import TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorError, TensorSpec
from listener.triton.client import TritonClient
from listener.triton.codec import Codec
from listener.triton.model import Model, _side_by_side


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


async def test_a_cancellation_wins_over_a_failure_of_the_same_moment() -> None:
    calls = [asyncio.get_running_loop().create_future() for _ in range(2)]

    async def wait(call: asyncio.Future[None]) -> None:
        await call

    whole = asyncio.create_task(_side_by_side([partial(wait, call) for call in calls]))
    await asyncio.sleep(0.01)
    calls[0].set_exception(TritonFailed("the model failed"))
    await asyncio.sleep(0)  # the first call has failed, which is not known further up yet
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert calls[1].cancelled()


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


def test_a_model_that_was_never_read_is_not_ready() -> None:
    with pytest.raises(Unavailable):
        _ = Model("m", Recorder(1)).spec
