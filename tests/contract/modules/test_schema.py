"""Schemas of instances and predictions: they and the listener's own conversion agree on what is an instance."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from listener.call import Reply
from listener.contract import instances, openapi, schema
from listener.errors import InstanceError
from listener.predictions import predictions
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec
from listener.values import from_instance

DATATYPES = list(NUMPY)
WHOLE = [datatype for datatype in DATATYPES if "INT" in datatype]
FLOATS = ["FP16", "BF16", "FP32", "FP64"]


def spec(datatype: str = "FP32", *shape: int, inputs: Sequence[TensorSpec] = (), batch: int = 4) -> ModelSpec:
    """A model with one input, or with those that are given, and with one output like its first input."""
    taken = tuple(inputs) or (TensorSpec("X", datatype, shape),)
    return ModelSpec("m", taken, (TensorSpec("Y", taken[0].datatype, taken[0].shape),), batch)


def validator(made: schema.Schema, of: ModelSpec) -> Any:
    OAS30Validator.check_schema(made)
    datatypes = [tensor.datatype for tensor in of.inputs]
    return OAS30Validator(schema.resolved(made, schema.elements(datatypes)))


def promised(instance: Any, of: ModelSpec) -> bool:
    """Whether the schema says that this is an instance."""
    return bool(validator(schema.instance(of), of).is_valid(instance))


def accepted(instance: Any, of: ModelSpec) -> bool:
    """Whether the listener takes it, from the body to the tensors."""
    try:
        decoded, _, _ = instances.decode(orjson.dumps({"instances": [instance]}))
        arrays = from_instance(decoded[0], of)
    except (TensorError, InstanceError):
        return False
    assert {tensor.name for tensor in of.inputs if not tensor.optional} <= arrays.keys()
    return True


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


# What is promised and what is not


def both(instance: Any, of: ModelSpec) -> bool:
    """Whether it is an instance, on which schema and listener have to agree."""
    said = promised(instance, of)
    assert said == accepted(instance, of), f"the schema says {said} of {instance!r}"
    return said


@pytest.mark.parametrize(
    ("instance", "shape", "good"),
    [
        ([1.5, 2], (2,), True),
        ([1.5], (2,), False),
        ([1, 2, 3], (2,), False),
        (1.5, (2,), False),
        (1.5, (1,), True),
        ([1.5], (1,), True),
        (1.5, (1, 1), True),
        ([[1.5]], (1, 1), True),
        (1.5, (-1,), True),
        ([1, 2, 3], (-1,), True),
        ([[1, 2], [3, 4]], (2, 2), True),
        ([[1, 2], [3]], (2, 2), False),
        ([1, 2], (2, 2), False),
        ([[1, 2]], (-1, 2), True),
        ([[1, 2], [3, 4], [5, 6]], (-1, 2), True),
        ([[1]], (-1, 2), False),
        ({"X": [1, 2]}, (2,), True),
        ({"X": 1}, (1,), True),
        ({"Z": [1, 2]}, (2,), False),
        ({"X": [1, 2], "Z": 1}, (2,), False),
        ({}, (2,), False),
        (None, (1,), False),
        ("1", (1,), False),
        (True, (1,), False),
        ([1, None], (2,), False),
        ([1, [2]], (2,), False),
        ("NaN", (1,), True),
        (["Infinity", "-Infinity"], (2,), True),
        ("infinity", (1,), False),
        (b64(bytes(8)), (2,), True),
        ({"X": b64(bytes(8))}, (2,), True),
        (b64(bytes(4)), (2,), False),
        (b64(bytes(9)), (2,), False),
        ({"b64": "AAAAAAAAAAA"}, (2,), False),
        ({"b64": "AAAA AAAAAA="}, (2,), False),
        ({"b64": 1}, (2,), False),
        (b64(bytes(24)), (-1, 2), True),
        ({"b64": ""}, (-1, 2), True),
        ({"b64": ""}, (2,), False),
        (b64(bytes(8)), (-1, -1), False),
        ([b64(bytes(8)), b64(bytes(8))], (-1, 2), True),
        ([b64(bytes(8))], (2, 2), False),
        ([b64(bytes(8)), [1, 2]], (2, 2), False),
        ([b64(bytes(4)), b64(bytes(4))], (2,), True),
        ([1, b64(bytes(4))], (2,), False),
        ([b64(bytes(3))], (1,), False),
        ([], (-1,), True),
        ([], (1,), False),
        ([], (-1, 2), True),
        ([[], []], (2, -1), True),
        ([[], []], (-1, 2), False),
        (b64(bytes(20)), (-1, 2), False),
    ],
)
def test_one_float_input(instance: Any, shape: tuple[int, ...], good: bool) -> None:
    assert both(instance, spec("FP32", *shape)) is good


@pytest.mark.parametrize(
    ("instance", "good"),
    [(3.0, True), (3.5, False), ("3", True), ("3.0", False), ("", False), ("x", False), (1e300, False), (True, False)],
)
@pytest.mark.parametrize("datatype", WHOLE)
def test_whole_numbers(datatype: str, instance: Any, good: bool) -> None:
    assert both(instance, spec(datatype, 1)) is good


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("datatype", WHOLE)
def test_the_ends_of_whole_numbers(datatype: str, text: bool) -> None:
    limits = np.iinfo(NUMPY[datatype])
    for value in (limits.min, limits.min + 1, -1, 0, 9, 10, 99, 100, limits.max - 1, limits.max):
        assert both(str(value) if text else int(value), spec(datatype, 1)) is (value >= limits.min)
    for value in (int(limits.min) - 1, int(limits.max) + 1, 10 * int(limits.max)):
        if text or -(2**63) <= value < 2**64:  # a JSON reader makes a double of what is larger
            assert not both(str(value) if text else value, spec(datatype, 1))


@pytest.mark.parametrize("datatype", FLOATS)
def test_the_ends_of_floats(datatype: str) -> None:
    finite = {"FP16": 65504.0, "BF16": float(2**128 - 2**120), "FP32": float(2**128 - 2**104)}
    greatest = finite.get(datatype, float(np.finfo(np.float64).max))
    for value in (greatest, -greatest, 0.0, 5e-324):
        assert both(value, spec(datatype, 1))
    if datatype in finite:
        for value in (greatest * 1.01, -greatest * 1.01, 1e39):
            assert not both(value, spec(datatype, 1))


@pytest.mark.parametrize(
    ("instance", "good"),
    [("text", True), ("", True), ([""], True), (b64(b"\xff"), True), ([b64(b"")], True), (1, False), ([None], False)],
)
def test_one_text(instance: Any, good: bool) -> None:
    assert both(instance, spec("BYTES", 1)) is good


@pytest.mark.parametrize(("instance", "good"), [(True, True), ([False], True), (1, False), ("true", False)])
def test_one_boolean(instance: Any, good: bool) -> None:
    assert both(instance, spec("BOOL", 1)) is good


@pytest.mark.parametrize(
    ("instance", "good"),
    [
        ({"A": 1, "B": "x"}, True),
        ({"A": 1}, True),
        ({"B": "x"}, False),
        ({"A": 1, "B": "x", "C": 1}, False),
        ({"A": b64(bytes(8))}, True),
        ({"A": 1, "B": b64(b"\x00")}, True),
        (1, False),
        ([1, "x"], False),
        ([], False),
    ],
)
def test_several_inputs(instance: Any, good: bool) -> None:
    inputs = TensorSpec("A", "INT64", (1,)), TensorSpec("B", "BYTES", (1,), optional=True)
    assert both(instance, spec(inputs=inputs)) is good


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["NaN", "-Infinity", "0", "-1", "255", "256", "70000", "AAAA", ""])
    | st.binary(max_size=16).map(b64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["X", "b64", "Z"]), inner, max_size=2),
    max_leaves=8,
)
SHAPES = st.sampled_from([(), (1,), (2,), (-1,), (1, 1), (2, 1), (-1, 1), (1, 2, 1)])


@given(JSON, st.sampled_from(DATATYPES), SHAPES)
@settings(max_examples=400, deadline=None)
def test_schema_and_listener_agree_on_anything(instance: Any, datatype: str, shape: tuple[int, ...]) -> None:
    both(instance, spec(datatype, *shape))


# What a client makes of it


def taking(of: ModelSpec) -> dict[str, Any]:
    """A document with one operation, which takes an instance."""
    body = {"required": True, "content": {"application/json": {"schema": schema.instance(of)}}}
    operation = {"requestBody": body, "responses": {"200": {"description": "Good."}}}
    named = schema.elements(tensor.datatype for tensor in of.inputs)
    return {
        "openapi": openapi.VERSION,
        "info": {"title": "test", "version": "1"},
        "paths": {"/": {"post": operation}},
        "components": {"schemas": named},
    }


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [
        *((datatype, (2,)) for datatype in DATATYPES),
        ("FP32", (1,)),
        ("INT64", (1,)),
        ("INT8", (-1, 2)),
        ("BYTES", (-1,)),
    ],
)
def test_what_a_client_generates_is_accepted(datatype: str, shape: tuple[int, ...]) -> None:
    of = spec(datatype, *shape)
    operation = schemathesis.openapi.from_dict(taking(of))["/"]["POST"]

    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def accepts(case: Any) -> None:
        assert promised(case.body, of), case.body
        assert accepted(case.body, of), case.body

    accepts()


# Predictions


def said(array: Any, of: ModelSpec, classes: bool = False) -> Any:
    """The predictions that the listener makes of a model's only output, as its clients read them."""
    made = predictions([{of.outputs[0].name: array}], of, classes)
    return orjson.loads(instances.encode(Reply(made)))["predictions"]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_what_comes_out_satisfies_the_schema_of_predictions(datatype: str) -> None:
    of = spec(datatype, 2, -1)
    array: Any = np.array([[[True, False], [False, True]]])
    if datatype == "BYTES":
        array = np.array([[[b"text", b"\xff"], [b"", b"\x00"]]], np.object_)
    elif datatype in FLOATS:
        array = np.array([[[np.nan, np.inf], [-np.inf, 0.1]]], NUMPY[datatype])
    elif datatype in WHOLE:
        limits = np.iinfo(NUMPY[datatype])
        array = np.array([[[limits.min, limits.max], [0, 1]]], NUMPY[datatype])
    (encoded,) = said(array, of)
    found = validator(schema.prediction(of), of)
    found.validate(encoded)
    assert not found.is_valid([encoded])
    assert not found.is_valid(encoded[:1])


@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_classes(datatype: str) -> None:
    of = ModelSpec("m", (), (TensorSpec("Y", datatype, (3,), labelled=True),), 4)
    found = validator(schema.prediction(of), of)
    plain = np.zeros((1, 3), NUMPY[datatype])
    texts = [b"2:1:cat", b"1:0", b"0:2:\xff"]
    found.validate(said(plain, of)[0])
    found.validate(said(np.array([texts], np.object_), of, classes=True)[0])
    assert not found.is_valid([{"label": "cat", "index": 0}])


def test_several_outputs_are_an_object() -> None:
    outputs = TensorSpec("N", "INT8", (1,)), TensorSpec("T_bytes", "BYTES", (1,))
    of = ModelSpec("m", (), outputs, 0)
    found = validator(schema.prediction(of), of)
    assert found.is_valid({"N": [1], "T_bytes": [b64(b"text")]})
    assert not found.is_valid({"N": [1], "T_bytes": ["text"]})
    assert not found.is_valid({"N": [128], "T_bytes": [b64(b"text")]})
    assert not found.is_valid({"N": [1]})


# Pieces


def test_a_resolved_schema_stands_by_itself() -> None:
    named: dict[str, schema.Schema] = {"A": {"items": {"$ref": "#/components/schemas/B"}}, "B": {"type": "string"}}
    assert schema.resolved({"$ref": "#/components/schemas/A"}, named) == {"items": {"type": "string"}}
    with pytest.raises(KeyError):
        schema.resolved({"$ref": "#/components/schemas/C"}, named)


def test_parameters_name_model_and_version() -> None:
    found = OAS30Validator(schema.parameters("m", ["1", "3"], required=True))
    assert found.is_valid({"model": "m", "version": 3, "top_k": 2, "mine": [1]})
    assert found.is_valid({"model": "m", "version": "1"})
    others: list[Any] = [{}, {"model": "n"}, {"model": "m", "version": 2}, [], None]
    assert not any(found.is_valid(other) for other in others)


def test_parameters_that_need_not_be_there() -> None:
    found = OAS30Validator(schema.parameters("m"))
    goods: list[Any] = [None, {}, {"model": None, "version": None}, {"version": "12"}, {"version": 12}]
    assert all(found.is_valid(good) for good in goods)
    others: list[Any] = [{"model": "n"}, {"version": "x"}, {"version": -1}, {"version": 1.5}]
    assert not any(found.is_valid(other) for other in others)


def test_classes_can_be_asked_for_where_there_are_some() -> None:
    for top_k, of_labels, without_labels, of_a_handler in (
        (None, True, True, True),
        (2, True, False, True),
        (0, False, False, True),
        ("2", False, False, True),
    ):
        for classes, good in ((True, of_labels), (False, without_labels), (None, of_a_handler)):
            assert OAS30Validator(schema.parameters(classes=classes)).is_valid({"top_k": top_k}) is good
