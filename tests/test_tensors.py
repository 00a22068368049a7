"""JSON values and arrays: every datatype and shape against numpy, and a sentence for every misfit."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from listener.call import Reply
from listener.contract.instances import encode
from listener.rows import stack
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec, fits, from_instance, from_json, to_json

NUMERIC = [datatype for datatype in NUMPY if datatype != "BYTES"]
INTEGER = [datatype for datatype in NUMERIC if NUMPY[datatype].kind in "iu"]
FLOAT = [datatype for datatype in NUMERIC if NUMPY[datatype].kind == "f"]


def spec(datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", datatype, shape)


def complaint(value: Any, tensor: TensorSpec) -> str:
    with pytest.raises(TensorError) as caught:
        from_json(value, tensor)
    return str(caught.value)


# A list that holds another empty one tells no more of its shape, so only the last size may be 0.
SHAPES = st.lists(st.integers(1, 3), max_size=4).flatmap(
    lambda shape: st.sampled_from([tuple(shape), (*shape, 0)] if shape else [(), (0,)])
)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, NDArray[Any]]:
    datatype = draw(st.sampled_from(list(NUMPY)))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        array = np.empty(shape, dtype=np.object_)
        array.reshape(-1)[:] = draw(st.lists(st.binary(max_size=4), min_size=array.size, max_size=array.size))
        return datatype, array
    plain = {"allow_nan": False, "allow_infinity": False} if datatype in FLOAT else {}
    elements = hnp.from_dtype(NUMPY[datatype], **plain)  # type: ignore[arg-type]
    return datatype, draw(hnp.arrays(NUMPY[datatype], shape, elements=elements))


@given(tensors())
def test_what_numpy_lists_comes_back(given_tensor: tuple[str, NDArray[Any]]) -> None:
    datatype, array = given_tensor
    back = from_json(array.tolist(), spec(datatype, *array.shape))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


@given(tensors())
def test_any_size_is_taken_where_the_model_takes_any(given_tensor: tuple[str, NDArray[Any]]) -> None:
    datatype, array = given_tensor
    assert from_json(array.tolist(), spec(datatype, *[-1] * array.ndim)).shape == array.shape


@given(tensors())
def test_another_shape_is_refused(given_tensor: tuple[str, NDArray[Any]]) -> None:
    datatype, array = given_tensor
    wanted = [*array.shape, 7]
    assert complaint(array.tolist(), spec(datatype, *wanted)) == (
        f"input 'x' has shape {str(list(array.shape)).replace(' ', '')}; the model takes {str(wanted).replace(' ', '')}"
    )


@given(tensors().filter(lambda given_tensor: given_tensor[0] != "BYTES" and given_tensor[1].size > 0))
def test_raw_little_endian_contents_come_back(given_tensor: tuple[str, NDArray[Any]]) -> None:
    datatype, array = given_tensor
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert np.array_equal(from_json(raw, spec(datatype, *array.shape)), array)
    if array.ndim:
        assert np.array_equal(from_json(raw, spec(datatype, -1, *array.shape[1:])), array)


@pytest.mark.parametrize(
    ("raw", "tensor"),
    [
        (b"\0" * 7, spec("FP32", 2)),
        (b"\0" * 12, spec("FP32", 2)),
        (b"\0" * 7, spec("FP32", -1)),
        (b"\0" * 16, spec("FP32", -1, -1)),
        (b"", spec("FP32", 0, -1)),
    ],
    ids=["not whole numbers", "too many", "not whole numbers, any size", "two free sizes", "nothing fixed"],
)
def test_raw_contents_that_do_not_fit(raw: bytes, tensor: TensorSpec) -> None:
    shape = ",".join(map(str, tensor.shape))
    assert complaint(raw, tensor) == f"input 'x': {len(raw)} bytes do not make FP32 [{shape}]"


# Numbers


@pytest.mark.parametrize("datatype", INTEGER)
def test_a_number_over_the_range_is_refused(datatype: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    beyond = 1 if limits.bits < 64 else 10_000  # JSON parsers make a double of what no 64 bits hold
    for number in (int(limits.min) - beyond, int(limits.max) + beyond):
        value = orjson.loads(f"[0, {number}]")
        assert complaint(value, spec(datatype, 2)).startswith(f"input 'x' has a number outside {datatype}")


@pytest.mark.parametrize("datatype", INTEGER)
def test_the_ends_of_the_range_come_through_together(datatype: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    value = [int(limits.min), 1, int(limits.max)]
    assert from_json(value, spec(datatype, 3)).tolist() == value


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 70000), ("FP16", -7e4), ("FP32", 1e39), ("FP32", -1e300)])
def test_a_number_that_would_become_infinite_is_refused(datatype: str, value: float) -> None:
    assert complaint([0, value], spec(datatype, 2)).startswith(f"input 'x' has a number outside {datatype}")


@pytest.mark.parametrize("datatype", INTEGER)
@pytest.mark.parametrize("value", [3.5, [1, 2.25], [[1e-9]]], ids=["scalar", "among whole ones", "tiny"])
def test_a_fraction_is_no_whole_number(datatype: str, value: Any) -> None:
    tensor = spec(datatype, *np.shape(value))
    assert complaint(value, tensor) == f"input 'x' is {datatype} and takes whole numbers only"


@pytest.mark.parametrize("datatype", INTEGER)
def test_a_whole_number_may_be_written_as_a_double(datatype: str) -> None:
    assert from_json([3.0, 4], spec(datatype, 2)).tolist() == [3, 4]


@pytest.mark.parametrize("datatype", FLOAT)
def test_a_float_may_be_written_as_a_whole_number(datatype: str) -> None:
    assert from_json([3, 4.5], spec(datatype, 2)).tolist() == [3.0, 4.5]


@pytest.mark.parametrize("datatype", [*INTEGER, *FLOAT])
@pytest.mark.parametrize(
    "value",
    [True, [False], "3", ["3", 4], None, [None, 1], {"a": 1}, [b"3"]],
    ids=repr,
)
def test_what_is_no_number_is_refused(datatype: str, value: Any) -> None:
    assert complaint(value, spec(datatype, *np.shape(value))).startswith(f"input 'x' is {datatype} and takes")


@pytest.mark.parametrize("datatype", ["INT32", "UINT64", "FP32"])
@pytest.mark.parametrize("value", [[True, 2], [2, False], [[1.0], [True]]], ids=repr)
def test_a_boolean_among_numbers_is_refused(datatype: str, value: Any) -> None:
    assert complaint(value, spec(datatype, *np.shape(value))) == f"input 'x' is {datatype} and takes numbers"


@pytest.mark.parametrize("value", [1, 0.0, [1, 0], [True, 1], "true", None, [[True], [0]]], ids=repr)
def test_what_is_no_boolean_is_refused(value: Any) -> None:
    assert complaint(value, spec("BOOL", *np.shape(value))) == "input 'x' is BOOL and takes booleans"


@pytest.mark.parametrize("datatype", list(NUMPY))
@pytest.mark.parametrize("shape", [[[1, 2], [3]], [[1], 2], [1, [2]], [[[1], [2]], [[3], 4]]], ids=repr)
def test_ragged_lists_are_refused(datatype: str, shape: list[Any]) -> None:
    element: Any = {"BYTES": "s", "BOOL": True}.get(datatype, 1)

    def filled(item: Any) -> Any:
        return [filled(part) for part in item] if isinstance(item, list) else element

    assert complaint(filled(shape), spec(datatype, 2, 2)).startswith("input 'x' is ")


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize("depth", [33, 70, 900])
def test_a_very_deep_value_is_refused_with_a_sentence(datatype: str, depth: int) -> None:
    value: Any = "s" if datatype == "BYTES" else 1
    for _ in range(depth):
        value = [value]
    assert complaint(value, spec(datatype, 1)).startswith("input 'x' ")


def test_a_crooked_value_takes_no_more_room_than_its_own() -> None:
    # by the first elements alone this would be an array of 1e12 strings
    side = ["s"] * 10_000
    value = [[side, *side], *side]
    assert complaint(value, spec("BYTES", -1, -1, -1)) == "input 'x' is ragged: its lists differ in length or depth"


# Strings


def test_strings_and_bytes_become_bytes() -> None:
    array = from_json([["ä", b"\xff"], ["", "b"]], spec("BYTES", 2, 2))
    assert array.dtype == np.object_
    assert array.tolist() == [["ä".encode(), b"\xff"], [b"", b"b"]]


@pytest.mark.parametrize("value", [1, [True], ["a", None], [{"a": 1}]], ids=repr)
def test_what_is_no_string_is_refused(value: Any) -> None:
    shape = (len(value),) if isinstance(value, list) else ()
    assert complaint(value, spec("BYTES", *shape)) == "input 'x' is BYTES and takes strings or {'b64': ...}"


def test_a_datatype_that_json_cannot_carry() -> None:
    assert complaint([1], spec("BF16", 1)) == "input 'x' is BF16, which JSON cannot carry"


# Out


def test_bytes_that_are_text_come_out_as_text() -> None:
    array = np.array([["ä".encode(), b"\xff\x00"], [b"", "str"]], dtype=np.object_)
    assert to_json(array) == [["ä", {"b64": base64.b64encode(b"\xff\x00").decode()}], ["", "str"]]


@given(tensors().filter(lambda given_tensor: given_tensor[0] != "BYTES"), st.booleans())
def test_numbers_come_out_in_the_shortest_form_that_gives_them_back(
    given_tensor: tuple[str, NDArray[Any]], turned: bool
) -> None:
    datatype, array = given_tensor
    array = array.T if turned else array
    (said,) = orjson.loads(encode(Reply([to_json(array)])))["predictions"]
    back = np.asarray(said, np.float64 if datatype in FLOAT else array.dtype)
    assert np.array_equal(back.astype(array.dtype).reshape(array.shape), array)
    if datatype in FLOAT:  # numpy's text is the shortest, too
        assert back.ravel().tolist() == array.astype(np.str_).astype(np.float64).ravel().tolist()


@pytest.mark.parametrize("datatype", FLOAT)
@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[0], lambda a: a[0, 0], lambda a: a.T, lambda a: a[::2]])
def test_a_tenth_is_0_1_in_every_datatype(datatype: str, view: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    array = view(np.full((4, 2), 0.1, NUMPY[datatype]))
    text = encode(Reply([to_json(np.asarray(array))])).decode()
    assert set(re.findall(r"[\d.]+", text)) == {"0.1"}


@pytest.mark.parametrize("datatype", FLOAT)
def test_what_json_has_no_word_for_comes_out_as_null(datatype: str) -> None:
    array = np.array([np.nan, np.inf, -np.inf], NUMPY[datatype])
    assert encode(Reply([to_json(array), to_json(array[0, ...])])) == b'{"predictions":[[null,null,null],null]}'


def test_a_scalar_comes_out_bare() -> None:
    assert to_json(np.array(1.5, dtype=np.float32)) == 1.5
    assert to_json(np.array(b"a", dtype=np.object_)) == "a"


# Stacking


@given(tensors(), st.integers(1, 4))
def test_a_stack_has_the_instances_as_rows(given_tensor: tuple[str, NDArray[Any]], count: int) -> None:
    array = given_tensor[1]
    stacked = stack([{"x": array}] * count)["x"]
    assert (stacked.shape, stacked.dtype) == ((count, *array.shape), array.dtype)
    assert all(np.array_equal(row, array) for row in stacked)


def test_a_stack_keeps_the_order_and_the_names() -> None:
    stacked = stack([{"a": np.array([n]), "b": np.array([[-n]])} for n in range(3)])
    assert {name: array.tolist() for name, array in stacked.items()} == {
        "a": [[0], [1], [2]],
        "b": [[[0]], [[-1]], [[-2]]],
    }


@pytest.mark.parametrize(
    ("instances", "sentence", "index"),
    [
        ([{"a": 1}, {"a": 2}, {"b": 3}], "gives the tensors 'b' where instances[0] gives 'a'", 2),
        ([{"a": 1, "b": 1}, {"a": 2}], "gives the tensors 'a' where instances[0] gives 'a', 'b'", 1),
        ([{"a": 1}, {}], "gives the tensors none where instances[0] gives 'a'", 1),
        ([{"a": [1, 2]}, {"a": [1, 2]}, {"a": [1]}], "'a' has shape [1] where instances[0] has [2]", 2),
        ([{"a": 1}, {"a": [1]}], "'a' has shape [1] where instances[0] has []", 1),
    ],
    ids=["another name", "a name less", "no names", "another size", "another rank"],
)
def test_instances_that_do_not_stack(instances: list[dict[str, Any]], sentence: str, index: int) -> None:
    with pytest.raises(TensorError) as caught:
        stack([{name: np.array(value) for name, value in instance.items()} for instance in instances])
    assert caught.value.args == (sentence, index)


# What models take

ONE = ModelSpec("m", (TensorSpec("x", "FP32", (2,)),), (), 8)
TWO = ModelSpec("m", (TensorSpec("a", "INT32", ()), TensorSpec("b", "FP32", (-1,), optional=True)), (), 8)


@pytest.mark.parametrize(
    ("instance", "model", "expected"),
    [
        ([1, 2], ONE, {"x": [1.0, 2.0]}),
        ({"x": [1, 2]}, ONE, {"x": [1.0, 2.0]}),
        (b"\0\0\x80\x3f\0\0\0\x40", ONE, {"x": [1.0, 2.0]}),
        ({"a": 1, "b": [2]}, TWO, {"a": 1, "b": [2.0]}),
        ({"a": 1}, TWO, {"a": 1}),
    ],
    ids=["bare value", "by name", "bare bytes", "several", "without the optional one"],
)
def test_an_instance_as_arrays(instance: Any, model: ModelSpec, expected: dict[str, Any]) -> None:
    arrays = from_instance(instance, model)
    assert {name: array.tolist() for name, array in arrays.items()} == expected
    assert [array.dtype for array in arrays.values()] == [
        NUMPY[tensor.datatype] for tensor in model.inputs if tensor.name in arrays
    ]


@pytest.mark.parametrize(
    ("instance", "model", "sentence"),
    [
        ({"x": [1, 2], "z": 1, "y": 2}, ONE, "unknown input 'y'; model 'm' takes 'x' (FP32 [2])"),
        ({}, ONE, "input 'x' is missing"),
        ({"b": [1]}, TWO, "input 'a' is missing"),
        ([1], TWO, "is not an object; model 'm' takes the inputs 'a' (INT32 []), 'b' (FP32 [-1])"),
        ([1], ONE, "input 'x' has shape [1]; the model takes [2]"),
        ({"a": 1, "b": None}, TWO, "input 'b' is FP32 and takes numbers"),
    ],
    ids=["unknown", "nothing", "required one missing", "bare value for several", "misfit", "null"],
)
def test_an_instance_that_does_not_fit(instance: Any, model: ModelSpec, sentence: str) -> None:
    with pytest.raises(TensorError) as caught:
        from_instance(instance, model)
    assert str(caught.value) == sentence


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


def test_a_model_config_as_triton_gives_it() -> None:
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [
            {"name": "text", "data_type": "TYPE_STRING", "dims": [1]},
            {"name": "size", "data_type": "TYPE_INT64", "dims": ["-1", "3"], "optional": True},
        ],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [10]}],
    }
    assert ModelSpec.from_config(config) == ModelSpec(
        "m",
        (TensorSpec("text", "BYTES", (1,)), TensorSpec("size", "INT64", (-1, 3), optional=True)),
        (TensorSpec("y", "FP32", (10,)),),
        8,
    )


def test_a_model_config_may_say_next_to_nothing() -> None:
    assert ModelSpec.from_config({"name": "m"}) == ModelSpec("m", (), (), 0)
