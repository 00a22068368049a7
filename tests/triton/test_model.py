"""Splitting, checking and joining around the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
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
from listener.triton.catalogue import Catalogue
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


async def test_whoever_waits_ends_all_batches() -> None:
    made, client = await model(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await made.infer_batches([{"X": np.ones((1, 2))}] * 2)
    assert client.cancelled == 2


# A time for one call


@pytest.mark.parametrize("max_batch_size", [0, 1, 8], ids=["no batching", "alone", "shared"])
@pytest.mark.parametrize("call", [Model.infer, Model.infer_rows, Model.infer_parts], ids=lambda call: call.__name__)
async def test_a_call_that_takes_longer_than_its_time_is_cancelled(max_batch_size: int, call: Any) -> None:
    made, client = await model(max_batch_size)
    with pytest.raises(DeadlineExceeded) as caught:
        await call(made, {"X": np.ones((1, 2))}, timeout=0.01)
    assert (caught.value.status, caught.value.message) == (504, "model 'm' took longer than its 0.01 s")
    await asyncio.sleep(0)  # the shared call hears of it in the next turn
    assert client.cancelled == 1


async def test_one_that_is_in_time_is_as_any_other() -> None:
    made, _ = await model(8)
    outputs = await made.infer({"X": np.ones((1, 2))}, timeout=20)
    assert outputs["Y"].tolist() == [[2, 2]]


async def test_one_that_gives_up_does_not_take_the_others_with_it() -> None:
    made, client = await model(8)
    row = {"X": np.ones((1, 2), np.float32)}
    calls = [made.infer(row), made.infer(row, timeout=0.01), made.infer(row, timeout=20)]
    first, late, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(late, DeadlineExceeded)
    assert [outputs["Y"].tolist() for outputs in (first, last) if isinstance(outputs, dict)] == [[[2, 2]]] * 2
    assert client.cancelled == 0


async def test_a_timeout_of_something_else_stays_one() -> None:
    class Broken(Recorder):
        async def infer(self, model: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
            raise TimeoutError("of something else")

    made = Model("m", Broken(1))
    await made.read_spec()
    with pytest.raises(TimeoutError, match="of something else"):
        await made.infer({"X": np.ones((1, 2))}, timeout=20)


@pytest.mark.parametrize("timeout", [0, -1, 0.0, float("nan"), float("-inf"), True, "1", 1j, [1]])
async def test_what_is_no_timeout(timeout: Any) -> None:
    made, client = await model(4)
    with pytest.raises(ValueError, match=r"^timeout is .*; it has to be seconds, more than 0, or None"):
        await made.infer({"X": np.ones((1, 2))}, timeout=timeout)
    assert client.calls == []


@pytest.mark.parametrize("timeout", [1, 1.5, np.float32(1.5), np.int64(1), float("inf")])
async def test_what_is_a_timeout(timeout: Any) -> None:
    made, _ = await model(4)
    assert (await made.infer({"X": np.ones((1, 2))}, timeout=timeout))["Y"].tolist() == [[2, 2]]


async def test_a_call_on_another_loop_is_refused() -> None:
    """As a plain hook might make it, which runs in a thread: connections and queues are the listener's loop's."""
    made, client = await model(4)
    row = {"X": np.ones((1, 2))}
    for one in (made, made.at("2")):
        with pytest.raises(RuntimeError, match=r"'m' is called on another event loop .* make the hook `async def`"):
            await asyncio.to_thread(asyncio.run, one.infer(row))
    assert client.calls == []


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


def known(*versions: str) -> Callable[[str], Awaitable[bool]]:
    async def has_version(version: str) -> bool:
        return version in versions

    return has_version


@pytest.mark.parametrize(("given", "path"), [("2", b"2"), (2, b"2"), ("02", b"2"), ("10", b"10")])
async def test_a_call_may_say_its_version(given: Any, path: bytes) -> None:
    client = Versioned()
    made = Model("m", client, has_version=known("2", "10"))
    await made.read_spec()
    row = {"X": np.ones((1, 2), np.float32)}
    await made.infer(row, version=given, timeout=20)
    await made.infer_rows(row, version=given)
    await made.at("10").infer(row, version=given)
    assert client.paths == [b"/v2/models/m/versions/%b/infer" % path] * 3
    await made.infer(row)
    assert client.paths[-1] == b"/v2/models/m/infer"


async def test_a_version_that_triton_does_not_have_is_not_the_callers_fault() -> None:
    client = Versioned()
    made = Model("m", client, has_version=known("2"))
    await made.read_spec()
    for one in (made, made.at("2")):
        with pytest.raises(Unavailable, match=r"^model 'm' has no version 7$") as caught:
            await one.infer({"X": np.ones((1, 2))}, version=7)
        assert caught.value.status == 503
    assert client.paths == []


@pytest.mark.parametrize(
    "version", ["latest", "-1", -1, 0, "0", True, None, 1.0, "1.0", " 1", "²", "1" * 20, b"1", [1]]
)
async def test_what_is_no_version(version: Any) -> None:
    made, client = await model(4)
    with pytest.raises(ValueError, match=r"^version is .*; it has to be a number from 1 on") as caught:
        await made.infer({"X": np.ones((1, 2))}, version=version)
    assert repr(version) in str(caught.value)
    assert client.calls == []


async def test_the_catalogue_tells_which_versions_there_are_and_a_stale_one_is_unavailable() -> None:
    tensor = {"X": ("FP32", [2])}
    fake = FakeModel(tensor, tensor, dict, versions=["1", "2"])
    async with FakeTriton({"m": fake}).running() as url:
        client = TritonClient(url)
        await client.open()
        try:
            made = Catalogue(client, lambda name: True, ["m"]).routed["m"]
            await made.read_spec()
            row = {"X": np.ones((1, 2), np.float32)}
            assert (await made.infer(row, version=1))["X"].tolist() == [[1, 1]]
            with pytest.raises(Unavailable, match="model 'm' has no version 3"):
                await made.infer(row, version=3)
            fake.versions = ["2"]  # which the catalogue does not know yet
            with pytest.raises(Unavailable, match="version 1 of model 'm' is not ready"):
                await made.infer(row, version=1)
            assert (await made.infer(row))["X"].tolist() == [[1, 1]]
        finally:
            await client.close()


# Failures


@pytest.mark.parametrize("independent", [True, False])
async def test_a_failed_call_says_whether_its_rows_can_be_tried_by_themselves(independent: bool) -> None:
    made, client = await model(4)
    made.know(replace(client._spec, independent=independent))
    with pytest.raises(TritonFailed) as raised:
        await made.infer({"X": np.full((2, 2), -1, np.float32)})
    assert raised.value.of_rows is independent


async def test_a_refused_model_refuses_at_once_what_comes_and_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    made, client = await model(8)
    row, answers = {"X": np.ones((1, 2), np.float32)}, asyncio.Event()

    async def waiting(name: str, codec: Codec, groups: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        client.calls.append((len(groups),))
        await answers.wait()
        return {"Y": np.concatenate([group["X"] for group in groups])}

    monkeypatch.setattr(client, "infer", waiting)
    old = made.at("1")
    under_way: list[asyncio.Task[Any]] = []
    while len(client.calls) == len(under_way):  # as many calls as may be under way, until one is queued
        under_way.append(asyncio.create_task(made.infer(row)))
        await asyncio.sleep(0.01)
    queued = under_way.pop()
    made.refuse("Triton is not ready")
    new = made.at("2")
    async with asyncio.timeout(5):
        for refused in (queued, made.infer(row), old.infer(row), new.infer(row), made.infer_rows(row)):
            with pytest.raises(Unavailable, match=r"^Triton is not ready$"):
                await refused
    assert len(client.calls) == len(under_way)
    answers.set()
    assert len(await asyncio.gather(*under_way)) == len(under_way) > 0
    await made.read_spec()
    for each in (made, old, new):
        assert "Y" in await each.infer(row)
