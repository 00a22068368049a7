"""Arrays with a row for each instance, as batches: the same as row by row, at a fraction of the memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from listener import batches
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec
from listener.values import from_rows

SHAPES = [(), (1,), (2,), (-1,), (2, 3), (-1, 2), (1, 1)]
DTYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.byte_string_dtypes(min_len=1, max_len=2),
    arrays.unicode_string_dtypes(min_len=1, max_len=2),
    arrays.complex_number_dtypes(),
)


def spec(datatype: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec("X", datatype, shape)


def row_by_row(array: NDArray[Any], tensor: TensorSpec) -> NDArray[Any]:
    (batch,) = batches.of_json([array[at, ...] for at in range(len(array))], ModelSpec("m", (tensor,), (), 8))
    return np.asarray(batch.arrays["X"])


@given(
    arrays.arrays(DTYPES, arrays.array_shapes(min_dims=1, max_dims=3, max_side=3)),
    st.sampled_from(sorted(NUMPY)),
    st.sampled_from(SHAPES),
)
def test_what_is_taken_at_once_is_what_row_by_row_gives(
    array: NDArray[Any], datatype: str, shape: tuple[int, ...]
) -> None:
    tensor = spec(datatype, shape)
    made = from_rows(array, tensor)
    if made is None:
        return
    expected = row_by_row(array, tensor)
    assert (made.dtype, made.shape, made.flags.c_contiguous) == (expected.dtype, expected.shape, True)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("datatype", ["INT8", "UINT16", "INT64", "FP16", "FP32", "FP64", "BF16", "BOOL"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_fits_is_taken_at_once(datatype: str, order: Any) -> None:
    array = np.array([[1, 0], [0, 1], [1, 1]], NUMPY[datatype], order=order)
    made = from_rows(array, spec(datatype, (2,)))
    assert made is not None
    assert (made.dtype, made.flags.c_contiguous) == (NUMPY[datatype], True)
    np.testing.assert_array_equal(made, array)


def test_bare_values_stand_for_tensors_of_one_element() -> None:
    made = from_rows(np.array([1, 2, 3]), spec("FP32", (1,)))
    assert made is not None
    assert made.tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("array", "datatype", "shape"),
    [
        (np.zeros((2, 3)), "FP32", (2,)),
        (np.array([[True]]), "FP32", (1,)),
        (np.array([[1]]), "BOOL", (1,)),
        (np.array([[300]]), "INT8", (1,)),
        (np.array([[1e300]]), "FP32", (1,)),
        (np.array([["a"]]), "BYTES", (1,)),
        (np.array([["a"]]), "FP32", (1,)),
        (np.array([[1.0]]), "INT32", (1,)),
    ],
)
def test_anything_else_is_looked_at_row_by_row(array: NDArray[Any], datatype: str, shape: tuple[int, ...]) -> None:
    """Where a mistake has its sentence, and some are none: 1.0 is a whole number."""
    assert from_rows(array, spec(datatype, shape)) is None
    if datatype in ("INT32", "BYTES") or array.dtype.kind == "b":
        assert len(row_by_row(array, spec(datatype, shape))) == 1
    else:
        with pytest.raises(TensorError):
            row_by_row(array, spec(datatype, shape))


def test_many_small_rows_take_little_memory() -> None:
    array = np.zeros((1_000_000, 1), np.int8)
    tracemalloc.start()
    try:
        made = from_rows(array, spec("FP32", (1,)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made is not None
    assert peak < 3 * made.nbytes
