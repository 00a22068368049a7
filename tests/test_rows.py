"""Whole requests as one array: the same as one instance after the other, wherever there is a short way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from listener.call import Numbers
from listener.rows import from_instances, plain_output, row_count, rows_of, singles, stack
from listener.tensors import LETTERS, NUMPY, ModelSpec, TensorError, TensorSpec
from listener.values import from_instance

NUMERIC = list(LETTERS)
INTEGER = [datatype for datatype in NUMERIC if NUMPY[datatype].kind in "iu"]

#: At the edges of datatypes, and beside them.
EDGES = [
    *(sign * 2**bits + step for bits in (7, 8, 15, 16, 31, 32, 53, 63, 64) for sign in (1, -1) for step in (-1, 0, 1)),
    *(65504, 65519, 65519.99, 65520, 70000.0, 3.4028235e38, 3.4028235677973365e38, 3.4028235677973366e38, 3.5e38, 1e39),
    *(1e308, 10**400, 6e-8, 2.9e-8, 1e-45, 1e-46, 5e-324, -0.0, 3.0, 3.5, 1e15, 2.0**63, 0.1, 2**24 + 1, 2048.5, 2049),
]
NUMBERS = st.one_of(st.integers(), st.integers(-130, 300), st.floats(allow_nan=False, allow_infinity=False))
NUMBERS |= st.sampled_from(EDGES)
OTHERS = st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=3), st.binary(max_size=16), st.just({"x": 1}))


def nested(shape: tuple[int, ...], items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    for size in reversed(shape):
        items = st.lists(items, min_size=size, max_size=size)
    return items


@st.composite
def requests(draw: st.DrawFn, items: st.SearchStrategy[Any] = NUMBERS) -> tuple[list[Any], TensorSpec]:
    """Instances of one shape, or nearly, and a tensor that takes them, or nearly."""
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    wanted = tuple(draw(st.sampled_from([size, size, size, -1, size + 1])) for size in shape)
    if draw(st.integers(0, 5)) == 0:
        wanted = tuple(draw(st.lists(st.sampled_from([1, -1]), max_size=3)))
    instances = draw(st.lists(nested(shape, items), min_size=1, max_size=3))
    if draw(st.integers(0, 5)) == 0:
        instances.append(draw(nested(shape[:-1], items) | nested((*shape, 1), items) | items))
    return instances, TensorSpec("x", draw(st.sampled_from(list(NUMPY))), wanted)


def has_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list) and any(map(has_boolean, value)))


def one_by_one(instances: list[Any], tensor: TensorSpec) -> NDArray[Any]:
    spec = ModelSpec("m", (tensor,), (), 8)
    return stack([from_instance(instance, spec) for instance in instances])["x"]


def compare(instances: list[Any], tensor: TensorSpec) -> bool:
    """Whether there was a short way; then it leads to the same place."""
    array = from_instances(instances, tensor, any(map(has_boolean, instances)))
    if array is None:
        return False
    expected = one_by_one(instances, tensor)  # a refusal here is one that the short way has forgotten
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert array.tobytes() == expected.tobytes()
    return True


@settings(max_examples=400)
@given(requests())
def test_numbers_give_what_one_by_one_gives(request: tuple[list[Any], TensorSpec]) -> None:
    compare(*request)


@settings(max_examples=300)
@given(requests(OTHERS))
@example(([b"\0" * 8], TensorSpec("x", "FP32", (2,))))
@example(([b""], TensorSpec("x", "FP32", (0,))))
@example(([b""], TensorSpec("x", "FP32", (2, 0))))
def test_whatever_json_says_gives_what_one_by_one_gives(request: tuple[list[Any], TensorSpec]) -> None:
    compare(*request)


@pytest.mark.parametrize("number", EDGES, ids=str)
@pytest.mark.parametrize("datatype", NUMERIC)
def test_the_edges_of_datatypes_are_where_they_are_one_by_one(datatype: str, number: float) -> None:
    tensor = TensorSpec("x", datatype, (1,))
    short = compare([[number]], tensor)
    try:
        one_by_one([[number]], tensor)
    except TensorError:
        assert not short
    else:  # a whole number that is written as a float is looked at closer
        assert short is not (datatype in INTEGER and isinstance(number, float))


@pytest.mark.parametrize("datatype", NUMERIC)
def test_there_is_a_short_way_for_plain_numbers(datatype: str) -> None:
    assert compare([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], TensorSpec("x", datatype, (2, -1)))
    for shape in ((), (1,), (-1,), (1, -1, 1)):
        assert compare([1, 2, 3], TensorSpec("x", datatype, shape))
        assert compare([1], TensorSpec("x", datatype, shape))
    assert compare([[], []], TensorSpec("x", datatype, (0,)))
    assert compare([bytes(NUMPY[datatype].itemsize * 2)], TensorSpec("x", datatype, (2,)))


@pytest.mark.parametrize(
    ("instances", "datatype", "shape"),
    [
        ([[True]], "INT64", (1,)),
        ([[True]], "BOOL", (1,)),
        ([["a"]], "BYTES", (1,)),
        ([["1"]], "FP32", (1,)),
        ([[None]], "FP32", (1,)),
        ([[3.0]], "INT64", (1,)),
        ([{"x": [1]}], "FP32", (1,)),
        ([[1], [1, 2]], "FP32", (-1,)),
        ([[1], 1], "FP32", (1,)),
        ([[[1]]], "FP32", (1,)),
        ([1], "FP32", (2,)),
        ([1], "FP32", (0,)),
        ([1, [1]], "FP32", (1,)),
        ([[1]], "FP32", (1, 1)),
        ([[1], [1]], "FP32", ()),
        ([True, 1], "FP32", (1,)),
        (["1"], "INT64", (1,)),
        ([None], "FP32", (1,)),
        ([[1, 2]], "FP32", (1,)),
        ([b"\0\0\0\0", b"\0\0\0\0"], "FP32", (1,)),
        ([b"\0\0\0"], "FP32", (1,)),
        ([b"\0\0\0\0"], "FP32", (-1,)),
        ([[b"\0\0\0\0"]], "FP32", (1,)),
        ([[1]], "BF16", (1,)),
    ],
)
def test_all_else_is_looked_at_closer(instances: list[Any], datatype: str, shape: tuple[int, ...]) -> None:
    assert from_instances(instances, TensorSpec("x", datatype, shape), any(map(has_boolean, instances))) is None


# Outputs


def model(max_batch_size: int) -> ModelSpec:
    return ModelSpec("m", (), (), max_batch_size)


ROWS = np.array([[1.5, 2.5], [3.5, 4.5]], np.float32)
TEXTS = np.array([b"a", b"b"], np.object_)


def test_one_numeric_output_in_one_part_is_an_answer_as_it_is() -> None:
    assert plain_output([{"y": ROWS}], model(8)) is ROWS
    short = plain_output([{"y": ROWS}], ModelSpec("m", (), (TensorSpec("y", "BF16", (2,)),), 8))
    assert short is not None
    assert short.tolist() == ROWS.tolist()
    halves = plain_output([{"y": ROWS.astype(np.float16)}], model(8))
    assert halves is not None
    assert halves.tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("parts", "batch", "made"),
    [
        ([ROWS, ROWS[:1] * 2], 8, [[1.5, 2.5], [3.5, 4.5], [3.0, 5.0]]),
        ([ROWS], 0, [ROWS.tolist()]),
        ([ROWS, ROWS * 2], 0, [ROWS.tolist(), (ROWS * 2).tolist()]),
    ],
    ids=["parts", "no batching", "rows without batching"],
)
def test_several_parts_are_one_answer(parts: list[NDArray[Any]], batch: int, made: Any) -> None:
    joined = plain_output([{"y": part} for part in parts], model(batch))
    assert joined is not None
    assert joined.tolist() == made


@pytest.mark.parametrize(
    ("parts", "batch"),
    [
        ([{"y": ROWS, "z": ROWS}], 8),
        ([{"y": TEXTS}], 8),
        ([{"y": ROWS}, {"y": ROWS[:, :1]}], 8),
        ([{"y": ROWS}, {"y": ROWS[:1]}], 0),
        ([{"y": ROWS}, {"y": ROWS, "z": ROWS}], 8),
        ([{"y": ROWS}, {"y": ROWS.astype(np.int64)}], 8),
        ([{}], 0),
    ],
    ids=["outputs", "texts", "other rows", "other shapes", "other outputs", "other types", "none"],
)
def test_other_outputs_are_looked_at_closer(parts: list[dict[str, NDArray[Any]]], batch: int) -> None:
    assert plain_output(parts, model(batch)) is None


def test_one_of_several_outputs_is_no_bare_value() -> None:
    outputs = (TensorSpec("y", "FP32", (2,)), TensorSpec("z", "FP32", (2,)))
    assert plain_output([{"y": ROWS}], ModelSpec("m", (), outputs, 8)) is None


# Rows as a batch, and back


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4))
def test_a_stack_has_the_rows_in_order(numbers: list[int]) -> None:
    stacked = stack([{"a": np.array([n]), "b": np.array([[-n]], np.int8)} for n in numbers])
    assert stacked["a"].tolist() == [[n] for n in numbers]
    assert (stacked["b"].tolist(), stacked["b"].dtype) == ([[[-n]] for n in numbers], np.dtype(np.int8))


@pytest.mark.parametrize(
    "other", [{"a": ROWS[:1]}, {"b": ROWS}, {"a": ROWS, "b": ROWS}, {}], ids=["shape", "name", "more", "none"]
)
def test_rows_that_do_not_stack(other: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(TensorError):
        stack([{"a": ROWS}, other])


def test_no_arrays_are_one_row() -> None:
    assert (row_count({}), singles({})) == (1, [{}])


def listed(rows: list[dict[str, NDArray[Any]]]) -> list[dict[str, Any]]:
    return [{name: array.tolist() for name, array in row.items()} for row in rows]


def test_rows_keep_their_order_over_parts() -> None:
    parts = [{"y": ROWS, "z": TEXTS}, {"y": ROWS[:1] * 2, "z": TEXTS[:1]}]
    assert listed(rows_of(parts, model(2))) == [
        {"y": [1.5, 2.5], "z": b"a"},
        {"y": [3.5, 4.5], "z": b"b"},
        {"y": [3.0, 5.0], "z": b"a"},
    ]


def test_without_batching_a_part_is_a_row() -> None:
    assert listed(rows_of([{"y": ROWS}, {"y": ROWS[0]}], model(0))) == [{"y": ROWS.tolist()}, {"y": [1.5, 2.5]}]


def test_a_row_of_a_vector_is_an_array_without_dimensions() -> None:
    (first, _) = singles({"y": ROWS[:, 0]})
    assert (first["y"].ndim, first["y"].dtype) == (0, np.dtype(np.float32))
    assert row_count({"y": ROWS}) == 2


# Numbers that have been read into a buffer


def buffered(batch: NDArray[np.float64]) -> Numbers:
    return Numbers(batch.shape, memoryview(batch.tobytes()), batch.tolist)


@given(
    st.lists(NUMBERS.filter(lambda number: abs(number) < 1e308), min_size=1, max_size=6),
    st.sampled_from(list(NUMPY)),
)
def test_a_buffer_of_doubles_leads_where_the_lists_do(values: list[Any], datatype: str) -> None:
    doubles = np.array(values, np.float64).reshape(1, -1)
    tensor = TensorSpec("x", datatype, (-1,))
    array = from_instances(buffered(doubles), tensor, False)
    if array is not None:
        expected = one_by_one(doubles.tolist(), tensor)
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "UINT8", "INT32", "INT64", "UINT64"])
def test_ordinary_numbers_are_taken_from_the_buffer(datatype: str) -> None:
    array = from_instances(buffered(np.arange(12.0).reshape(3, 4)), TensorSpec("x", datatype, (4,)), False)
    assert array is not None
    np.testing.assert_array_equal(array, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (1e39, "FP32"),
        (7e4, "FP16"),
        (300.0, "UINT8"),
        (-1.0, "UINT8"),
        (-1.0, "UINT64"),
        (0.5, "INT32"),
        (2.0**53 + 2, "INT64"),
    ],
)
def test_what_a_datatype_may_not_hold_is_looked_at_closer(value: float, datatype: str) -> None:
    assert from_instances(buffered(np.array([[value]])), TensorSpec("x", datatype, (1,)), False) is None


@pytest.mark.parametrize("shape", [(1,), (-1, -1), ()], ids=str)
def test_bare_values_are_taken_from_the_buffer(shape: tuple[int, ...]) -> None:
    array = from_instances(buffered(np.arange(3.0)), TensorSpec("x", "INT16", shape), False)
    assert array is not None
    np.testing.assert_array_equal(array, np.arange(3).reshape(3, *[1] * len(shape)))
    assert from_instances(buffered(np.arange(3.0)), TensorSpec("x", "INT16", (*shape, 2)), False) is None


@pytest.mark.parametrize("shape", [(3,), (4, 1), (), (-1, 4)], ids=str)
def test_another_shape_is_looked_at_closer(shape: tuple[int, ...]) -> None:
    assert from_instances(buffered(np.zeros((2, 4))), TensorSpec("x", "FP32", shape), False) is None
