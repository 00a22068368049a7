"""What a handler makes of requests that came by columns, as an array, as bytes of some media type, or for a version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.call import Arrays, Call, Columns, Context, Rows
from listener.contract import columnar
from listener.errors import BadRequest, InstanceError, ListenerError
from listener.handler import Handler
from listener.pool import Pool
from listener.tensors import ModelSpec, TensorSpec
from listener.triton.client import TritonClient
from listener.triton.codec import Codec
from listener.triton.model import Model
from tests.test_handler import FakeModel, Tensors, doubled, floats


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1)
    yield made
    made.close()


def spec(max_batch_size: int, shape: tuple[int, ...] = (1,), datatype: str = "FP32", inputs: str = "x") -> ModelSpec:
    tensors = tuple(TensorSpec(name, datatype, shape) for name in inputs.split())
    return ModelSpec("m", tensors, (TensorSpec("y", datatype, shape),), max_batch_size)


class Running(TritonClient):
    """A function in the place of Triton, behind a real model; remembers what it was called with."""

    def __init__(self, run: Callable[[Tensors], Tensors], of: ModelSpec) -> None:
        super().__init__("http://127.0.0.1:1")
        self.calls: list[Tensors] = []
        self._run = run
        self.model = Model(of.name, self)
        self.model.know(of)

    async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> Tensors:
        (arrays,) = groups
        self.calls.append(dict(arrays))
        return self._run(dict(arrays))


def summed(arrays: Tensors) -> Tensors:
    return {"y": sum(arrays.values(), np.float32(0)).sum(axis=0)}


def bound(handler: Handler, pool: Pool, m: Any = None) -> Handler:
    handler.bind("r", "m", {"m": m or FakeModel(doubled)}, pool)
    return handler


def as_lists(predictions: Any) -> Any:
    return [item.tolist() if isinstance(item, np.ndarray) else item for item in predictions]


async def refusal(handler: Handler, call: Call) -> ListenerError:
    with pytest.raises(ListenerError) as caught:
        await handler.predict(call)
    return caught.value


# Columns


async def test_columns_of_a_model_that_batches_are_its_rows(pool: Pool) -> None:
    model = Running(doubled, spec(8))
    reply = await bound(Handler(), pool, m=model.model).predict(Call(columnar.columns([[1], [2], [3]])))
    assert (as_lists(reply.predictions), reply.whole) == ([[2], [4], [6]], False)
    assert model.calls[0]["x"].shape == (3, 1)


@pytest.mark.parametrize("value", [[[1, 2], [3, 4], [5, 6]], {"x": [[1, 2], [3, 4], [5, 6]]}])
async def test_of_one_that_does_not_they_are_the_whole_tensor(pool: Pool, value: Any) -> None:
    model = Running(summed, spec(0, (-1, 2)))
    reply = await bound(Handler(), pool, m=model.model).predict(Call(columnar.columns(value)))
    assert (as_lists(reply.predictions), reply.whole) == ([[9, 12]], True)
    assert len(model.calls) == 1


@pytest.mark.parametrize("value", [{"a": [1, 2], "b": [3]}, {"a": [1], "b": [2, 3, 4]}])
async def test_and_the_tensors_need_have_nothing_in_common(pool: Pool, value: Any) -> None:
    model = Running(lambda arrays: {"y": arrays["b"]}, spec(0, (-1,), inputs="a b"))
    reply = await bound(Handler(), pool, m=model.model).predict(Call(columnar.columns(value)))
    assert (as_lists(reply.predictions), reply.whole) == ([value["b"]], True)


async def test_whoever_overrides_the_first_hook_sees_rows(pool: Pool) -> None:
    seen: list[Any] = []

    class Seeing(Handler):
        def preprocess(self, instance: Any) -> Any:
            seen.append(instance)
            return {"x": floats([instance["a"], instance["b"]])}

    model = Running(lambda arrays: {"y": arrays["x"]}, spec(0, (2,)))
    reply = await bound(Seeing(), pool, m=model.model).predict(Call(columnar.columns({"a": [1, 2], "b": [3, 4]})))
    assert seen == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert (as_lists(reply.predictions), reply.whole) == ([[1, 3], [2, 4]], False)


async def test_whoever_overrides_the_second_gets_the_whole_outputs_once(pool: Pool) -> None:
    class Summing(Handler):
        def postprocess(self, outputs: Any) -> Any:
            return float(outputs["y"].sum())

    model = Running(summed, spec(0, (-1, 2)))
    reply = await bound(Summing(), pool, m=model.model).predict(Call(columnar.columns([[1, 2], [3, 4]])))
    assert (reply.predictions, reply.whole) == ([10.0], True)


@pytest.mark.parametrize("size", [0, 8])
@pytest.mark.parametrize("value", [[[1], ["x"]], {"z": [1]}, [[[1]]]])
async def test_columns_that_do_not_fit_are_the_callers_fault(pool: Pool, size: int, value: Any) -> None:
    model = Running(doubled, spec(size, (-1,)))
    error = await refusal(bound(Handler(), pool, m=model.model), Call(columnar.columns(value)))
    assert isinstance(error, InstanceError)
    assert model.calls == []


async def test_columns_without_rows_are_the_callers_fault(pool: Pool) -> None:
    error = await refusal(bound(Handler(), pool), Call(columnar.columns([])))
    assert (type(error), error.message) == (BadRequest, "'inputs' is empty; its leading dimension is the batch")


def test_columns_are_not_made_before_somebody_looks() -> None:
    def make() -> Any:
        pytest.fail("nobody has looked")

    assert Columns([1], make).value == [1]


# Arrays


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
async def test_an_arrays_rows_are_instances(pool: Pool, dtype: str) -> None:
    array = np.array([[1], [2]], dtype)
    reply = await bound(Handler(), pool).predict(Call(Rows(array)))
    assert as_lists(reply.predictions) == [[2], [4]]


async def test_a_hook_gets_each_row_as_an_array(pool: Pool) -> None:
    seen: list[NDArray[Any]] = []

    class Seeing(Handler):
        def preprocess(self, instance: Any) -> Any:
            seen.append(instance)
            return {"x": instance.reshape(1)}

    await bound(Seeing(), pool).predict(Call(Rows(np.array([1, 2], np.float32))))
    assert [(row.shape, float(row)) for row in seen] == [((), 1.0), ((), 2.0)]


async def test_an_array_that_fits_without_a_batch_is_one_instance(pool: Pool) -> None:
    reply = await bound(Handler(), pool).predict(Call(Rows(np.array([5], np.float32))))
    assert (as_lists(reply.predictions), reply.whole) == ([[10]], True)


async def test_a_row_that_does_not_fit_is_named(pool: Pool) -> None:
    error = await refusal(bound(Handler(), pool), Call(Rows(np.zeros((2, 3), np.float32))))
    assert error.message == "instances[0]: input 'x' has shape [3]; the model takes [1]"


# Bytes of a media type

PNG = Context(media_type="image/png")


async def test_a_handler_with_a_hook_takes_any_media_type(pool: Pool) -> None:
    class Length(Handler):
        def preprocess(self, instance: Any, context: Context) -> Any:
            assert context.media_type == "image/png"
            return {"x": floats([len(instance)])}

    for body in (b"abc", memoryview(b"abc")):
        assert as_lists((await bound(Length(), pool).predict(Call([body], PNG))).predictions) == [[6]]


async def test_without_one_it_takes_a_model_of_byte_strings_alone(pool: Pool) -> None:
    strings = FakeModel(lambda arrays: {"y": arrays["x"]}, spec(8, (1,), "BYTES"))
    reply = await bound(Handler(), pool, m=strings).predict(Call([[b"abc"]], PNG))
    assert list(reply.predictions) == [["abc"]]
    sentence = (
        "Content-Type 'image/png' is not handled; send application/json, or application/octet-stream for one "
        "instance's bytes"
    )
    for model in (FakeModel(doubled), FakeModel(doubled, spec(8, (1,), "BYTES", "a b"))):
        error = await refusal(bound(Handler(), pool, m=model), Call([b"abc"], PNG))
        assert (type(error), error.message) == (BadRequest, sentence)
        assert model.calls == []


async def test_without_a_media_type_bytes_are_a_tensor(pool: Pool) -> None:
    body = np.array([1.5], "<f4").tobytes()
    assert as_lists((await bound(Handler(), pool).predict(Call([body]))).predictions) == [[3]]


# Versions


@pytest.mark.parametrize("call", [Call([[1]]), Call(columnar.columns([[1]])), Call(Rows(np.ones((1, 1), np.float32)))])
async def test_the_model_is_asked_at_the_version_of_the_request(pool: Pool, call: Call) -> None:
    model = FakeModel(doubled)
    handler = bound(Handler(), pool, m=model)
    await handler.predict(call)
    assert model.versions == []
    await handler.predict(call._replace(context=Context(version="3")))
    assert model.versions == ["3"]


async def test_whole_tensors_go_to_a_version_too(pool: Pool) -> None:
    model = FakeModel(summed, spec(0, (-1, 2)))
    call = Call(columnar.columns([[1, 2]]), Context(version="3"))
    assert (await bound(Handler(), pool, m=model).predict(call)).whole
    assert set(model.versions) == {"3"}
