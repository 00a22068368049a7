"""JSON values as arrays: every datatype and shape against numpy, and a sentence for every misfit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from listener import bf16
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec
from listener.values import as_batch, from_instance, from_json

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
        texts = np.empty(shape, dtype=np.object_)
        texts.reshape(-1)[:] = draw(st.lists(st.binary(max_size=4), min_size=texts.size, max_size=texts.size))
        return datatype, texts
    plain = {"allow_nan": False, "allow_infinity": False} if datatype in FLOAT else {}
    elements = hnp.from_dtype(NUMPY[datatype], **plain)  # type: ignore[arg-type]
    array: NDArray[Any] = draw(hnp.arrays(NUMPY[datatype], shape, elements=elements))
    if datatype == "BF16":
        array = bf16.rounded(np.clip(array, -3e38, 3e38))
    return datatype, array


def contents(datatype: str, array: NDArray[Any]) -> bytes:
    """Little-endian, as they travel."""
    array = bf16.packed(array) if datatype == "BF16" else array
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


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
    if not array.size:  # an empty list says nothing of what is in its items
        assert from_json(array.tolist(), spec(datatype, *wanted)).shape == tuple(wanted)
        return
    assert complaint(array.tolist(), spec(datatype, *wanted)) == (
        f"input 'x' has shape {str(list(array.shape)).replace(' ', '')}; the model takes {str(wanted).replace(' ', '')}"
    )


@given(tensors().filter(lambda given_tensor: given_tensor[0] != "BYTES" and given_tensor[1].size > 0))
def test_raw_little_endian_contents_come_back(given_tensor: tuple[str, NDArray[Any]]) -> None:
    datatype, array = given_tensor
    raw = contents(datatype, array)
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
        (b"\0" * 4, spec("FP32", 0)),
    ],
    ids=["not whole numbers", "too many", "not whole numbers, any size", "two free sizes", "nothing fixed", "empty"],
)
def test_raw_contents_that_do_not_fit(raw: bytes, tensor: TensorSpec) -> None:
    shape = ",".join(map(str, tensor.shape))
    assert complaint(raw, tensor) == f"input 'x': {len(raw)} bytes do not make FP32 [{shape}]"


@pytest.mark.parametrize(
    ("value", "shape", "made"),
    [
        ([b"\1\0", b"\2\0"], (2,), [1, 2]),
        ([b"\1\0\2\0", b"\3\0\4\0"], (2, 2), [[1, 2], [3, 4]]),
        ([b"\1\0\2\0", b"\3\0\4\0"], (-1, -1), [[1, 2], [3, 4]]),
        ([[b"\1\0"], [b"\2\0"]], (2, 1, 1), [[[1]], [[2]]]),
        (b"\1\0", (1,), [1]),
        (b"\1\0", (), 1),
        (b"", (0,), []),
        (b"", (-1,), []),
        ([b"", b""], (2, 0), [[], []]),
    ],
)
def test_raw_contents_of_parts(value: Any, shape: tuple[int, ...], made: Any) -> None:
    assert from_json(value, spec("UINT16", *shape)).tolist() == made


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([b"\0\0", b"\0\0\0\0"], "input 'x' is ragged: its {'b64': ...} differ in length"),
        ([b"\0\0\0", b"\0\0\0"], "input 'x': 3 bytes do not make UINT16 [2]"),
        ([b"\0" * 4], "input 'x' has shape [1,2]; the model takes [2,2]"),
        ([[b"\0" * 4, b"\0" * 4]] * 2, "input 'x': 4 bytes do not make UINT16 []"),
        ([b"\0" * 4, 1], "input 'x' is UINT16 and takes whole numbers, not {'b64': ...} at [0]"),
        ([b"\0" * 4, [1, 2]], "input 'x' is ragged: its lists differ in length or depth"),
    ],
)
def test_raw_contents_of_parts_that_do_not_fit(value: Any, sentence: str) -> None:
    assert complaint(value, spec("UINT16", 2, 2)) == sentence


def test_any_byte_but_0_is_true() -> None:
    assert from_json(b"\0\1\2\xff", spec("BOOL", 4)).tobytes() == b"\0\1\1\1"


# Bare values


@pytest.mark.parametrize("datatype", list(NUMPY))
@pytest.mark.parametrize("shape", [(), (1,), (-1,), (1, -1, 1)], ids=str)
def test_a_bare_value_where_every_size_may_be_1(datatype: str, shape: tuple[int, ...]) -> None:
    value: Any = {"BYTES": b"\xff", "BOOL": True}.get(datatype, 1)
    array = from_json(value, spec(datatype, *shape))
    assert (array.shape, array.dtype, array.ravel().tolist()) == ((1,) * len(shape), NUMPY[datatype], [value])


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "sentence"),
    [
        (5, "FP32", (2,), "input 'x' has shape []; the model takes [2]"),
        ("a", "BYTES", (1, 2), "input 'x' has shape []; the model takes [1,2]"),
        (5, "FP32", (0,), "input 'x' has shape []; the model takes [0]"),
        ([5, 6], "FP32", (2, 1), "input 'x' has shape [2]; the model takes [2,1]"),
        ([[1]], "FP32", (1,), "input 'x' is nested deeper than the model takes, [1]"),
        ([[[1, 2]]], "BOOL", (1, 2), "input 'x' is nested deeper than the model takes, [1,2]"),
        ([], "FP32", (), "input 'x' is nested deeper than the model takes, []"),
        ([], "FP32", (2,), "input 'x' has shape [0]; the model takes [2]"),
        ([1, 2, 3], "INT8", (-1, 3), "input 'x' has shape [3]; the model takes [-1,3]"),
    ],
)
def test_another_depth_is_refused(value: Any, datatype: str, shape: tuple[int, ...], sentence: str) -> None:
    assert complaint(value, spec(datatype, *shape)) == sentence


@pytest.mark.parametrize(
    ("value", "shape", "made"),
    [([], (-1, 3), (0, 3)), ([], (0, -1), (0, 0)), ([[], []], (2, -1, 3), (2, 0, 3)), ([[]], (1, 0), (1, 0))],
)
@pytest.mark.parametrize("datatype", ["INT64", "BYTES", "BOOL", "BF16"])
def test_an_empty_list_has_the_sizes_of_the_model(
    value: Any, shape: tuple[int, ...], made: tuple[int, ...], datatype: str
) -> None:
    array = from_json(value, spec(datatype, *shape))
    assert (array.shape, array.dtype) == (made, NUMPY[datatype])


# Numbers


@pytest.mark.parametrize("datatype", INTEGER)
def test_a_number_over_the_range_is_refused(datatype: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    beyond = 1 if limits.bits < 64 else 10_000  # JSON parsers make a double of what no 64 bits hold
    for number in (int(limits.min) - beyond, int(limits.max) + beyond):
        value = orjson.loads(f"[0, {number}]")
        told = f"input 'x' has a number outside {datatype}: {value[1]} at [1]"
        assert complaint(value, spec(datatype, 2)) == told


@pytest.mark.parametrize("datatype", INTEGER)
def test_the_ends_of_the_range_come_through_together(datatype: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    value = [int(limits.min), 1, int(limits.max)]
    assert from_json(value, spec(datatype, 3)).tolist() == value
    assert from_json([str(number) for number in value], spec(datatype, 3)).tolist() == value
    assert from_json([value[0], str(value[1]), 1.0], spec(datatype, 3)).tolist() == [value[0], 1, 1]


@pytest.mark.parametrize("datatype", INTEGER)
def test_text_over_the_range_is_refused(datatype: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    for text in (str(int(limits.min) - 1), str(int(limits.max) + 1)):
        assert complaint(text, spec(datatype)) == f"input 'x' has a number outside {datatype}: {text!r}"
    assert complaint("9" * 5000, spec(datatype)) == f"input 'x' has a number outside {datatype}: '{'9' * 36}..."


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_whole_number_of_64_bits_comes_through_as_text(number: int) -> None:
    assert from_json(str(number), spec("INT64", 1)).tolist() == [number]
    assert from_json([str(number + 2**63)], spec("UINT64", 1)).tolist() == [number + 2**63]


NO_DECIMALS = [
    "",
    "-",
    "+5",
    " 5",
    "5 ",
    "5.0",
    "5e0",
    "1_0",
    "\N{ARABIC-INDIC DIGIT THREE}",
    "\N{FULLWIDTH DIGIT ZERO}",
    "05",
    "-05",
    "0x5",
    "1,5",
    "NaN",
    "five",
    "--5",
]


@pytest.mark.parametrize("datatype", INTEGER)
@pytest.mark.parametrize("text", NO_DECIMALS)
def test_text_that_is_no_whole_number_of_jsons(datatype: str, text: str) -> None:
    told = f"input 'x' is {datatype} and takes whole numbers, not {text!r} at [1]"
    assert complaint([1, text], spec(datatype, 2)) == told


LARGEST = [
    ("FP16", 65519.99, 65504),
    ("BF16", 3.396e38, 3.3895313892515355e38),
    ("FP32", 3.40282356e38, 2**128 - 2**104),
]


@pytest.mark.parametrize(("datatype", "value", "made"), LARGEST)
def test_a_number_that_is_nearest_to_the_largest(datatype: str, value: float, made: float) -> None:
    assert from_json([value, -value], spec(datatype, 2)).tolist() == [made, -made]


OVER = [("FP16", 65520), ("FP16", -7e4), ("BF16", 3.3962e38), ("BF16", 1e39), ("FP32", 1e39), ("FP32", -1e300)]


@pytest.mark.parametrize(("datatype", "value"), [*OVER, ("FP64", 10**309)])
def test_a_number_that_would_become_infinite_is_refused(datatype: str, value: float) -> None:
    told = f"input 'x' has a number outside {datatype}: {str(value)[:37]}"
    assert complaint(value, spec(datatype)) == (told if len(str(value)) <= 40 else f"{told}...")
    assert complaint([0, value, "Infinity"], spec(datatype, 3)).endswith(" at [1]")


@pytest.mark.parametrize("datatype", FLOAT)
def test_what_json_has_no_numbers_for_is_text(datatype: str) -> None:
    value = [["NaN", 1], [-2.5, "Infinity"], ["-Infinity", "NaN"]]
    array = from_json(value, spec(datatype, 3, 2))
    wanted = np.array([[np.nan, 1], [-2.5, np.inf], [-np.inf, np.nan]], NUMPY[datatype])
    np.testing.assert_array_equal(array, wanted)
    assert math.isnan(from_json("NaN", spec(datatype)).item())


@pytest.mark.parametrize("datatype", FLOAT)
@pytest.mark.parametrize("text", ["nan", "inf", "+Infinity", "infinity", " NaN", "-NaN", "1.5", "1", ""])
def test_other_text_is_no_number(datatype: str, text: str) -> None:
    told = f"input 'x' is {datatype} and takes numbers, not {text!r} at [0][1]"
    assert complaint([["NaN", text]], spec(datatype, 1, 2)) == told


@pytest.mark.parametrize("datatype", INTEGER)
@pytest.mark.parametrize(
    ("value", "shown"),
    [(3.5, "3.5"), ([1, 2.25], "2.25 at [1]"), ([[1e-9]], "1e-09 at [0][0]"), (["1", 0.5], "0.5 at [1]")],
)
def test_a_fraction_is_no_whole_number(datatype: str, value: Any, shown: str) -> None:
    told = f"input 'x' is {datatype} and takes whole numbers, not {shown}"
    assert complaint(value, spec(datatype, *np.shape(value))) == told


@pytest.mark.parametrize("datatype", INTEGER)
def test_a_whole_number_may_be_written_as_a_double(datatype: str) -> None:
    assert from_json([3.0, 4], spec(datatype, 2)).tolist() == [3, 4]


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_whole_numbers_beside_doubles_keep_all_their_digits(datatype: str) -> None:
    assert from_json([2**53 + 1, 3.0], spec(datatype, 2)).tolist() == [2**53 + 1, 3]


@pytest.mark.parametrize("datatype", FLOAT)
def test_a_float_may_be_written_as_a_whole_number(datatype: str) -> None:
    assert from_json([3, 4.5], spec(datatype, 2)).tolist() == [3.0, 4.5]


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(FLOAT))
def test_a_double_is_rounded_to_the_datatype_once(number: float, datatype: str) -> None:
    dtype = ml_dtypes.bfloat16 if datatype == "BF16" else NUMPY[datatype]
    with np.errstate(over="ignore"):
        rounded = bf16.rounded(np.array([number])) if datatype == "BF16" else np.array([number]).astype(dtype)
    if np.isinf(rounded).any():
        assert complaint(number, spec(datatype)) == f"input 'x' has a number outside {datatype}: {number!r}"
    else:
        assert from_json([number], spec(datatype, 1)).tobytes() == rounded.tobytes()


SHOWN = [(True, "true"), (False, "false"), (None, "null"), ({"a": 1}, "an object"), (b"3", "{'b64': ...}")]


@pytest.mark.parametrize("datatype", NUMERIC)
@pytest.mark.parametrize(("item", "shown"), SHOWN, ids=[shown for _, shown in SHOWN])
def test_what_is_no_number_is_refused(datatype: str, item: Any, shown: str) -> None:
    if datatype == "BOOL" and isinstance(item, bool):
        return
    taken = "booleans" if datatype == "BOOL" else "whole numbers" if datatype in INTEGER else "numbers"
    fine: Any = True if datatype == "BOOL" else 1
    told = f"input 'x' is {datatype} and takes {taken}, not {shown}"
    assert complaint([[fine, item]], spec(datatype, 1, 2)) == f"{told} at [0][1]"
    if not isinstance(item, bytes):
        assert complaint(item, spec(datatype)) == told
        assert complaint([item], spec(datatype, 1)) == f"{told} at [0]"


@pytest.mark.parametrize("value", [1, 0.0, [1, 0], [True, 1], "true", ["true", True]], ids=repr)
def test_what_is_no_boolean_is_refused(value: Any) -> None:
    assert complaint(value, spec("BOOL", *np.shape(value))).startswith("input 'x' is BOOL and takes booleans, not ")


@pytest.mark.parametrize("datatype", list(NUMPY))
@pytest.mark.parametrize("shape", [[[1, 2], [3]], [[1], 2], [1, [2]], [[[1], [2]], [[3], 4]]], ids=repr)
def test_ragged_lists_are_refused(datatype: str, shape: list[Any]) -> None:
    element: Any = {"BYTES": "s", "BOOL": True}.get(datatype, 1)

    def filled(item: Any) -> Any:
        return [filled(part) for part in item] if isinstance(item, list) else element

    for wanted in ((2, 2), (-1, -1, -1)):
        told = "input 'x' is ragged: its lists differ in length or depth"
        assert complaint(filled(shape), spec(datatype, *wanted)) == told


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize("depth", [33, 70, 900])
def test_a_very_deep_value_is_refused_with_a_sentence(datatype: str, depth: int) -> None:
    value: Any = "s" if datatype == "BYTES" else 1
    for _ in range(depth):
        value = [value]
    assert complaint(value, spec(datatype, 1)) == "input 'x' is nested deeper than the model takes, [1]"


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_a_crooked_value_takes_no_more_room_than_its_own(datatype: str) -> None:
    # by the first elements alone this would be an array of 1e12 strings
    side = ["s"] * 10_000
    value = [[side, *side], *side]
    told = "input 'x' is ragged: its lists differ in length or depth"
    assert complaint(value, spec(datatype, -1, -1, -1)) == told


# What a handler may hand on


@pytest.mark.parametrize(
    "value",
    [np.array([1.5, 2]), (1.5, 2), [np.float32(1.5), np.int64(2)], [np.array(1.5), 2], np.array([1.5, 2], np.float16)],
    ids=["array", "tuple", "numpy's numbers", "mixed", "float16"],
)
def test_numpys_values_count_as_well(value: Any) -> None:
    array = from_json(value, spec("FP32", 2))
    assert (array.dtype, array.tolist()) == (np.dtype(np.float32), [1.5, 2.0])


def test_one_of_numpys_numbers_is_a_bare_value() -> None:
    assert from_json(np.float64(1.5), spec("FP32", 1)).tolist() == [1.5]
    assert complaint(np.ones((2, 2)), spec("FP32", 2)) == "input 'x' has shape [2,2]; the model takes [2]"
    assert complaint(np.ones(2), spec("INT8", 2)) == "input 'x' is float64, the model takes INT8"


def test_arrays_can_be_written_to() -> None:
    for datatype in NUMPY:
        value: Any = {"BYTES": "s", "BOOL": True}.get(datatype, 1)
        assert from_json([value], spec(datatype, 1)).flags.writeable


# Strings


def test_strings_and_bytes_become_bytes() -> None:
    array = from_json([["ä", b"\xff"], ["", "b"]], spec("BYTES", 2, 2))
    assert array.dtype == np.object_
    assert array.tolist() == [["ä".encode(), b"\xff"], [b"", b"b"]]


@pytest.mark.parametrize("value", [1, [True], ["a", None], [{"a": 1}]], ids=repr)
def test_what_is_no_string_is_refused(value: Any) -> None:
    shape = (len(value),) if isinstance(value, list) else ()
    told = complaint(value, spec("BYTES", *shape))
    assert told.startswith("input 'x' is BYTES and takes strings or {'b64': ...}, not ")


def test_a_datatype_that_nobody_knows() -> None:
    assert complaint([1], spec("FP8", 1)) == "input 'x' is FP8, which is not known here"


# What models take

ONE = ModelSpec("m", (TensorSpec("x", "FP32", (2,)),), (), 8)
OPTIONAL = ModelSpec("m", tuple(TensorSpec(name, "FP32", (1,), optional=True) for name in "ab"), (), 8)
NOTHING = ModelSpec("m", (), (), 0)
TWO = ModelSpec("m", (TensorSpec("a", "INT32", ()), TensorSpec("b", "FP32", (-1,), optional=True)), (), 8)


@pytest.mark.parametrize(
    ("instance", "model", "expected"),
    [
        ([1, 2], ONE, {"x": [1.0, 2.0]}),
        ({"x": [1, 2]}, ONE, {"x": [1.0, 2.0]}),
        (b"\0\0\x80\x3f\0\0\0\x40", ONE, {"x": [1.0, 2.0]}),
        ({"a": 1, "b": [2]}, TWO, {"a": 1, "b": [2.0]}),
        ({"a": 1}, TWO, {"a": 1}),
        ({"b": 1}, OPTIONAL, {"b": [1.0]}),
        ({}, replace(OPTIONAL, max_batch_size=0), {}),
        ({}, NOTHING, {}),
    ],
    ids=["bare value", "by name", "bare bytes", "several", "without one", "one of two", "without any", "takes none"],
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
        ({"a": 1, "b": None}, TWO, "input 'b' is FP32 and takes numbers, not null"),
        ({}, OPTIONAL, "gives no input; model 'm' takes 'a' (FP32 [1]), 'b' (FP32 [1]), and needs at least one"),
        (5, NOTHING, "is not an object; model 'm' takes no inputs, so an instance is {}"),
        ({"a": 5}, NOTHING, "unknown input 'a'; model 'm' takes no inputs"),
    ],
    ids=[
        "unknown",
        "nothing",
        "required one missing",
        "bare value for several",
        "misfit",
        "null",
        "none of several optional ones",
        "something where nothing is taken",
        "an input where nothing is taken",
    ],
)
def test_an_instance_that_does_not_fit(instance: Any, model: ModelSpec, sentence: str) -> None:
    with pytest.raises(TensorError) as caught:
        from_instance(instance, model)
    assert str(caught.value) == sentence


# All instances at once

ELEMENTS = st.one_of(
    st.integers(-300, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.sampled_from(["NaN", "Infinity", "12", "1.5", ""]),
    st.binary(max_size=4),
)
VALUES = st.recursive(ELEMENTS, lambda items: st.lists(items, max_size=3), max_leaves=6)
INSTANCES = st.one_of(
    VALUES, st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2), st.fixed_dictionaries({"a": VALUES})
)
MODELS = st.builds(
    lambda inputs, size: ModelSpec("m", tuple(inputs), (), size),
    st.lists(
        st.builds(
            TensorSpec,
            st.sampled_from("ab"),
            st.sampled_from(list(NUMPY)),
            st.lists(st.sampled_from([-1, 0, 1, 2]), max_size=2).map(tuple),
            st.booleans(),
        ),
        min_size=1,
        max_size=2,
        unique_by=lambda tensor: tensor.name,
    ),
    st.sampled_from([0, 8]),
)


@settings(max_examples=500)
@given(st.lists(INSTANCES, min_size=1, max_size=3) | INSTANCES.map(lambda instance: [instance] * 3), MODELS)
def test_a_batch_is_what_its_instances_are_by_themselves(instances: list[Any], model: ModelSpec) -> None:
    batch = as_batch(instances, model)
    if batch is None:
        return
    single = [from_instance(instance, model) for instance in instances]  # a refusal here is one that was forgotten
    assert all(row.keys() == batch.keys() for row in single)
    for name, array in batch.items():
        assert array.dtype == single[0][name].dtype
        np.testing.assert_array_equal(array, np.stack([row[name] for row in single]))


@given(tensors(), st.integers(1, 4))
def test_alike_instances_are_a_batch(given_tensor: tuple[str, NDArray[Any]], count: int) -> None:
    datatype, array = given_tensor
    model = ModelSpec("m", (spec(datatype, *array.shape),), (), 8)
    for instance in (array.tolist(), {"x": array.tolist()}):
        batch = as_batch([instance] * count, model)
        assert batch is not None
        np.testing.assert_array_equal(batch["x"], np.stack([array] * count))


@pytest.mark.parametrize("datatype", list(NUMPY))
def test_bare_values_are_a_batch(datatype: str) -> None:
    value: Any = {"BYTES": "s", "BOOL": True}.get(datatype, 1)
    batch = as_batch([value] * 3, ModelSpec("m", (spec(datatype, -1, 1),), (), 8))
    assert batch is not None
    assert batch["x"].shape == (3, 1, 1)


@pytest.mark.parametrize(
    "instances",
    [[[1], [1, 2]], [[1], {"x": [1]}], [1, [1]], [[1], [None]], [{"y": 1}], [{"x": [1]}, {}]],
    ids=repr,
)
def test_what_is_no_batch_is_looked_at_one_by_one(instances: list[Any]) -> None:
    assert as_batch(instances, ModelSpec("m", (spec("FP32", -1),), (), 8)) is None
