"""Contract, item 5: `instances` (and TensorFlow Serving's `inputs`) of every form, for models without user code."""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest

from tests.contract import models
from tests.contract.target import Target, refused

pytestmark = pytest.mark.triton


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


# Forms of an instance

#: Model, instances and predictions.
FORMS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "bare scalars": ("identity_fp32", [1, 2.5, -3], [[1.0], [2.5], [-3.0]]),
    "bare texts": ("upper", ["one", "two"], [["ONE"], ["TWO"]]),
    "bare text of a variable dimension": ("identity_bytes", ["one"], [["one"]]),
    "lists": ("identity_fp32", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    "one list": ("identity_int32", [[7]], [[7]]),
    "an empty list": ("identity_fp32", [[]], [[]]),
    "nested lists": ("matrix", [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [1, 1, 1]]], [[5.0, 7.0, 9.0], [1.0, 1.0, 1.0]]),
    "keyed": ("identity_fp32", [{"X": [1, 2]}, {"X": [3, 4]}], [[1.0, 2.0], [3.0, 4.0]]),
    "keyed scalars": ("identity_fp32", [{"X": 1}, {"X": 2}], [[1.0], [2.0]]),
    "keyed and bare": ("identity_fp32", [{"X": [1, 2]}, [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    "several inputs": (
        "add_sub",
        [{"A": [1, 2, 3, 4], "B": [1, 1, 1, 1]}, {"B": [0, 0, 0, 9], "A": [5, 5, 5, 5]}],
        [
            {"SUM": [2, 3, 4, 5], "DIFFERENCE": [0, 1, 2, 3]},
            {"SUM": [5, 5, 5, 14], "DIFFERENCE": [5, 5, 5, -4]},
        ],
    ),
    "a variable dimension": ("variable", [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]], [[12.0, 15.0, 18.0]]),
    "without batching, tensors of different shape": (
        "unbatched",
        [[[1, 2], [3, 4]], [[5, 6]]],
        [[4.0, 6.0], [5.0, 6.0]],
    ),
    "b64 at depth 0": ("identity_bytes", [b64(b"one")], [["one"]]),
    "b64 at depth 1": ("identity_bytes", [[b64(b"one"), "two"]], [["one", "two"]]),
    "b64 at depth 1, keyed": ("identity_bytes", [{"X": b64(b"one")}], [["one"]]),
    "b64 at depth 2": ("identity_bytes", [{"X": [b64(b"one"), b64(b"")]}], [["one", ""]]),
    "b64 of numbers": ("identity_fp32", [b64(floats(1, 2, 3))], [[1.0, 2.0, 3.0]]),
    "b64 of numbers, keyed": ("identity_fp32", [{"X": b64(floats(0.5))}], [[0.5]]),
    "b64 of a matrix": ("matrix", [b64(floats(1, 2, 3, 4, 5, 6))], [[5.0, 7.0, 9.0]]),
    "b64 of one of several inputs": (
        "add_sub",
        [{"A": b64(struct.pack("<4i", 1, 2, 3, 4)), "B": [1, 1, 1, 1]}],
        [{"SUM": [2, 3, 4, 5], "DIFFERENCE": [0, 1, 2, 3]}],
    ),
    "an optional input": ("optional", [{"A": 1, "B": 2}], [[3.0]]),
    "an optional input left out": ("optional", [{"A": 1}, {"A": [2]}], [[101.0], [102.0]]),
    "ragged rows of a ragged model": (
        "ragged",
        [[1, 2, 3], [4]],
        [{"LENGTH": [3], "SUM": [6.0]}, {"LENGTH": [1], "SUM": [4.0]}],
    ),
    "ragged rows that are padded": (
        "padded",
        [[1, 2, 3], [4]],
        [{"LENGTH": [3], "SUM": [6.0]}, {"LENGTH": [3], "SUM": [4.0]}],
    ),
}


@pytest.mark.parametrize(("model", "instances", "predictions"), FORMS.values(), ids=FORMS.keys())
def test_a_form_of_instances(target: Target, model: str, instances: list[Any], predictions: list[Any]) -> None:
    assert target.predictions(instances, model) == predictions


# Datatypes

_EXTREMES = {
    f"{'U' if low == 0 else ''}INT{bits}": [low, high]
    for bits in (8, 16, 32, 64)
    for low, high in ((0, 2**bits - 1), (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
}

_TEXTS = ["", "text", "Z\u00fcrich \u2713 \U0001f600", "line\nbreak", 'quote"']
_FLOATS = ("FP16", "BF16", "FP32", "FP64")

#: Datatype, a row, and what comes back of it.
ROWS: list[tuple[str, list[Any], list[Any]]] = [
    ("BOOL", [True, False], [True, False]),
    *((datatype, row, row) for datatype, row in _EXTREMES.items()),
    *((datatype, [str(n) for n in row], row) for datatype, row in _EXTREMES.items()),
    *((datatype, [3.0, 0.0], [3, 0]) for datatype in _EXTREMES),
    ("INT64", ["9007199254740993", 9007199254740993], [9007199254740993, 9007199254740993]),
    ("INT64", ["-9007199254740993", -1.0, 2], [-9007199254740993, -1, 2]),
    ("INT64", [1e3], [1000]),
    ("FP16", [0.1, -2, 1024], [0.1, -2, 1024]),
    ("FP32", [0.1, -2, 3e38, 16777216], [0.1, -2, 3e38, 16777216]),
    ("FP64", [0.1, -2, 1e308, 9007199254740991], [0.1, -2, 1e308, 9007199254740991]),
    # BF16 has seven bits of a fraction; halves go to the even neighbour
    ("BF16", [0.5, -2, 1.0078125], [0.5, -2, 1.0078125]),
    ("BF16", [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-12], [1.0, 1.015625, 1.0078125]),
    (
        "BYTES",
        ["", "text", "Zürich \u2713 \U0001f600", "line\nbreak", 'quote"'],
        ["", "text", "Zürich \u2713 \U0001f600", "line\nbreak", 'quote"'],
    ),
    ("BYTES", [b64(b"\x00\xff")], [b64(b"\x00\xff")]),
    *(
        (datatype, ["NaN", "Infinity", "-Infinity", 1], [None, None, None, 1])
        for datatype in ("FP16", "FP32", "FP64", "BF16")
    ),
]


@pytest.mark.parametrize(("datatype", "row", "prediction"), ROWS)
def test_a_datatype(target: Target, datatype: str, row: list[Any], prediction: list[Any]) -> None:
    (made,) = target.predictions([row], f"identity_{datatype.lower()}")
    if datatype == "BF16":  # printed as short as tells it from its neighbours, which are 2^-7 away around 1
        assert made == [n if n is None else pytest.approx(n, abs=2**-8) for n in prediction]
    else:
        assert made == prediction
    assert list(map(type, made)) == list(map(type, prediction)) or datatype.startswith(("FP", "BF"))


#: Datatype, little-endian bytes, and the prediction.
RAW: list[tuple[str, bytes, list[Any]]] = [
    ("BOOL", b"\x01\x00\x01", [True, False, True]),
    ("UINT8", b"\x00\xff", [0, 255]),
    ("UINT16", b"\x01\x00\xff\xff", [1, 65535]),
    ("UINT32", b"\x01\x00\x00\x00", [1]),
    ("UINT64", b"\xff" * 8, [2**64 - 1]),
    ("INT8", b"\xff\x7f", [-1, 127]),
    ("INT16", b"\xfe\xff", [-2]),
    ("INT32", b"\x02\x01\x00\x00", [258]),
    ("INT64", b"\x00" * 7 + b"\x80", [-(2**63)]),
    ("FP16", b"\x00\x3c\x00\xc0\x00\x7e", [1, -2, None]),
    ("BF16", b"\x80\x3f\x00\xc0\xc0\x7f\x80\x7f", [1, -2, None, None]),
    ("FP32", b"\x00\x00\x80\x3f\x00\x00\xc0\x7f", [1, None]),
    ("FP64", struct.pack("<3d", 0.1, -2, float("inf")), [0.1, -2, None]),
    ("BYTES", b"\xff\x00", [b64(b"\xff\x00")]),
]


@pytest.mark.parametrize(("datatype", "content", "prediction"), RAW, ids=[case[0] for case in RAW])
def test_b64_is_a_whole_tensor_of_numbers_or_one_element_of_bytes(
    target: Target, datatype: str, content: bytes, prediction: list[Any]
) -> None:
    model = f"identity_{datatype.lower()}"
    assert target.predictions([b64(content)], model) == [prediction]
    assert target.predictions([{"X": b64(content)}] * 3, model) == [prediction] * 3


# What is refused

#: Model, instances, and words of the sentence.
BAD: dict[str, tuple[str, Any, str]] = {
    "no instance": ("identity_fp32", [], "instances"),
    "an object": ("identity_fp32", {"X": [1]}, "instances"),
    "null": ("identity_fp32", None, "instances"),
    "unknown input": ("identity_fp32", [[1], {"Z": [1]}], "instances[1]"),
    "unknown input beside a known one": ("identity_fp32", [{"X": [1], "Z": [1]}], "instances[0]"),
    "missing input": ("add_sub", [{"A": [1, 2, 3, 4]}], "instances[0]"),
    "a bare value for several inputs": ("add_sub", [[1, 2, 3, 4]], "instances[0]"),
    "no input at all": ("add_sub", [{}], "instances[0]"),
    "a ragged instance": ("matrix", [[[1, 2, 3], [4, 5]]], "instances[0]"),
    "ragged rows": ("identity_fp32", [[1, 2], [1, 2], [1, 2, 3]], "instances[2]"),
    "ragged rows of a variable dimension": ("variable", [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], "instances[1]"),
    "another shape": ("matrix", [[[1, 2], [3, 4], [5, 6]]], "instances[0]"),
    "too deep": ("identity_fp32", [[[1]]], "instances[0]"),
    "a scalar for a matrix": ("matrix", [1], "instances[0]"),
    "3.5 for a whole number": ("identity_int64", [[1], [3.5]], "instances[1]"),
    "text 3.5 for a whole number": ("identity_int64", [["3.5"]], "instances[0]"),
    "a word for a whole number": ("identity_int64", [["three"]], "instances[0]"),
    "text in hexadecimal": ("identity_int64", [["0x10"]], "instances[0]"),
    "empty text for a number": ("identity_int64", [[""]], "instances[0]"),
    "NaN for a whole number": ("identity_int32", [["NaN"]], "instances[0]"),
    "a word for a float": ("identity_fp32", [["one"]], "instances[0]"),
    "another word for a float": ("identity_fp32", [["nan"]], "instances[0]"),
    "256 for 8 bits": ("identity_uint8", [[256]], "instances[0]"),
    "text 256 for 8 bits": ("identity_uint8", [["256"]], "instances[0]"),
    "-1 without a sign": ("identity_uint64", [[-1]], "instances[0]"),
    "2^64": ("identity_uint64", [["18446744073709551616"]], "instances[0]"),
    "2^63": ("identity_int64", [[2**63]], "instances[0]"),
    "too much for 32 bits": ("identity_fp32", [[1e39]], "instances[0]"),
    "too much for 16 bits": ("identity_fp16", [[1e6]], "instances[0]"),
    "true for a number": ("identity_fp32", [[True]], "instances[0]"),
    "true among numbers": ("identity_int64", [[1, True]], "instances[0]"),
    "1 for a boolean": ("identity_bool", [[1]], "instances[0]"),
    "a number for bytes": ("identity_bytes", [[1]], "instances[0]"),
    "null for a number": ("identity_fp32", [[None]], "instances[0]"),
    "null for an instance": ("identity_fp32", [[1], None], "instances[1]"),
    "an object for a number": ("identity_fp32", [[{}]], "instances[0]"),
    "no base64": ("identity_bytes", [b64(b"x"), {"b64": "?"}], "instances[1]"),
    "base64 without its padding": ("identity_bytes", [{"b64": "AAA"}], "instances[0]"),
    "a number for base64": ("identity_bytes", [{"b64": 1}], "instances[0]"),
    "b64 beside another key": ("identity_bytes", [{"b64": "AAAA", "k": 1}], "instances[0]"),
    "bytes that are no tensor": ("identity_fp32", [b64(b"12345")], "instances[0]"),
    "too few bytes": ("matrix", [b64(floats(1, 2, 3))], "instances[0]"),
}


@pytest.mark.parametrize(("model", "instances", "words"), BAD.values(), ids=BAD.keys())
def test_bad_instances_are_400_and_the_sentence_names_the_instance(
    target: Target, model: str, instances: Any, words: str
) -> None:
    answer = target.predict({"instances": instances, "parameters": {"model": model}})
    assert words in refused(answer, 400)


BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b" ",
    "no JSON": b"instances",
    "cut off": b'{"instances": [[1',
    "a list": b"[[1]]",
    "a number": b"1",
    "text": b'"instances"',
    "without instances": b'{"instance": [[1]]}',
    "a bare NaN": b'{"instances": [[NaN]]}',
    "a bare Infinity": b'{"instances": [[Infinity]]}',
    "not UTF-8": b'{"instances": ["\xff"]}',
    "UTF-16": '{"instances": [[1]]}'.encode("utf-16"),
    "two documents": b'{"instances": [[1]]}{"instances": [[1]]}',
    "a comment": b'{"instances": [[1]]} // one',
    "a trailing comma": b'{"instances": [[1],]}',
    "parameters a list": b'{"instances": [[1]], "parameters": [1]}',
    "parameters text": b'{"instances": [[1]], "parameters": "identity_fp32"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_400(target: Target, body: bytes) -> None:
    refused(target.predict(body, Content_Type="application/json"), 400)


# Around the instances


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [[1.0]]},
        {"instances": [[1.0]], "parameters": None},
        {"instances": [[1.0]], "parameters": {}},
        {"instances": [[1.0]], "parameters": {"temperature": 0.5, "stop": ["a"]}},
        {"instances": [[1.0]], "signature_name": "serving_default"},
    ],
)
def test_parameters_are_optional_and_other_keys_pass(target: Target, document: dict[str, Any]) -> None:
    answer = target.predict(document)
    assert (answer.status, answer.json()) == (200, {"predictions": [[1.0]]})


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json ; charset="utf-8"; x=y',
        "APPLICATION/JSON",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
    ],
)
def test_media_types_of_json(target: Target, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = target.post(target.predict_route, b'{"instances": [[1.0]]}', headers)
    assert (answer.status, answer.json()) == (200, {"predictions": [[1.0]]})
    assert answer.media_type == "application/json"


def test_a_batch_of_64_records(target: Target) -> None:
    """What a batch job sends by default."""
    records = [[float(n), n / 8] for n in range(64)]
    assert target.predictions(records) == records


# Choosing the model


def test_the_default_model(target: Target) -> None:
    assert target.predictions([[1.5]]) == target.predictions([[1.5]], models.DEFAULT)


@pytest.mark.parametrize(("version", "factor"), [(None, 2), (1, 1), ("1", 1), (2, 2), ("2", 2)])
def test_a_version_may_be_a_number_or_text(target: Target, version: Any, factor: int) -> None:
    """Without one it is the latest."""
    parameters = {} if version is None else {"version": version}
    assert target.predictions([[3.0], [4.0]], "versions", **parameters) == [[3.0 * factor], [4.0 * factor]]


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "nothing"},
        {"model": ""},
        {"model": 1},
        {"model": ["versions"]},
        {"model": "../versions"},
        {"model": "versions/versions/1"},
        {"model": "versions", "version": 3},
        {"model": "versions", "version": "one"},
        {"model": "versions", "version": -1},
        {"model": "versions", "version": 1.5},
        {"model": "versions", "version": True},
        {"model": "versions", "version": ""},
        {"model": "versions", "version": "1/../2"},
    ],
)
def test_a_model_that_is_not_there_is_the_callers_mistake(target: Target, parameters: dict[str, Any]) -> None:
    refused(target.predict({"instances": [[1.0]], "parameters": parameters}), 400)


def test_the_sentence_for_an_unknown_model_names_it(target: Target) -> None:
    answer = target.predict({"instances": [[1.0]], "parameters": {"model": "nothing"}})
    assert "'nothing'" in refused(answer, 400)


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        ("/v1/models/versions:predict", 2),
        ("/v1/models/versions/versions/1:predict", 1),
        ("/v1/models/versions/versions/2:predict", 2),
        ("/v1/models/version%73:predict", 2),
    ],
)
def test_a_model_by_its_path(target: Target, path: str, factor: int) -> None:
    """KServe's V1 and TensorFlow Serving's paths."""
    answer = target.post(path, {"instances": [[3.0], {"X": 4}]})
    assert (answer.status, answer.json()) == (200, {"predictions": [[3.0 * factor], [4.0 * factor]]})


@pytest.mark.parametrize(
    "path", ["/v1/models/nothing:predict", "/v1/models/versions/versions/3:predict", "/v1/models/a%2fb:predict"]
)
def test_a_model_that_is_not_there_by_its_path_is_404(target: Target, path: str) -> None:
    refused(target.post(path, {"instances": [[1.0]]}), 404)


def test_what_is_wrong_with_a_request_by_path_is_400(target: Target) -> None:
    assert "instances[1]" in refused(target.post("/v1/models/matrix:predict", {"instances": [[[1] * 3] * 2, 1]}), 400)


# Columns, as TensorFlow Serving has them

#: Model, `inputs` and `outputs`.
COLUMNS: dict[str, tuple[str, Any, Any]] = {
    "one input, bare": ("identity_fp32", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    "one input, by name": ("identity_fp32", {"X": [[1, 2], [3, 4]]}, [[1.0, 2.0], [3.0, 4.0]]),
    "one row": ("identity_int32", [[7]], [[7]]),
    "a batch of matrices": ("matrix", [[[1, 2, 3], [4, 5, 6]]], [[5.0, 7.0, 9.0]]),
    "several inputs": (
        "add_sub",
        {"A": [[1, 2, 3, 4], [5, 5, 5, 5]], "B": [[1, 1, 1, 1], [0, 0, 0, 9]]},
        {"SUM": [[2, 3, 4, 5], [5, 5, 5, 14]], "DIFFERENCE": [[0, 1, 2, 3], [5, 5, 5, -4]]},
    ),
    "a whole tensor, without batching": ("unbatched", [[1, 2], [3, 4]], [4.0, 6.0]),
    "a whole tensor by name, without batching": ("unbatched", {"X": [[1, 2]]}, [1.0, 2.0]),
    "text": ("upper", [["one"], ["two"]], [["ONE"], ["TWO"]]),
    "text in base64": ("upper", [[b64(b"one")]], [["ONE"]]),
    "an optional input left out": ("optional", {"A": [[1], [2]]}, [[101.0], [102.0]]),
    "special numbers": ("identity_fp32", [["NaN", "Infinity", 1]], [[None, None, 1.0]]),
    "64 bits as text": ("identity_int64", [["9007199254740993"]], [[9007199254740993]]),
}


@pytest.mark.parametrize(("model", "inputs", "outputs"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns(target: Target, model: str, inputs: Any, outputs: Any) -> None:
    answer = target.predict({"inputs": inputs, "parameters": {"model": model}})
    assert answer.status == 200, answer
    assert answer.media_type == "application/json"
    assert answer.json() == {"outputs": outputs}


def test_columns_by_path(target: Target) -> None:
    answer = target.post("/v1/models/versions/versions/1:predict", {"inputs": [[3.0]]})
    assert (answer.status, answer.json()) == (200, {"outputs": [[3.0]]})


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("add_sub", {"A": [[1, 2, 3, 4]], "B": [[1, 1, 1, 1], [2, 2, 2, 2]]}),
        ("add_sub", {"A": [[1, 2, 3, 4]]}),
        ("add_sub", [[1, 2, 3, 4]]),
        ("add_sub", {"A": [[1, 2, 3, 4]], "B": [[1, 1, 1, 1]], "C": [[1]]}),
        ("identity_fp32", {"Z": [[1]]}),
        ("identity_fp32", []),
        ("identity_fp32", None),
        ("identity_fp32", [[1, 2], [3]]),
        ("identity_fp32", [["one"]]),
        ("matrix", [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_bad_columns_are_400(target: Target, model: str, inputs: Any) -> None:
    refused(target.predict({"inputs": inputs, "parameters": {"model": model}}), 400)


# Labels


def test_labels_of_the_best(target: Target) -> None:
    predictions = target.predictions([[0.1, 0.7, 0.2], [0.9, 0.0, 0.05]], "labelled", top_k=2)
    told = [[(best["label"], best["index"]) for best in prediction] for prediction in predictions]
    assert told == [[("dog", 1), ("fish", 2)], [("cat", 0), ("fish", 2)]]
    assert [set(best) for prediction in predictions for best in prediction] == [{"label", "index", "score"}] * 4
    scores = [[best["score"] for best in prediction] for prediction in predictions]
    assert scores == [pytest.approx([0.7, 0.2]), pytest.approx([0.9, 0.05])]


def test_more_labels_than_there_are_are_all(target: Target) -> None:
    (prediction,) = target.predictions([[0.1, 0.7, 0.2]], "labelled", top_k=10)
    assert [best["label"] for best in prediction] == ["dog", "fish", "cat"]


def test_without_a_number_of_labels_the_scores_come_as_they_are(target: Target) -> None:
    assert target.predictions([[0.1, 0.7, 0.2]], "labelled") == [[0.1, 0.7, 0.2]]


@pytest.mark.parametrize(
    ("model", "top_k"),
    [
        ("labelled", 0),
        ("labelled", -1),
        ("labelled", "2"),
        ("labelled", 1.5),
        ("labelled", True),
        ("labelled", [1]),
        ("identity_fp32", 1),
    ],
)
def test_a_number_of_labels_that_makes_no_sense_is_400(target: Target, model: str, top_k: Any) -> None:
    answer = target.predict({"instances": [[0.1, 0.7, 0.2]], "parameters": {"model": model, "top_k": top_k}})
    assert "top_k" in refused(answer, 400)
