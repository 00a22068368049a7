"""What is told of routes of several steps, and the examples of handlers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator

from listener.contract import composed, described, openapi, schema
from listener.contract.served import Served
from listener.handler import Handler
from listener.nodes import (
    Arm,
    Cascade,
    Ensemble,
    Fallback,
    From,
    Limited,
    Named,
    Node,
    Pass,
    Ref,
    Sequence_,
    Shadow,
    Split,
    Switch,
    Then,
)
from listener.tensors import ModelSpec, TensorSpec

TWO = ModelSpec("two", (TensorSpec("X", "INT8", (2,)),), (TensorSpec("Y", "INT32", (1,)),), 4)
SAME = ModelSpec("same", TWO.inputs, TWO.outputs, 4)
TEXT: schema.Schema = {"type": "string"}
STEPS = {
    "two": Served("two", "two", TWO),
    "same": Served("same", "same", SAME),
    "text": Served("text", "text", None, TEXT, {"enum": ["a", "b"]}, example="x", example_size=3),
    "short": Served("short", "text", None, {"type": "string", "maxLength": 2}, {"enum": ["c"]}),
    "unknown": Served("unknown", "unknown"),
}
A, B, TXT, SHORT, UNKNOWN = (Ref(name) for name in STEPS)
FIELD = From("field", "k")


def told(node: Node, **graphs: Node) -> Served:
    named = {name: Named(name, each) for name, each in {"r": node, **graphs}.items()}
    return composed.served("r", named, STEPS)


@pytest.mark.parametrize(
    ("node", "instance", "prediction"),
    [
        (Limited(TXT, 1), "text", "text"),
        (Shadow(TXT, A), "text", "text"),
        (Sequence_([Then(TXT), Then(SHORT)]), "text", "short"),
        (Sequence_([Then(Pass()), Then(TXT)]), None, "text"),
        (Switch(FIELD, {"a": TXT}, TXT), "text", "text"),
        (Switch(FIELD, {"a": TXT}, UNKNOWN), None, None),
        (Fallback([TXT, UNKNOWN]), "text", None),
        (Ensemble({"a": TXT, "b": TXT}, "handlers.x:f"), "text", None),
        (Ref("inner"), "short", "short"),
        (Pass(), None, None),
    ],
)
def test_schemas_of_one_step(node: Node, instance: str | None, prediction: str | None) -> None:
    found = told(node, inner=SHORT)
    assert found.told_instance == (STEPS[instance].told_instance if instance else None)
    assert found.told_prediction == (STEPS[prediction].told_prediction if prediction else None)


def test_two_models_of_one_shape_say_it_once() -> None:
    found = told(Fallback([A, B]))
    assert found.told_instance == {key: value for key, value in schema.instance(TWO).items() if key != "title"}
    assert found.datatypes == {"INT8"}


def accepts(found: schema.Schema | None, value: Any) -> bool:
    assert found is not None
    return bool(OAS30Validator(schema.resolved(found, schema.elements(["INT8"]))).is_valid(value))


def test_a_switch_takes_what_one_of_its_branches_takes() -> None:
    found = told(Switch(From("header", "k"), {"a": A, "b": SHORT}))
    assert [accepts(found.told_instance, value) for value in ([1, 2], "ab", "abc", [1])] == [True, True, False, False]
    assert [accepts(found.told_prediction, value) for value in ([1], "c", "a")] == [True, True, False]


def test_the_field_that_says_the_way_is_a_part_of_the_instance() -> None:
    found = told(Switch(FIELD, {"a": A}))
    given = [{"X": [1, 2], "k": "a"}, {"X": [1, 2]}, [1, 2], {"X": [1], "k": "a"}, {"X": [1, 2], "k": "a", "z": 1}]
    assert [accepts(found.told_instance, value) for value in given] == [True, False, False, False, False]
    for node in (Switch(FIELD, {"a": A}, A), Split({"a": Arm(1, A)}, FIELD)):
        found = told(node)
        assert [accepts(found.told_instance, value) for value in given] == [True, True, True, False, False]


def test_an_instance_may_have_an_error_for_a_prediction_where_it_fails_alone() -> None:
    found = replace(told(Fallback([TXT, SHORT])), alone=True).prediction
    said = ["a", "c", {"error": "is bad"}, "d", {"error": 1}, {}]
    assert [accepts(found, value) for value in said] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    "node",
    [
        Fallback([TXT, SHORT]),
        Cascade([TXT, SHORT], 0.5),
        Split({"a": Arm(1, TXT), "b": Arm(1, SHORT)}),
        Ensemble({"a": TXT, "b": SHORT}, "vote"),
    ],
)
def test_where_any_of_them_may_be_asked_an_instance_is_one_for_all(node: Node) -> None:
    found = told(node)
    assert [accepts(found.told_instance, value) for value in ("ab", "abc", 1)] == [True, False, False]
    assert [accepts(found.told_prediction, value) for value in ("a", "c", "d")] == [True, True, False]


def test_an_ensemble_is_an_object_of_its_members() -> None:
    found = told(Ensemble({"a": TXT, "b": UNKNOWN}, optional=frozenset({"a"})))
    said = [{"a": "a", "b": 1}, {"a": None, "b": 1}, {"a": "x", "b": 1}, {"a": "a"}, {"a": "a", "b": 1, "c": 1}]
    assert [accepts(found.told_prediction, value) for value in said] == [True, True, False, False, False]


def test_a_mean_of_whole_numbers_is_none() -> None:
    found = told(Ensemble({"a": A, "b": B}, "mean"))
    assert [accepts(found.told_prediction, value) for value in ([1.5], [1], "a", None)] == [True, True, False, False]
    found = told(Ensemble({"a": A, "b": B}, "mean", frozenset("ab")))
    assert accepts(found.told_prediction, None)


@pytest.mark.parametrize(
    ("node", "example"),
    [
        (Fallback([SHORT, TXT]), "x"),
        (Sequence_([Then(SHORT), Then(TXT)]), None),
        (Switch(From("parameter", "k"), {"a": TXT}), "x"),
        (Switch(FIELD, {"a": TXT}), None),
    ],
)
def test_the_example_of_a_step_is_that_of_the_route_if_it_may_be(node: Node, example: Any) -> None:
    assert told(node).example == example


def test_such_a_route_is_a_part_of_a_valid_document() -> None:
    """Even where the models in it cannot be chosen."""
    one = told(Switch(FIELD, {"a": A, "b": TXT}, UNKNOWN))
    other = composed.served("s", {"s": Named("s", Fallback([A, B]))}, STEPS)
    routes = openapi.Routes("/predict", "/health", "r")
    made = orjson.loads(orjson.dumps(openapi.document("x", "1", routes, [one, other])))
    OpenAPIV30SpecValidator(made).validate()
    assert {path for path in made["paths"] if "models/" in path} == {
        *("/v1/models/r", "/v1/models/r:predict", "/v1/models/s", "/v1/models/s:predict"),
        "/v2/models/stats",
    }
    content = made["paths"]["/v1/models/s:predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = OAS30Validator(schema.resolved(content, made["components"]["schemas"]))
    assert validator.is_valid({"instances": [[1, 2]]})
    assert not validator.is_valid({"instances": [[1]]})
    assert not validator.is_valid({"instances": [[1, 2]], "parameters": {"version": 1}})


# Examples


def shown(given: Any, declared: Mapping[str, Any] | None = TEXT) -> schema.Schema:
    """The schema of an instance of a handler with an example."""

    class Mine(Handler):
        example = given
        instance_schema = declared

    return described.served("r", Mine, "m").instance


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("x", "x"),
        (b"\x00\xff", {"b64": "AP8="}),
        ({"picture": b"a", "limit": 0}, {"picture": {"b64": "YQ=="}, "limit": 0}),
        (np.array([1.5, 2]), [1.5, 2]),
        (0, 0),
    ],
)
def test_an_example_is_said_as_callers_send_it(given: Any, said: Any) -> None:
    assert shown(given) == {**TEXT, "example": said}


@pytest.mark.parametrize("given", [None, object(), {1: 2}])
def test_none_is_said_where_there_is_none_that_json_can_say(given: Any) -> None:
    assert shown(given) == TEXT


def test_a_large_example_is_left_out() -> None:
    assert shown(b"x" * 30_000) == {**TEXT, "description": "The example is left out, as it has 40010 bytes."}
    assert shown("x" * 20_000, {"description": "A text."})["description"] == (
        "A text. The example is left out, as it has 20002 bytes."
    )


def test_a_schemas_own_example_stays() -> None:
    assert shown("x", {**TEXT, "example": "y"})["example"] == "y"


def test_the_example_that_load_has_made_counts() -> None:
    made = Handler()
    made.example = [1, 2]
    assert described.served("r", Handler, "m", TWO, (), made).instance["example"] == [1, 2]
