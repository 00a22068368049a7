"""What a model's configuration says of its tensors, and arrays held against it."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.tensors import (
    LETTERS,
    NUMPY,
    ModelSpec,
    TensorError,
    TensorSpec,
    as_array,
    cast,
    fits,
    is_bare,
    itemsize,
    listed,
    packer,
)


def spec(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", datatype, shape)


# Configurations


def test_a_model_config_as_triton_gives_it() -> None:
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [
            {"name": "text", "data_type": "TYPE_STRING", "dims": [1], "allow_ragged_batch": False},
            {"name": "size", "data_type": "TYPE_INT64", "dims": ["-1", "3"], "optional": True},
            {"name": "ids", "data_type": "TYPE_BF16", "dims": [-1], "allow_ragged_batch": True},
        ],
        "output": [
            {"name": "y", "data_type": "TYPE_FP32", "dims": [10], "label_filename": "labels.txt"},
            {"name": "z", "data_type": "TYPE_STRING", "dims": [1], "label_filename": ""},
        ],
        "model_transaction_policy": {"decoupled": True},
        "parameters": {"listener_pad": {"string_value": "0"}, "other": {"string_value": "1"}},
    }
    assert ModelSpec.from_config(config) == ModelSpec(
        "m",
        (
            TensorSpec("text", "BYTES", (1,)),
            TensorSpec("size", "INT64", (-1, 3), optional=True),
            TensorSpec("ids", "BF16", (-1,), ragged=True),
        ),
        (TensorSpec("y", "FP32", (10,), labelled=True), TensorSpec("z", "BYTES", (1,))),
        8,
        decoupled=True,
        pad="0",
    )


def test_a_model_config_may_say_next_to_nothing() -> None:
    assert ModelSpec.from_config({"name": "m"}) == ModelSpec("m", (), (), 0)


def test_a_sequence_model_is_not_independent() -> None:
    assert not ModelSpec.from_config({"name": "m", "sequence_batching": {}}).independent


@pytest.mark.parametrize("datatype", list(NUMPY))
def test_the_outputs_that_triton_can_classify(datatype: str) -> None:
    output = TensorSpec("y", datatype, (3,), labelled=True)
    model = ModelSpec("m", (), (output, replace(output, name="z", labelled=False)), 8)
    unable = datatype in ("BOOL", "FP16", "BF16", "BYTES")
    assert model.classified == (() if unable else (output,))


def test_the_only_input() -> None:
    one = spec("FP32", 2)
    assert ModelSpec("m", (one,), (), 0).only_input is one
    assert ModelSpec("m", (one, one), (), 0).only_input is None
    assert ModelSpec("m", (), (), 0).only_input is None


def test_tensors_in_a_sentence() -> None:
    assert listed([spec("FP32", -1, 3), spec("BYTES")]) == "'x' (FP32 [-1,3]), 'x' (BYTES [])"


# Sizes


@pytest.mark.parametrize(
    ("shape", "wanted", "fitting"),
    [
        ((), (), True),
        ((2, 3), (2, 3), True),
        ((2, 3), (-1, 3), True),
        ((0,), (-1,), True),
        ((2, 3), (3, 2), False),
        ((2,), (2, 1), False),
        ((2, 1), (2,), False),
        ((), (-1,), False),
    ],
)
def test_fits(shape: tuple[int, ...], wanted: tuple[int, ...], fitting: bool) -> None:
    assert fits(shape, wanted) is fitting


@pytest.mark.parametrize(
    ("shape", "bare"),
    [((), True), ((1,), True), ((-1,), True), ((1, -1, 1), True), ((2,), False), ((1, 2), False), ((0,), False)],
)
def test_one_value_is_enough_where_every_size_may_be_1(shape: tuple[int, ...], bare: bool) -> None:
    assert is_bare(shape) is bare


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name != "BYTES"])
def test_sizes_of_elements_are_those_of_the_protocol(datatype: str) -> None:
    bits = "8" if datatype == "BOOL" else re.sub("[A-Z]+", "", datatype)
    assert itemsize(datatype) * 8 == int(bits)


@pytest.mark.parametrize("datatype", list(LETTERS))
def test_numbers_are_packed_as_numpy_does(datatype: str) -> None:
    assert packer(3, datatype).pack(1, 2, 3) == np.array([1, 2, 3], NUMPY[datatype]).tobytes()
    with pytest.raises(struct.error):
        packer(1, datatype).pack("1")


# What handlers give


@pytest.mark.parametrize(
    ("value", "dtype"), [([1, 2], "int64"), (1.5, "float64"), (["a"], "object"), ([b"a\0"], "object"), (b"", "object")]
)
def test_what_counts_as_an_array(value: Any, dtype: str) -> None:
    array = as_array(value)
    assert (array.dtype, array.tolist()) == (np.dtype(dtype), value)
    assert as_array(array) is array


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([1, 2]), "INT8"),
        (np.array([1.5]), "FP16"),
        (np.array([1], np.int8), "FP64"),
        (np.array([np.inf, np.nan]), "FP32"),
        (np.array([True]), "BOOL"),
        (np.array([2**63], np.uint64), "UINT64"),
        (np.array([], np.int64), "INT8"),
        (np.array([1.5, np.inf], ml_dtypes.bfloat16), "BF16"),
        (np.array([1.5, -np.inf], np.float16), "BF16"),
        (np.array([3]), "BF16"),
    ],
)
def test_arrays_become_the_models_datatype(array: Any, datatype: str) -> None:
    made = cast(array, spec(datatype, -1))
    assert made.dtype == NUMPY[datatype]
    np.testing.assert_array_equal(made, array.astype(NUMPY[datatype]))


def test_one_that_is_of_the_datatype_is_handed_on_as_it_is() -> None:
    array = np.ones(2, np.float32)
    assert cast(array, spec("FP32", 2)) is array
    assert cast(array, spec("FP8", 2)) is array


@given(st.floats(-(2.0**127), 2.0**127, width=32))
def test_what_becomes_bf16_is_rounded(number: float) -> None:
    for dtype in (np.float32, np.float64):
        (made,) = cast(np.array([number], dtype), spec("BF16", 1))
        assert made == np.float32(number).astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "datatype", "sentence"),
    [
        (np.array([128]), "INT8", "input 'x' has a number outside INT8"),
        (np.array([-1]), "UINT64", "input 'x' is int64, the model takes UINT64"),
        (np.array([2**63], np.uint64), "INT64", "input 'x' has a number outside INT64"),
        (np.array([70000.0]), "FP16", "input 'x' has a number outside FP16"),
        (np.array([3.4e38], np.float32), "BF16", "input 'x' has a number outside BF16"),
        (np.array([3.4e38]), "BF16", "input 'x' has a number outside BF16"),
        (np.array([1.5]), "INT8", "input 'x' is float64, the model takes INT8"),
        (np.array(["a"]), "FP32", "input 'x' is <U1, the model takes FP32"),
        (np.array([b"a"]), "BYTES", "input 'x' is |S1, which drops trailing NULs; make it dtype=object"),
    ],
)
def test_arrays_that_would_lose_something(array: Any, datatype: str, sentence: str) -> None:
    with pytest.raises(TensorError) as caught:
        cast(array, spec(datatype, -1))
    assert str(caught.value) == sentence
