"""Outputs as JSON: numbers in their shortest form, texts, classes; rows of one output and of several."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from listener import bf16
from listener.call import Reply
from listener.contract.instances import encode
from listener.errors import BadRequest
from listener.predictions import prediction, predictions, printable, top_k
from listener.tensors import NUMPY, ModelSpec, TensorSpec
from tests.test_values import FLOAT, tensors


def model(*outputs: TensorSpec, batch: int = 8) -> ModelSpec:
    return ModelSpec("m", (), outputs, batch)


def one(datatype: str, name: str = "y", batch: int = 8) -> ModelSpec:
    return model(TensorSpec(name, datatype, (-1,)), batch=batch)


def said(rows: list[Any]) -> Any:
    """What a caller reads."""
    return orjson.loads(encode(Reply(rows)))["predictions"]


def texts(*items: Any) -> NDArray[Any]:
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array


# Numbers


@given(tensors().filter(lambda given_tensor: given_tensor[0] != "BYTES"), st.booleans())
def test_numbers_come_out_in_the_shortest_form_that_gives_them_back(
    given_tensor: tuple[str, NDArray[Any]], turned: bool
) -> None:
    datatype, array = given_tensor
    array = array.T if turned else array
    (row,) = said([prediction({"y": array}, one(datatype))])
    back = np.asarray(row, np.float64 if datatype in FLOAT else array.dtype)
    assert np.array_equal(back.astype(array.dtype).reshape(array.shape), array) or datatype == "BF16"
    if datatype == "BF16":
        assert np.array_equal(bf16.rounded(back).reshape(array.shape), array)
    elif datatype in FLOAT:  # numpy's text is the shortest, too
        assert back.ravel().tolist() == array.astype(np.str_).astype(np.float64).ravel().tolist()


@pytest.mark.parametrize("datatype", FLOAT)
@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[0], lambda a: a[0, 0], lambda a: a.T, lambda a: a[::2]])
def test_a_tenth_is_0_1_in_every_datatype(datatype: str, view: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    tenth = bf16.rounded(np.array(0.1)) if datatype == "BF16" else 0.1
    array = view(np.full((4, 2), tenth, NUMPY[datatype]))
    text = encode(Reply([prediction({"y": np.asarray(array)}, one(datatype))])).decode()
    assert set(re.findall(r"[\d.]+", text)) == {"0.1"}


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_no_number_of_16_bits_has_a_shorter_form(datatype: str) -> None:
    bits = np.arange(0x7C00 if datatype == "FP16" else 0x7F80, dtype=np.uint16)
    numbers = bits.view(np.float16) if datatype == "FP16" else bf16.unpacked(bits)

    def patterns(doubles: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            halves = doubles.astype(np.float16).view(np.uint16)
        return halves if datatype == "FP16" else bf16.packed(bf16.rounded(doubles))

    printed = printable(numbers, datatype)
    assert np.array_equal(patterns(printed), bits)
    shorter = [
        (pattern, text) for pattern in bits for text in one_digit_less(float(printed[pattern]), numbers[pattern])
    ]
    found = patterns(np.array([float(text) for _, text in shorter]))
    assert [text for (pattern, text), back in zip(shorter, found, strict=True) if back == pattern] == []
    np.testing.assert_array_equal(printable(-numbers, datatype), -printed)


def one_digit_less(printed: float, number: Any) -> list[Decimal]:
    """The decimals on both sides of a number with one digit less than it is printed with."""
    digits = len(Decimal(repr(printed)).normalize().as_tuple().digits) - 1
    exact = Decimal(float(number))
    return [exact.normalize(Context(digits, rounding)) for rounding in (ROUND_FLOOR, ROUND_CEILING) if digits]


@pytest.mark.parametrize("datatype", FLOAT)
@pytest.mark.parametrize("batch", [0, 8])
def test_what_json_has_no_word_for_comes_out_as_null(datatype: str, batch: int) -> None:
    array = np.array([[np.nan, np.inf, -np.inf]], NUMPY[datatype])
    assert said(predictions([{"y": array}, {"y": array[:, 0]}], one(datatype, batch=batch))) == (
        [[None] * 3, None] if batch else [[[None] * 3], [None]]
    )


def test_other_numbers_are_handed_on() -> None:
    for datatype in ("FP32", "FP64", "INT8", "UINT64", "BOOL"):
        array = np.ones(2, NUMPY[datatype])
        assert printable(array, datatype) is array


# Texts


def test_bytes_that_are_text_come_out_as_text() -> None:
    array = np.array([["ä".encode(), b"\xff\x00"], [b"", "str"]], dtype=np.object_)
    assert prediction({"y": array}, one("BYTES")) == [
        ["ä", {"b64": base64.b64encode(b"\xff\x00").decode()}],
        ["", "str"],
    ]


@given(st.lists(st.binary(max_size=6), max_size=3))
def test_outputs_whose_name_says_bytes_are_never_text(items: list[bytes]) -> None:
    for name, spec in (("y_bytes", one("BYTES", "y_bytes")), ("y_bytes", model())):
        rows = prediction({name: texts(*items)}, spec)
        assert [base64.b64decode(row["b64"]) for row in rows] == items
        assert all(row.keys() == {"b64"} for row in rows)


def test_the_name_matters_to_strings_alone() -> None:
    assert said(predictions([{"n_bytes": np.ones((1, 2), np.int8)}], one("INT8", "n_bytes"))) == [[1, 1]]


# Rows

Y, S = np.array([[1, 2], [3, 4]], np.float32), texts(b"a", b"\xff")


def test_one_output_is_a_bare_value_and_several_are_an_object() -> None:
    assert said(predictions([{"y": Y}], one("FP32"))) == [[1, 2], [3, 4]]
    both = model(TensorSpec("y", "FP32", (2,)), TensorSpec("s_bytes", "BYTES", ()))
    assert said(predictions([{"y": Y, "s_bytes": S}], both)) == [
        {"y": [1, 2], "s_bytes": {"b64": "YQ=="}},
        {"y": [3, 4], "s_bytes": {"b64": "/w=="}},
    ]


def test_an_output_that_is_not_given_is_not_there() -> None:
    both = model(TensorSpec("y", "FP32", (2,)), TensorSpec("z", "FP32", (2,)))
    assert said(predictions([{"y": Y}, {"y": Y, "z": Y}], both)) == [
        {"y": [1, 2]},
        {"y": [3, 4]},
        {"y": [1, 2], "z": [1, 2]},
        {"y": [3, 4], "z": [3, 4]},
    ]
    assert predictions([{}], model(batch=0)) == [{}]


def test_parts_keep_their_order_and_may_differ_in_shape() -> None:
    assert said(predictions([{"y": Y}, {"y": Y[:1, :1] * 9}], one("FP32"))) == [[1, 2], [3, 4], [9]]
    assert said(predictions([{"y": Y}, {"y": Y[0]}], one("FP32", batch=0))) == [Y.tolist(), [1, 2]]


def test_a_scalar_comes_out_bare() -> None:
    assert said([prediction({"y": np.array(1.5, np.float32)}, one("FP32"))]) == [1.5]
    assert prediction({"y": np.array(b"a", np.object_)}, one("BYTES")) == "a"


# Classes

LABELLED = TensorSpec("y", "FP32", (3,), labelled=True)


def test_classes_as_triton_says_them() -> None:
    rows = np.array([[b"0.900000:3:cat", b"-0.000001:0"], [b"inf:1:a: b:c", b"nan:2:\xff"]], np.object_)
    assert said(predictions([{"y": rows}], model(LABELLED), classes=True)) == [
        [{"label": "cat", "index": 3, "score": 0.9}, {"label": None, "index": 0, "score": -0.000001}],
        [{"label": "a: b:c", "index": 1, "score": None}, {"label": {"b64": "/w=="}, "index": 2, "score": None}],
    ]


def test_classes_without_batching_and_beside_other_outputs() -> None:
    spec = model(LABELLED, TensorSpec("s", "BYTES", (1,)), TensorSpec("n", "FP16", (1,), labelled=True), batch=0)
    row = {"y": texts(b"1.5:0:a"), "s": texts(b"1:2:3"), "n": np.ones(1, np.float16)}
    assert said(predictions([row], spec, classes=True)) == [
        {"y": [{"label": "a", "index": 0, "score": 1.5}], "s": ["1:2:3"], "n": [1.0]}
    ]


def test_scores_of_whole_numbers_are_whole() -> None:
    spec = model(TensorSpec("y", "UINT64", (1,), labelled=True))
    ((made,),) = predictions([{"y": np.array([[b"18446744073709551615:0:a"]], np.object_)}], spec, classes=True)
    assert made["score"] == 2**64 - 1


@pytest.mark.parametrize(
    ("given_number", "asked"), [(1, 1), (3, 3), (3.0, 3), (10**6, 10**6), (2**31, 2**31 - 1), (2**64, 2**31 - 1)]
)
def test_how_many_classes(given_number: float, asked: int) -> None:
    assert top_k({"top_k": given_number}, model(LABELLED)) == asked


@pytest.mark.parametrize("parameters", [{}, {"top_k": None}, {"k": 1}], ids=repr)
def test_no_classes_are_asked_for(parameters: dict[str, Any]) -> None:
    assert top_k(parameters, model()) == 0


@pytest.mark.parametrize("value", [0, -1, True, False, 0.0, 2.5, "3", [1], {}], ids=repr)
def test_what_is_no_number_of_classes(value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        top_k({"top_k": value}, model(LABELLED))
    assert caught.value.message == "parameters.top_k: has to be a whole number from 1 on"


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ((TensorSpec("y", "FP32", (3,)),), "none of its outputs has labels"),
        ((TensorSpec("y", "BYTES", (3,), labelled=True),), "Triton cannot classify 'y' (BYTES)"),
        ((), "none of its outputs has labels"),
    ],
)
def test_a_model_without_classes(outputs: tuple[TensorSpec, ...], why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        top_k({"top_k": 1}, model(*outputs))
    assert caught.value.message == f"parameters.top_k: model 'm' has no classes: {why}"
