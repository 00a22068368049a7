"""Models without a line of code, served by a real Triton: every datatype, and what configurations say of tensors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from listener.tensors import NUMPY
from tests.integration.stack import Stack, running

pytestmark = pytest.mark.triton

NUMERIC = [datatype for datatype in NUMPY if datatype != "BYTES"]
WHOLE = [datatype for datatype in NUMERIC if NUMPY[datatype].kind in "iu"]
FLOATS = [datatype for datatype in NUMERIC if NUMPY[datatype].kind == "f"]

MODEL = """
import json

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.answer = globals()[args["model_name"].partition("_")[0]]
        self.config = json.loads(args["model_config"])

    def execute(self, requests):
        return [pb.InferenceResponse(list(self.answer(self, request.inputs()))) for request in requests]


def same(model, inputs):
    '''Each input as the output of its name.'''
    for tensor in inputs:
        if tensor.name() == "BF16":  # which numpy does not have
            yield pb.Tensor.from_dlpack("BF16", tensor.to_dlpack())
        else:
            yield pb.Tensor(tensor.name().replace("X", "Y"), tensor.as_numpy())


def count(model, inputs):
    '''How many inputs and rows a call has.'''
    for tensor in inputs:
        yield pb.Tensor(tensor.name().replace("X", "Y"), tensor.as_numpy())
    shape = [len(inputs[0].as_numpy()), 1] if model.config["max_batch_size"] else [1]
    yield pb.Tensor("N", np.full(shape, len(inputs), np.int32))


def told(model, inputs):
    '''The shape of each row as it came, how many came with it, and its first number.'''
    (x,) = [tensor.as_numpy() for tensor in inputs]
    yield pb.Tensor("SHAPE", np.tile(np.array(x.shape[1:], np.int32), (len(x), 1)))
    yield pb.Tensor("ROWS", np.full((len(x), 1), len(x), np.int32))
    yield pb.Tensor("FIRST", x.reshape(len(x), -1)[:, :1] if x.size else np.zeros((len(x), 1), np.float32))


def nothing(model, inputs):
    yield pb.Tensor("Y", np.array([len(inputs)], np.int32))
"""


def tensor(name: str, datatype: str, dims: str, more: str = "") -> str:
    kind = "STRING" if datatype == "BYTES" else datatype
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def config(batch: int, inputs: list[str], outputs: list[str], more: str = "") -> str:
    return f"max_batch_size: {batch} {more}\ninput [ {', '.join(inputs)} ]\noutput [ {', '.join(outputs)} ]\n"


def identity(datatype: str, dims: str, batch: int = 8, given_more: str = "", got_more: str = "", more: str = "") -> str:
    return config(batch, [tensor("X", datatype, dims, given_more)], [tensor("Y", datatype, dims, got_more)], more)


LABELS = 'label_filename: "labels.txt"'
PAD = 'parameters {{ key: "listener_pad" value {{ string_value: "{}" }} }}'
SHAPES = [tensor("SHAPE", "INT32", "[ -1 ]"), tensor("ROWS", "INT32", "[ 1 ]"), tensor("FIRST", "FP32", "[ 1 ]")]
MODELS = {
    "same_every": config(
        8,
        [tensor(name, name, "[ -1 ]", "optional: true allow_ragged_batch: true") for name in NUMPY],
        [tensor(f"{name}", name, "[ -1 ]") for name in NUMPY],
    ),
    "same_one": identity("FP32", "[ 1 ]", 64),
    "same_text": identity("BYTES", "[ 1 ]", 64),
    "same_matrix": identity("INT64", "[ -1, 2 ]"),
    "same_whole": identity("FP64", "[ -1, -1 ]", 0),
    "same_reshaped": identity("INT32", "[ 1 ]", 8, "reshape { shape: [ ] }", "reshape { shape: [ ] }"),
    "same_named": config(
        8,
        [tensor("X", "BYTES", "[ 1 ]"), tensor("X_bytes", "BYTES", "[ 1 ]")],
        [tensor("Y", "BYTES", "[ 1 ]"), tensor("Y_bytes", "BYTES", "[ 1 ]")],
    ),
    "same_best": identity("FP32", "[ 4 ]", 8, "", LABELS),
    "same_bests": config(
        8,
        [tensor("X1", "INT64", "[ 2, 2 ]"), tensor("X2", "FP16", "[ 2 ]")],
        [tensor("Y1", "INT64", "[ 2, 2 ]", LABELS), tensor("Y2", "FP16", "[ 2 ]", LABELS)],
    ),
    "same_best0": identity("FP64", "[ 3 ]", 0, "", LABELS),
    "same_large": identity("FP32", "[ 50000 ]", 8, "", LABELS),
    "same_large16": config(8, [tensor("BF16", "BF16", "[ 100000 ]")], [tensor("BF16", "BF16", "[ 100000 ]")]),
    "same_worst": identity("BYTES", "[ 2 ]", 8, "", LABELS),
    "count_some": config(
        8,
        [tensor(f"X{n}", "FP32", "[ 1 ]", "optional: true") for n in (1, 2)],
        [*(tensor(f"Y{n}", "FP32", "[ 1 ]") for n in (1, 2)), tensor("N", "INT32", "[ 1 ]")],
    ),
    "told_ragged": config(8, [tensor("X", "FP32", "[ -1 ]", "allow_ragged_batch: true")], SHAPES),
    "told_padded": config(8, [tensor("X", "FP32", "[ -1, -1 ]")], SHAPES, PAD.format("-1")),
    "nothing_taken": config(0, [], [tensor("Y", "INT32", "[ 1 ]")]),
    "nothing_needed": config(0, [tensor("X", "FP32", "[ 1 ]", "optional: true")], [tensor("Y", "INT32", "[ 1 ]")]),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service of those models, without a handler."""
    folder = tmp_path_factory.mktemp("no_code")
    for name, text in MODELS.items():
        model = folder / "triton_repo" / name
        (model / "1").mkdir(parents=True)
        (model / "1/model.py").write_text(MODEL)
        (model / "labels.txt").write_text("cat\ndog: big\n\nbird\n")
        (model / "config.pbtxt").write_text(f'backend: "python"\n{text}instance_group [ {{ kind: KIND_CPU }} ]\n')
    routes = "".join(f"  {name}: {{}}\n" for name in MODELS)
    (folder / "listener.yaml").write_text(f"default: same_one\nroutes:\n{routes}")
    with running(folder / "log", service=folder, LISTENER_TRITON_LOG_LEVEL="error") as made:
        made.until(200)
        yield made


def ask(stack: Stack, model: str, instances: list[Any], **parameters: Any) -> Any:
    answer = stack.predict(instances, parameters={"model": model, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def refusal(stack: Stack, model: str, instances: list[Any], **parameters: Any) -> str:
    answer = stack.predict(instances, parameters={"model": model, **parameters})
    assert (answer.status_code, list(answer.json())) == (400, ["error"]), answer.text
    return str(answer.json()["error"])


def b64(raw: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(raw).decode()}


# Datatypes


EDGES: list[tuple[str, list[Any], list[Any]]] = [
    ("BOOL", [True, False], [True, False]),
    *(
        (datatype, [str(low), low, 3.0, "-0", high, str(high)], [low, low, 3, 0, high, high])
        for datatype in WHOLE
        for low, high in [(int(np.iinfo(NUMPY[datatype]).min), int(np.iinfo(NUMPY[datatype]).max))]
    ),
    *(
        (datatype, [0.1, -1, "NaN", "Infinity", 2.5, "-Infinity"], [0.1, -1, None, None, 2.5, None])
        for datatype in FLOATS
    ),
    ("FP16", [65504, 6e-8, 1 / 3], [65500, 6e-8, 0.3333]),
    ("BF16", [3.3895314e38, 1e-40, 1 / 3, 1 + 2**-8, 1 + 3 * 2**-8], [3.39e38, 9e-41, 0.334, 1, 1.016]),
    ("FP32", [3.4028234663852886e38, 1e-45, 1 / 3], [3.4028235e38, 1e-45, 0.33333334]),
    ("FP64", [1.7976931348623157e308, 5e-324, 1 / 3], [1.7976931348623157e308, 5e-324, 1 / 3]),
    ("BYTES", ["", "ä\0", b64(b"\xff\0"), b64(b"plain")], ["", "ä\0", b64(b"\xff\0"), "plain"]),
]


@pytest.mark.parametrize(("datatype", "sent", "back"), EDGES, ids=[datatype for datatype, _, _ in EDGES])
def test_the_edges_of_every_datatype(stack: Stack, datatype: str, sent: list[Any], back: list[Any]) -> None:
    assert ask(stack, "same_every", [{datatype: sent}]) == [{datatype: back}]
    bare = [{datatype: value} for value in sent]
    assert ask(stack, "same_every", bare) == [{datatype: [value]} for value in back]


def contents(datatype: str, array: NDArray[Any]) -> bytes:
    return array.astype(ml_dtypes.bfloat16 if datatype == "BF16" else NUMPY[datatype].newbyteorder("<")).tobytes()


@pytest.mark.parametrize("datatype", NUMERIC)
def test_contents_in_base64(stack: Stack, datatype: str) -> None:
    array = np.array([0, 1, 1] if datatype == "BOOL" else [0, 1, 100])
    parts = [b64(contents(datatype, array[place : place + 1])) for place in range(3)]
    back = array.astype(NUMPY[datatype]).tolist()
    found = ask(stack, "same_every", [{datatype: b64(contents(datatype, array))}, {datatype: parts}, {datatype: back}])
    assert found == [{datatype: back}] * 3


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, Any, list[Any]]:
    """A datatype, a row of it in one of its forms, and what comes back."""
    datatype = draw(st.sampled_from(list(NUMPY)))
    size = draw(st.integers(0, 3))
    if datatype == "BYTES":
        texts = draw(st.lists(st.text(max_size=5) | st.binary(max_size=5).map(b64), min_size=size, max_size=size))
        return datatype, texts, [said(text) for text in texts]
    finite = {"allow_nan": False, "allow_infinity": False} if datatype in FLOATS else {}
    elements = hnp.from_dtype(NUMPY[datatype], **finite)  # type: ignore[arg-type]
    array: NDArray[Any] = draw(hnp.arrays(NUMPY[datatype], size, elements=elements))
    if datatype == "BF16":
        array = np.clip(array, -3e38, 3e38).astype(ml_dtypes.bfloat16).astype(np.float32)
    forms = [array.tolist(), b64(contents(datatype, array))]
    if datatype in WHOLE:
        forms.append([str(number) for number in array.tolist()])
    return datatype, draw(st.sampled_from(forms)), array.tolist()


def said(text: Any) -> Any:
    if isinstance(text, str):
        return text
    raw = base64.b64decode(text["b64"])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows(), min_size=1, max_size=12))
def test_whatever_is_sent_comes_back_in_its_place(stack: Stack, sent: list[tuple[str, Any, list[Any]]]) -> None:
    """Each row names one of 14 optional inputs and has a length of its own, so a request is many calls."""
    found = ask(stack, "same_every", [{datatype: value} for datatype, value, _ in sent])
    for (datatype, _, wanted), prediction in zip(sent, found, strict=True):
        assert list(prediction) == [datatype]
        got = prediction[datatype]
        if datatype in FLOATS:
            dtype = ml_dtypes.bfloat16 if datatype == "BF16" else NUMPY[datatype]
            got = np.array(got, np.float64).astype(dtype).astype(np.float64).tolist()
        assert got == wanted


# Bare values


def test_bare_numbers(stack: Stack) -> None:
    assert ask(stack, "same_one", [1, 2.5, "NaN", {"X": 3}, [4]]) == [[1], [2.5], [None], [3], [4]]
    assert ask(stack, "same_reshaped", [1, "2", [3], {"X": [4]}, b64(b"\5\0\0\0")]) == [[1], [2], [3], [4], [5]]


def test_a_hundred_thousand_bare_numbers(stack: Stack) -> None:
    """By themselves, and with something beside them that no short way takes."""
    numbers = list(range(100_000))
    wanted = [[number] for number in numbers]
    assert stack.predict(numbers).json()["predictions"] == wanted
    assert ask(stack, "same_one", numbers) == wanted
    assert ask(stack, "same_one", [*numbers[:-1], "Infinity"]) == [*wanted[:-1], [None]]


def test_a_hundred_thousand_bare_texts(stack: Stack) -> None:
    texts = [f"text {number}" for number in range(100_000)]
    assert ask(stack, "same_text", texts) == [[text] for text in texts]
    assert ask(stack, "same_text", ["ä", b64(b"\xff"), {"X": b64(b"a")}, {"X": ["b"]}]) == [
        ["ä"],
        [b64(b"\xff")],
        ["a"],
        ["b"],
    ]


# What may differ among rows


def test_ragged_rows_are_never_joined_with_others_of_another_length(stack: Stack) -> None:
    lengths = [1, 3, 2, 3, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3]
    found = ask(
        stack, "told_ragged", [[float(index), *[0] * (length - 1)][:length] for index, length in enumerate(lengths)]
    )
    assert [row["SHAPE"] for row in found] == [[length] for length in lengths]
    assert [row["FIRST"] for row in found] == [[float(index) if length else 0] for index, length in enumerate(lengths)]
    rows_of_a_call = [row["ROWS"][0] for row in found]
    assert max(rows_of_a_call) == 8  # ten rows of length 1 are two calls
    assert [count for count, length in zip(rows_of_a_call, lengths, strict=True) if length == 3] == [3, 3, 3]


def test_ragged_rows_of_many_callers(stack: Stack) -> None:
    def call(number: int) -> bool:
        lengths = [1 + (number + place) % 4 for place in range(6)]
        found = ask(stack, "told_ragged", [[float(number), *[0] * (length - 1)] for length in lengths])
        return [row["SHAPE"][0] for row in found] == lengths and all(row["FIRST"] == [number] for row in found)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(100)))


def test_short_rows_are_padded(stack: Stack) -> None:
    found = ask(stack, "told_padded", [[[5], [6]], [[7, 8, 9]], [], [[1, 2]]])
    assert [row["SHAPE"] for row in found] == [[2, 3]] * 4
    assert [row["ROWS"] for row in found] == [[4]] * 4
    assert [row["FIRST"] for row in found] == [[5], [7], [-1], [1]]
    assert [row["SHAPE"] for row in ask(stack, "told_padded", [[[5]], [[6]]])] == [[1, 1]] * 2


def test_optional_inputs_may_be_given_by_some(stack: Stack) -> None:
    instances = [{"X1": 1}, {"X2": 2}, {"X1": 3, "X2": [4]}, {"X1": [5]}, {"X2": 6, "X1": 7}]
    assert ask(stack, "count_some", instances) == [
        {"Y1": [1], "N": [1]},
        {"Y2": [2], "N": [1]},
        {"Y1": [3], "Y2": [4], "N": [2]},
        {"Y1": [5], "N": [1]},
        {"Y1": [7], "Y2": [6], "N": [2]},
    ]


def test_without_batching_each_instance_is_a_call_of_its_own(stack: Stack) -> None:
    instances = [[[1, 2]], [[3], [4]], {"X": [[0.1]]}, [], [[5, "NaN"]]]
    assert ask(stack, "same_whole", instances) == [[[1, 2]], [[3], [4]], [[0.1]], [], [[5, None]]]
    assert ask(stack, "nothing_taken", [{}, {}]) == [[0], [0]]
    assert ask(stack, "nothing_needed", [{}, {"X": 1}, 2]) == [[0], [1], [1]]


def test_variable_sizes(stack: Stack) -> None:
    assert ask(stack, "same_matrix", [[[1, 2], [3, 4]], b64(np.arange(4).tobytes())]) == [
        [[1, 2], [3, 4]],
        [[0, 1], [2, 3]],
    ]
    assert ask(stack, "same_matrix", [[], {"X": []}]) == [[], []]


def test_outputs_named_bytes_are_never_text(stack: Stack) -> None:
    instance = {"X": "text", "X_bytes": "text"}
    assert ask(stack, "same_named", [instance]) == [{"Y": ["text"], "Y_bytes": [b64(b"text")]}]


# Classes


def entry(label: str | None, index: int, score: float | None) -> dict[str, Any]:
    return {"label": label, "index": index, "score": score}


def test_the_best_classes(stack: Stack) -> None:
    instances = [[0.1, 0.7, 0.15, 0.05], [1, 2, 3, 1e30], [0, 0.5, 1e-9, -1]]
    assert ask(stack, "same_best", instances, top_k=2) == [
        [entry("dog: big", 1, 0.7), entry(None, 2, 0.15)],
        [entry("bird", 3, 1.0000000150474662e30), entry(None, 2, 3)],
        [entry("dog: big", 1, 0.5), entry(None, 2, 0)],  # Triton prints six decimals
    ]
    assert [len(row) for row in ask(stack, "same_best", instances, top_k=10**12)] == [4, 4, 4]
    assert ask(stack, "same_best", [["Infinity", 1, 0, -1]], top_k=1) == [[entry("cat", 0, None)]]
    assert ask(stack, "same_best", instances[:1]) == [[0.1, 0.7, 0.15, 0.05]]


def test_the_best_classes_of_more_rows_than_a_call_has(stack: Stack) -> None:
    instances = [[0, 0, 0, number] for number in range(1, 21)]
    found = ask(stack, "same_best", instances, top_k=1)
    assert found == [[entry("bird", 3, number)] for number in range(1, 21)]


def test_the_best_classes_of_many_callers(stack: Stack) -> None:
    """Calls for different numbers of classes are never one call; each caller gets as many as it asked for."""

    def call(number: int) -> bool:
        wanted = number % 5  # 0 = the output as it is
        (row,) = ask(stack, "same_best", [[number, 0, 0, 0]], **({"top_k": wanted} if wanted else {}))
        if not wanted:
            return bool(row == [number, 0, 0, 0])
        return len(row) == wanted and (number == 0 or row[0] == entry("cat", 0, number))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(call, range(300)))


def test_the_best_classes_of_several_outputs(stack: Stack) -> None:
    """Of those that have labels and that Triton can classify; the others are as they are."""
    found = ask(stack, "same_bests", [{"X1": [[1, 2], [3, 2**53]], "X2": [0.1, 2]}], top_k=2)
    assert found == [{"Y1": [entry("bird", 3, 2**53), entry(None, 2, 3)], "Y2": [0.1, 2]}]


def test_the_best_classes_without_batching(stack: Stack) -> None:
    assert ask(stack, "same_best0", [[1, 2, 3], ["-Infinity", 0.25, 0]], top_k=2) == [
        [entry(None, 2, 3), entry("dog: big", 1, 2)],
        [entry("dog: big", 1, 0.25), entry(None, 2, 0)],
    ]


def test_classes_of_outputs_that_go_through_shared_memory_otherwise(stack: Stack) -> None:
    numbers = np.arange(50_000, dtype=np.float32)
    instances = [b64(contents("FP32", numbers)), b64(contents("FP32", -numbers))]
    for _ in range(2):
        assert ask(stack, "same_large", instances) == [numbers.tolist(), (-numbers).tolist()]
        found = ask(stack, "same_large", instances, top_k=1)
        assert found == [[entry(None, 49_999, 49_999)], [entry("cat", 0, 0)]]


def test_bf16_through_shared_memory(stack: Stack) -> None:
    numbers = np.arange(100_000, dtype=np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    rows = [numbers, -numbers, numbers / 2]
    found = ask(stack, "same_large16", [b64(contents("BF16", row)) for row in rows[:2]] + [rows[2].tolist()])
    for row, prediction in zip(rows, found, strict=True):
        back = np.array(prediction, np.float64).astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(back, row)


@pytest.mark.parametrize(
    ("model", "top_k", "sentence"),
    [
        *(
            ("same_best", value, "parameters.top_k: has to be a whole number from 1 on")
            for value in (0, -1, 1.5, True, "2", [1])
        ),
        ("same_one", 1, "parameters.top_k: model 'same_one' has no classes: none of its outputs has labels"),
        ("same_worst", 1, "parameters.top_k: model 'same_worst' has no classes: Triton cannot classify 'Y' (BYTES)"),
    ],
)
def test_classes_that_cannot_be_had(stack: Stack, model: str, top_k: Any, sentence: str) -> None:
    triton = stack.triton_pid()
    instance = {"same_best": [1, 2, 3, 4], "same_one": 1, "same_worst": ["a", "b"]}[model]
    assert refusal(stack, model, [instance], top_k=top_k) == sentence
    assert ask(stack, model, [instance]) == [instance if isinstance(instance, list) else [instance]]
    assert stack.triton_pid() == triton  # which would have died of the last one


# Mistakes


@pytest.mark.parametrize(
    ("model", "instances", "sentence"),
    [
        ("same_one", [1, None], "instances[1]: input 'X' is FP32 and takes numbers, not null"),
        ("same_one", [1, "1.5"], "instances[1]: input 'X' is FP32 and takes numbers, not '1.5'"),
        ("same_one", [[1], [True]], "instances[1]: input 'X' is FP32 and takes numbers, not true at [0]"),
        ("same_one", [1, 1e39], "instances[1]: input 'X' has a number outside FP32: 1e+39"),
        ("same_one", [1, [2, 3]], "instances[1]: input 'X' has shape [2]; the model takes [1]"),
        ("same_one", [1, [[2]]], "instances[1]: input 'X' is nested deeper than the model takes, [1]"),
        ("same_one", [b64(b"12345")], "instances[0]: input 'X': 5 bytes do not make FP32 [1]"),
        ("same_text", ["a", 1], "instances[1]: input 'X' is BYTES and takes strings or {'b64': ...}, not 1"),
        (
            "same_matrix",
            [[[1, 2]], [[1, 2], [3]]],
            "instances[1]: input 'X' is ragged: its lists differ in length or depth",
        ),
        (
            "same_matrix",
            [[[1, 2]], [[1, 2], [3, 4]]],
            "instances[1]: 'X' has shape [2,2] where another instance has [1,2]",
        ),
        (
            "same_matrix",
            [[["1", "+2"]]],
            "instances[0]: input 'X' is INT64 and takes whole numbers, not '+2' at [0][1]",
        ),
        ("same_matrix", [[[1, 2.5]]], "instances[0]: input 'X' is INT64 and takes whole numbers, not 2.5 at [0][1]"),
        (
            "same_matrix",
            [[[1, str(2**63)]]],
            f"instances[0]: input 'X' has a number outside INT64: '{2**63}' at [0][1]",
        ),
        ("same_every", [{"BF16": 3.4e38}], "instances[0]: input 'BF16' has a number outside BF16: 3.4e+38"),
        ("same_every", [{"BOOL": 1}], "instances[0]: input 'BOOL' is BOOL and takes booleans, not 1"),
        (
            "count_some",
            [{"X1": 1}, {}],
            "instances[1]: gives no input; model 'count_some' takes 'X1' (FP32 [1]), 'X2' (FP32 [1]), "
            "and needs at least one",
        ),
        (
            "count_some",
            [5],
            "instances[0]: is not an object; model 'count_some' takes the inputs 'X1' (FP32 [1]), 'X2' (FP32 [1])",
        ),
        (
            "count_some",
            [{"X3": 1}],
            "instances[0]: unknown input 'X3'; model 'count_some' takes 'X1' (FP32 [1]), 'X2' (FP32 [1])",
        ),
        (
            "nothing_taken",
            [5],
            "instances[0]: is not an object; model 'nothing_taken' takes no inputs, so an instance is {}",
        ),
        (
            "told_padded",
            [[[1]], [[1], [2, 3]]],
            "instances[1]: input 'X' is ragged: its lists differ in length or depth",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(stack: Stack, model: str, instances: list[Any], sentence: str) -> None:
    assert refusal(stack, model, instances) == sentence


def test_a_short_body_cannot_ask_for_any_amount_of_memory(stack: Stack) -> None:
    long, short = [[0] * 200_000], [[0]]
    body = json.dumps({"instances": [long, *[short] * 2000], "parameters": {"model": "told_padded"}})
    assert len(body) < 1 << 20
    assert refusal(stack, "told_padded", [long, *[short] * 2000]) == (
        "instances[0]: input 'X': 2001 rows padded to [1,200000] would take 1526 MiB where 256 are allowed"
    )


def test_nothing_of_all_that_was_a_bug(stack: Stack, tmp_path: Path) -> None:
    assert ask(stack, "same_one", [1]) == [[1]]
    never = ("Traceback", "unexpected failure", "failed in")
    assert [line for line in stack.output().splitlines() if any(word in line for word in never)] == []
