"""What a user writes, driven with models that are none."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.call import Arrays, Call, Context, Reply
from listener.errors import BadRequest, HandlerFailed, InstanceError, ListenerError, Unavailable
from listener.handler import Handler, check_reply
from listener.hooks import takes_context
from listener.pool import Pool
from listener.rows import rows_of
from listener.tensors import ModelSpec, TensorError, TensorSpec

Tensors = dict[str, NDArray[Any]]


class FakeModel:
    """A function in the place of a model; remembers its calls, and how many classes were wanted."""

    def __init__(self, run: Callable[[Tensors], Tensors], spec: ModelSpec | None = None) -> None:
        self.spec = spec or ModelSpec("m", (TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (1,)),), 8)
        self.calls: list[Tensors] = []
        self.versions: list[str] = []
        self.classes: list[int] = []
        self._run = run

    async def infer(self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None) -> Tensors:
        self.calls.append(dict(arrays))
        return self._run(dict(arrays))

    async def infer_rows(
        self, arrays: Arrays, *, version: str | int = "", timeout: float | None = None
    ) -> list[Tensors]:
        return rows_of([await self.infer(arrays)], self.spec)

    def at(self, version: str) -> FakeModel:
        self.versions.append(version)
        return self

    async def infer_batches(self, batches: Sequence[Arrays], top_k: int = 0) -> list[list[Tensors]]:
        self.classes.append(top_k)
        return [[await self.infer(arrays)] for arrays in batches]

    async def infer_checked(self, arrays: Tensors, top_k: int = 0) -> list[Tensors]:
        self.classes.append(top_k)
        return [await self.infer(arrays)]


def floats(value: Any) -> NDArray[Any]:
    return np.asarray(value, dtype=np.float32)


def doubled(arrays: Tensors) -> Tensors:
    return {"y": arrays["x"] * 2}


def refuse(error: Exception) -> Callable[[Tensors], Tensors]:
    def run(arrays: Tensors) -> Tensors:
        raise error

    return run


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(2)
    yield made
    made.close()


def bound(handler: Handler, pool: Pool, **models: FakeModel) -> Handler:
    models = models or {"m": FakeModel(doubled)}
    handler.bind("r", next(iter(models)), models, pool)
    return handler


async def predictions(handler: Handler, *instances: Any, context: Context | None = None) -> list[Any]:
    return list((await handler.predict(Call(list(instances), context or Context()))).predictions)


async def refusal(handler: Handler, *instances: Any) -> ListenerError:
    with pytest.raises(ListenerError) as caught:
        await handler.predict(Call(list(instances)))
    return caught.value


# Hooks, in each of their forms


class Plain(Handler):
    def preprocess(self, instance: Any) -> Any:
        return {"x": floats([instance])}

    def postprocess(self, outputs: Any) -> Any:
        return float(outputs["y"][0])


class PlainWithContext(Handler):
    def preprocess(self, instance: Any, context: Context) -> Any:
        return {"x": floats([instance + context.parameters["add"]])}

    def postprocess(self, outputs: Any, context: Context) -> Any:
        return float(outputs["y"][0]) + context.parameters["add"]


class Async(Handler):
    async def preprocess(self, instance: Any) -> Any:
        await asyncio.sleep(0)
        return {"x": floats([instance])}

    async def postprocess(self, outputs: Any) -> Any:
        await asyncio.sleep(0)
        return float(outputs["y"][0])


class AsyncWithContext(Handler):
    async def preprocess(self, instance: Any, context: Context) -> Any:
        return {"x": floats([instance + context.parameters["add"]])}

    async def postprocess(self, outputs: Any, context: Context) -> Any:
        return float(outputs["y"][0]) + context.parameters["add"]


class Ragged(Handler):
    """Rows of any length, as they come."""

    def preprocess(self, instance: Any) -> Any:
        return {"x": floats(instance)}

    def postprocess(self, outputs: Any) -> Any:
        return outputs["y"].tolist()


class Mixed(Handler):
    async def preprocess(self, instance: Any) -> Any:
        return {"x": floats([instance])}

    def postprocess(self, outputs: Any, context: Context) -> Any:
        return float(outputs["y"][0]) + context.parameters["add"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Plain, [2, 4, 6]),
        (Async, [2, 4, 6]),
        (PlainWithContext, [302, 304, 306]),
        (AsyncWithContext, [302, 304, 306]),
        (Mixed, [102, 104, 106]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_hooks_keep_the_order_and_get_the_context_if_they_take_it(
    pool: Pool, kind: type[Handler], expected: list[float]
) -> None:
    context = Context(parameters={"add": 100})
    assert await predictions(bound(kind(), pool), 1, 2, 3, context=context) == expected


async def test_the_model_gets_one_batch(pool: Pool) -> None:
    model = FakeModel(doubled)
    await predictions(bound(Plain(), pool, m=model), 1, 2, 3)
    (arrays,) = model.calls
    assert arrays["x"].tolist() == [[1], [2], [3]]


async def test_a_handler_may_ask_other_models(pool: Pool) -> None:
    class Chained(Plain):
        async def predict(self, call: Call) -> Reply:
            first = await self.models["first"].infer({"x": floats([[n] for n in call.instances])})
            second = await self.models["second"].infer({"x": first["y"]})
            return Reply(second["y"][:, 0].tolist())

    handler = bound(Chained(), pool, first=FakeModel(doubled), second=FakeModel(doubled))
    assert await predictions(handler, 1, 2) == [4, 8]


async def test_lists_and_numbers_count_as_arrays(pool: Pool) -> None:
    class Listing(Plain):
        def preprocess(self, instance: Any) -> Any:
            return {"x": [instance], "n": instance}

    model = FakeModel(doubled)
    assert await predictions(bound(Listing(), pool, m=model), 1.0, 2.0) == [2, 4]
    assert {name: array.tolist() for name, array in model.calls[0].items()} == {"x": [[1], [2]], "n": [1, 2]}


async def test_plain_hooks_run_off_the_event_loop(pool: Pool) -> None:
    threads: list[str] = []

    class Noting(Plain):
        def preprocess(self, instance: Any) -> Any:
            threads.append(threading.current_thread().name)
            return super().preprocess(instance)

        def postprocess(self, outputs: Any) -> Any:
            threads.append(threading.current_thread().name)
            return super().postprocess(outputs)

    await predictions(bound(Noting(), pool), 1, 2)
    assert [name.partition("_")[0] for name in threads] == ["handler"] * 4


async def test_async_hooks_run_on_the_event_loop_side_by_side(pool: Pool) -> None:
    meeting = asyncio.Barrier(3)

    class Meeting(Plain):
        async def preprocess(self, instance: Any) -> Any:
            assert threading.current_thread() is threading.main_thread()
            await meeting.wait()  # passes only if all three instances are being worked on
            return {"x": floats([instance])}

    async with asyncio.timeout(5):
        assert await predictions(bound(Meeting(), pool), 1, 2, 3) == [2, 4, 6]


async def test_hooks_get_arrays_even_of_a_single_number(pool: Pool) -> None:
    seen: list[Any] = []

    class Noting(Plain):
        def postprocess(self, outputs: Any) -> Any:
            seen.extend(outputs.values())

    def run(arrays: Tensors) -> Tensors:
        return {"number": floats([1, 2]), "text": np.array([b"a", b"b"], dtype=np.object_)}

    await predictions(bound(Noting(), pool, m=FakeModel(run)), 1, 2)
    assert [type(value) for value in seen] == [np.ndarray] * 4


# Hooks that fail


class Failing(Plain):
    """Raises what it was given, at one instance and in one hook."""

    def __init__(self, hook: str, error: Exception, at: int = 1) -> None:
        self.hook, self.error, self.at = hook, error, at

    def _step(self, hook: str, number: float) -> None:
        if self.hook == hook and number == self.at:
            raise self.error

    def preprocess(self, instance: Any) -> Any:
        self._step("preprocess", instance)
        return super().preprocess(instance)

    def postprocess(self, outputs: Any) -> Any:
        self._step("postprocess", outputs["y"][0] / 2)
        return super().postprocess(outputs)


class FailingAsync(Failing):
    async def preprocess(self, instance: Any) -> Any:
        return super().preprocess(instance)

    async def postprocess(self, outputs: Any) -> Any:
        return super().postprocess(outputs)


EACH_HOOK = pytest.mark.parametrize("hook", ["preprocess", "postprocess"])
EACH_KIND = pytest.mark.parametrize("kind", [Failing, FailingAsync], ids=["def", "async def"])


@EACH_HOOK
@EACH_KIND
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InstanceError("no picture"), "instances[1]: no picture"),
        (InstanceError("no picture", 0), "instances[0]: no picture"),
        (TensorError("input 'x' is ragged"), "instances[1]: input 'x' is ragged"),
    ],
    ids=["without index", "with index", "tensor error"],
)
async def test_a_wrong_instance_is_the_callers_fault_and_has_its_index(
    pool: Pool, kind: type[Failing], hook: str, error: Exception, message: str
) -> None:
    raised = await refusal(bound(kind(hook, error), pool), 0, 1, 2)
    assert isinstance(raised, InstanceError)
    assert (raised.status, raised.message) == (400, message)


@EACH_HOOK
@EACH_KIND
async def test_other_errors_of_the_family_pass_as_they_are(pool: Pool, kind: type[Failing], hook: str) -> None:
    error = BadRequest("not today")
    assert await refusal(bound(kind(hook, error), pool), 0, 1) is error


@EACH_HOOK
@EACH_KIND
@pytest.mark.parametrize("error", [KeyError("secret"), ZeroDivisionError(), StopIteration(1)], ids=repr)
async def test_anything_else_is_a_fixed_sentence_and_a_trace_in_the_log(
    pool: Pool, caplog: pytest.LogCaptureFixture, kind: type[Failing], hook: str, error: Exception
) -> None:
    raised = await refusal(bound(kind(hook, error), pool), 0, 1)
    assert isinstance(raised, HandlerFailed)
    assert raised.message == f"the handler of 'r' failed in {hook}; the log has the reason"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("listener.handler", logging.ERROR)
    assert record.getMessage() == f"the handler of 'r' failed in {hook} on instances[1]"
    assert record.exc_info is not None
    assert record.exc_info[1] is error or record.exc_info[1].__cause__ is error  # type: ignore[union-attr]


async def test_of_several_wrong_instances_the_first_is_named(pool: Pool) -> None:
    class Late(Plain):
        async def preprocess(self, instance: Any) -> Any:
            for _ in range(3 - instance):  # the last instance fails first
                await asyncio.sleep(0)
            raise InstanceError(f"number {instance}")

    assert (await refusal(bound(Late(), pool), 0, 1, 2)).message == "instances[0]: number 0"


async def test_a_plain_hook_stops_at_the_first_wrong_instance(pool: Pool) -> None:
    seen: list[Any] = []

    class Noting(Plain):
        def preprocess(self, instance: Any) -> Any:
            seen.append(instance)
            raise InstanceError("no")

    await refusal(bound(Noting(), pool), 0, 1, 2)
    assert seen == [0]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"x": np.zeros(2)}, "instances[1]: 'x' has shape [2] where another instance has [1]"),
        ({"z": np.zeros(1)}, "instances[1]: gives the tensors 'z' where another instance gives 'x'"),
    ],
    ids=["another shape", "another name"],
)
async def test_an_instance_that_differs_from_the_first_is_named(pool: Pool, second: Any, message: str) -> None:
    class Differing(Plain):
        def preprocess(self, instance: Any) -> Any:
            return {"x": np.zeros(1)} if instance == 0 else second

    raised = await refusal(bound(Differing(), pool), 0, 1)
    assert (raised.status, raised.message) == (400, message)


@pytest.mark.parametrize("made", [None, 5, [1, 2], {"x": [[1], [2, 3]]}], ids=repr)
async def test_a_preprocess_that_makes_no_arrays_has_failed(
    pool: Pool, caplog: pytest.LogCaptureFixture, made: Any
) -> None:
    class Wrong(Plain):
        def preprocess(self, instance: Any) -> Any:
            return made

    raised = await refusal(bound(Wrong(), pool), 0)
    assert raised.message == "the handler of 'r' failed in preprocess; the log has the reason"
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_arrays_that_the_model_does_not_take_are_the_handlers_fault(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeModel(refuse(TensorError("model 'm' has no input 'x'")))
    raised = await refusal(bound(Plain(), pool, m=model), 0)
    assert isinstance(raised, HandlerFailed)
    assert raised.message == "the handler of 'r' failed in preprocess; the log has the reason"
    assert "model 'm' has no input 'x'" in caplog.text


async def test_what_the_model_raises_of_the_family_passes(pool: Pool) -> None:
    error = Unavailable("model 'm' is not ready")
    assert await refusal(bound(Plain(), pool, m=FakeModel(refuse(error))), 0) is error


# Without any override: the generic handler


def model(inputs: dict[str, tuple[str, tuple[int, ...]]], run: Callable[[Tensors], Tensors]) -> FakeModel:
    tensors = tuple(TensorSpec(name, datatype, shape) for name, (datatype, shape) in inputs.items())
    return FakeModel(run, ModelSpec("m", tensors, (), 8))


ADD = {"a": ("INT32", (2,)), "b": ("FP32", ())}


def added(arrays: Tensors) -> Tensors:
    return {"sum": arrays["a"].sum(axis=1) + arrays["b"], "first": arrays["a"][:, :1]}


@pytest.mark.parametrize("instances", [([1.5], [2]), ({"x": [1.5]}, {"x": [2]})], ids=["bare", "by name"])
async def test_one_input_and_one_output_are_bare_values(pool: Pool, instances: tuple[Any, ...]) -> None:
    handler = bound(Handler(), pool, m=model({"x": ("FP32", (1,))}, doubled))
    assert await predictions(handler, *instances) == [[3.0], [4.0]]


async def test_several_inputs_and_outputs_go_by_name(pool: Pool) -> None:
    handler = bound(Handler(), pool, m=model(ADD, added))
    assert await predictions(handler, {"a": [1, 2], "b": 0.5}, {"a": [3, 4], "b": 1}) == [
        {"sum": 3.5, "first": [1]},
        {"sum": 8.0, "first": [3]},
    ]


async def test_strings_come_out_as_text_and_bytes_as_base64(pool: Pool) -> None:
    def upper(arrays: Tensors) -> Tensors:
        return {"y": np.array([[item.upper() for item in row] for row in arrays["x"]], dtype=np.object_)}

    handler = bound(Handler(), pool, m=model({"x": ("BYTES", (1,))}, upper))
    assert await predictions(handler, ["a"], [b"\xff"]) == [["A"], [{"b64": "/w=="}]]


async def test_one_string_for_each_instance(pool: Pool) -> None:
    handler = bound(Handler(), pool, m=model({"x": ("BYTES", ())}, lambda arrays: {"y": arrays["x"]}))
    assert await predictions(handler, "a", "b") == ["a", "b"]


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        (
            [{"a": [1, 2], "b": 1}, {"a": [1, 2], "b": 1, "c": 1}],
            "instances[1]: unknown input 'c'; model 'm' takes 'a' (INT32 [2]), 'b' (FP32 [])",
        ),
        ([{"a": [1, 2]}], "instances[0]: input 'b' is missing"),
        ([{"a": [1, 2.5], "b": 1}], "instances[0]: input 'a' is INT32 and takes whole numbers, not 2.5 at [1]"),
        ([{"a": [1, 2, 3], "b": 1}], "instances[0]: input 'a' has shape [3]; the model takes [2]"),
        ([5], "instances[0]: is not an object; model 'm' takes the inputs 'a' (INT32 [2]), 'b' (FP32 [])"),
    ],
    ids=["unknown", "missing", "fraction", "shape", "bare"],
)
async def test_the_generic_handler_names_what_does_not_fit(pool: Pool, instances: list[Any], message: str) -> None:
    raised = await refusal(bound(Handler(), pool, m=model(ADD, added)), *instances)
    assert (raised.status, raised.message) == (400, message)


async def test_optional_inputs_may_be_given_by_some(pool: Pool) -> None:
    spec = ModelSpec("m", (TensorSpec("x", "FP32", (1,)), TensorSpec("o", "FP32", (1,), optional=True)), (), 8)
    model = FakeModel(lambda arrays: {"y": arrays["x"] + arrays.get("o", 0)}, spec)
    handler = bound(Handler(), pool, m=model)
    assert await predictions(handler, {"x": [1]}, {"x": [2], "o": [3]}, {"x": [4]}) == [[1.0], [5.0], [4.0]]
    assert [sorted(arrays) for arrays in model.calls] == [["x"], ["o", "x"]]


@pytest.mark.parametrize("kind", [Handler, Ragged], ids=["no hooks", "own hooks"])
async def test_ragged_rows_are_calls_of_their_own_and_keep_their_order(pool: Pool, kind: type[Handler]) -> None:
    spec = ModelSpec("m", (TensorSpec("x", "FP32", (-1,), ragged=True),), (TensorSpec("y", "FP32", (-1,)),), 8)
    model = FakeModel(doubled, spec)
    made = await predictions(bound(kind(), pool, m=model), [1], [2, 3], [4], [], [5, 6])
    assert [list(map(float, row)) for row in made] == [[2], [4, 6], [8], [], [10, 12]]
    assert [arrays["x"].shape for arrays in model.calls] == [(2, 1), (2, 2), (1, 0)]


# Classes

LABELLED = ModelSpec("m", (TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (2,), labelled=True),), 8)


def classified(arrays: Tensors) -> Tensors:
    """As Triton says it of two classes."""
    return {"y": np.array([[f"{x:.6f}:1:b".encode(), b"0.000000:0"] for (x,) in arrays["x"]], np.object_)}


@pytest.mark.parametrize(
    "instances", [([1], [2]), (1, 2), ({"x": [1]}, {"x": [2]})], ids=["short way", "bare", "by name"]
)
async def test_the_best_classes(pool: Pool, instances: tuple[Any, ...]) -> None:
    model = FakeModel(classified, LABELLED)
    context = Context(parameters={"top_k": 5})
    other = {"label": None, "index": 0, "score": 0.0}
    assert await predictions(bound(Handler(), pool, m=model), *instances, context=context) == [
        [{"label": "b", "index": 1, "score": 1.0}, other],
        [{"label": "b", "index": 1, "score": 2.0}, other],
    ]
    assert model.classes == [5]


async def test_classes_of_a_handler_that_only_prepares(pool: Pool) -> None:
    class Prepares(Handler):
        def preprocess(self, instance: Any) -> Any:
            return {"x": floats([instance])}

    model = FakeModel(classified, LABELLED)
    (row,) = await predictions(bound(Prepares(), pool, m=model), 3, context=Context(parameters={"top_k": 1}))
    assert (row[0]["score"], model.classes) == (3.0, [1])


async def test_a_handler_with_its_own_postprocess_reads_the_parameter_itself(pool: Pool) -> None:
    context = Context(parameters={"top_k": "mine"})
    model = FakeModel(doubled, LABELLED)
    assert await predictions(bound(Plain(), pool, m=model), 1, context=context) == [2.0]
    assert model.classes == [0]


@pytest.mark.parametrize(
    ("value", "spec", "sentence"),
    [
        (0, LABELLED, "parameters.top_k: has to be a whole number from 1 on"),
        (1, None, "parameters.top_k: model 'm' has no classes: none of its outputs has labels"),
    ],
)
async def test_classes_that_cannot_be_had(pool: Pool, value: Any, spec: ModelSpec | None, sentence: str) -> None:
    model = FakeModel(doubled, spec)
    with pytest.raises(BadRequest) as caught:
        await predictions(bound(Handler(), pool, m=model), [1], context=Context(parameters={"top_k": value}))
    assert (caught.value.message, model.calls) == (sentence, [])


# What a predict may return

CALL = Call([1, 2])


@pytest.mark.parametrize("predictions", [[3, 4], (3, 4), np.arange(2)], ids=["list", "tuple", "array"])
def test_a_prediction_for_each_instance_is_a_reply(predictions: Any) -> None:
    reply = Reply(predictions)
    assert check_reply("r", CALL, reply) is reply


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply([1]), "predict returned 1 predictions for 2 instances"),
        (Reply([]), "predict returned 0 predictions for 2 instances"),
        (Reply([1, 2, 3]), "predict returned 3 predictions for 2 instances"),
        ([1, 2], "predict returned list for 2 instances"),
        (None, "predict returned NoneType for 2 instances"),
        (Reply(None), "for 2 instances"),  # type: ignore[arg-type]
    ],
    ids=["too few", "none", "too many", "a list", "nothing", "a reply of nothing"],
)
def test_anything_else_is_none(caplog: pytest.LogCaptureFixture, reply: object, reason: str) -> None:
    with pytest.raises(HandlerFailed, match="the handler of 'r' failed in predict"):
        check_reply("r", CALL, reply)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert reason in str(record.exc_info[1])


# Which hooks take a context


def one(instance: Any) -> None: ...
def two(instance: Any, context: Any) -> None: ...
def optional(instance: Any, context: Any = None) -> None: ...
def by_keyword(instance: Any, *, context: Any = None) -> None: ...
def any_number(*instance: Any) -> None: ...
def one_and_rest(instance: Any, *rest: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (one, False),
        (two, True),
        (optional, True),
        (by_keyword, False),
        (any_number, False),
        (one_and_rest, False),
        (functools.partial(two, 1), False),
        (Plain().preprocess, False),
        (PlainWithContext().preprocess, True),
        (Handler().preprocess, False),
    ],
    ids=["one", "two", "optional", "keyword", "*", "one and *", "partial", "method", "method with context", "base"],
)
def test_takes_context(function: Callable[..., Any], takes: bool) -> None:
    assert takes_context(function) is takes


# Other models, and none of its own


class Calls(Handler):
    """Calls others."""

    model = None

    async def predict(self, call: Call) -> Reply:
        outputs = await self.models["m"].infer({"x": floats([[n] for n in call.instances])})
        return Reply(outputs["y"][:, 0].tolist())


async def test_a_handler_without_a_model_of_its_own(pool: Pool) -> None:
    handler = Calls()
    handler.bind("r", None, {"m": FakeModel(doubled)}, pool)
    assert await predictions(handler, 1, 2) == [2, 4]
    with pytest.raises(ValueError, match="has no model of its own"):
        _ = handler.spec


class Forgets(Handler):
    def preprocess(self, instance: Any) -> Any:
        return self.models["m"].infer({"x": floats([[instance]])})


class ForgetsToo(Plain):
    async def preprocess(self, instance: Any) -> Any:
        return self.models["m"].infer({"x": floats([[instance]])})["x"]  # type: ignore[index]


class ForgetsAsWell(Handler):
    async def predict(self, call: Call) -> Any:
        return self.models["m"].infer({"x": floats([[1]])})


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Forgets, "preprocess returned a coroutine, which is a call without its `await` (in an `async def` hook),"),
        (
            ForgetsToo,
            "a coroutine is a call without its `await`: models are called with `await`, in an `async def` hook",
        ),
    ],
)
async def test_a_call_that_nobody_awaited_is_told_of(
    pool: Pool, caplog: pytest.LogCaptureFixture, kind: type[Handler], sentence: str
) -> None:
    error = await refusal(bound(kind(), pool), 1)
    assert isinstance(error, HandlerFailed)
    assert sentence in caplog.text
    gc.collect()


async def test_a_predict_that_gives_a_call_back(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    call = Call([1])
    with pytest.raises(HandlerFailed):
        check_reply("r", call, await bound(ForgetsAsWell(), pool).predict(call))
    assert "predict returned a coroutine, which is a call without its `await`" in caplog.text
