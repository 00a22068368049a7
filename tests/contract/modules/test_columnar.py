"""Columns in, columns out: docs/reference/contract.md, "Columns"."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.call import Call, Columns, Reply
from listener.contract import columnar, instances
from listener.errors import BadRequest

NAMES = st.text("abcXY_", min_size=1, max_size=4)
VALUES = st.one_of(st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(0, 9), max_size=3), st.none())


@pytest.mark.parametrize(
    ("inputs", "rows"),
    [
        ([[1], [2]], [[1], [2]]),
        ([1, 2, 3], [1, 2, 3]),
        ("one", ["one"]),
        (5, [5]),
        (None, [None]),
        (b"raw", [b"raw"]),
        ({"A": [1, 2], "B": ["x", "y"]}, [{"A": 1, "B": "x"}, {"A": 2, "B": "y"}]),
        ({"A": [[1, 2]], "B": [[3]]}, [{"A": [1, 2], "B": [3]}]),
        ({"A": 1, "B": "x"}, [{"A": 1, "B": "x"}]),
        ({"A": b"raw"}, [{"A": b"raw"}]),
        ({"A": [1], "B": 2}, [{"A": 1, "B": 2}]),
    ],
)
def test_columns_are_rows(inputs: Any, rows: list[Any]) -> None:
    made = columnar.columns(inputs)
    assert (list(made), len(made), made.value) == (rows, len(rows), inputs)
    assert (made[0], made[-1:]) == (rows[0], rows[-1:])


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([], "'inputs' is empty; its leading dimension is the batch"),
        ({}, "'inputs' is empty; name at least one input"),
        ({"A": [1, 2], "B": [1]}, "'inputs' has 2 rows of 'A' and 1 of 'B'; all need as many"),
        ({"A": [1, 2], "B": 1}, "'inputs' has 2 rows of 'A' and 1 of 'B'; all need as many"),
        ({"A": [1], "B": []}, "'inputs' has 1 rows of 'A' and 0 of 'B'; all need as many"),
        ({"A": []}, "'inputs' has no rows of 'A'; its leading dimension is the batch"),
    ],
)
def test_what_has_no_rows_has_its_value_still(inputs: Any, sentence: str) -> None:
    """A model that does not batch takes tensors that have nothing in common; only whoever looks for rows is refused."""
    made = columnar.columns(inputs)
    assert made.value == inputs
    for look in (len, list, lambda made: made[0], lambda made: Call(made).plain()):
        with pytest.raises(BadRequest) as caught:
            look(made)
        assert caught.value.message == sentence


@given(st.dictionaries(NAMES, st.just(None), min_size=1, max_size=3), st.integers(1, 5), st.data())
def test_rows_of_columns_say_what_the_columns_say(names: dict[str, None], count: int, data: st.DataObject) -> None:
    inputs = {name: data.draw(st.lists(VALUES, min_size=count, max_size=count)) for name in names}
    rows = list(columnar.columns(inputs))
    assert columnar.outputs(rows, whole=False) == inputs


@pytest.mark.parametrize(
    ("predictions", "outputs"),
    [
        ([1, 2], [1, 2]),
        ([[1], [2]], [[1], [2]]),
        ([{"A": 1}, {"A": 2}], {"A": [1, 2]}),
        (({"A": 1}, {"A": 2}), {"A": [1, 2]}),
        ([{"A": 1, "B": 3}, {"B": 4, "A": 2}], {"A": [1, 2], "B": [3, 4]}),  # keys have no order
        ([{"A": 1}, {"B": 2}], [{"A": 1}, {"B": 2}]),
        ([{"A": 1}, {"A": 1, "B": 2}], [{"A": 1}, {"A": 1, "B": 2}]),
        ([{"A": 1}, None], [{"A": 1}, None]),
        ([{"b64": "AA=="}, {"b64": "AQ=="}], [{"b64": "AA=="}, {"b64": "AQ=="}]),  # which are byte strings
        ([{"b64": "AA==", "n": 1}], {"b64": ["AA=="], "n": [1]}),
    ],
)
def test_predictions_become_columns_where_they_have_the_same_keys(predictions: Any, outputs: Any) -> None:
    assert columnar.outputs(predictions, whole=False) == outputs


def test_an_array_stays_one() -> None:
    array = np.ones((2, 3), np.float32)
    assert columnar.outputs(array, whole=False) is array


@pytest.mark.parametrize("whole", [[1, 2], {"A": [1]}, 5])
def test_what_is_whole_is_all_outputs(whole: Any) -> None:
    assert columnar.outputs([whole], whole=True) == whole


# In a request's body, where the document tells what it is


def call(body: Any) -> Call | None:
    return instances.call(orjson.dumps(body))


@pytest.mark.parametrize(
    ("body", "value", "parameters", "extras"),
    [
        ({"inputs": [1, 2]}, [1, 2], {}, {}),
        ({"inputs": {"A": [1]}, "parameters": {"model": "m"}}, {"A": [1]}, {"model": "m"}, {}),
        ({"inputs": [[1]], "parameters": None, "signature_name": "s"}, [[1]], {}, {"signature_name": "s"}),
        ({"inputs": {"b64": "AAE="}}, b"\0\1", {}, {}),
        ({"inputs": {"A": [{"b64": "AAE="}, {"b64": ""}]}}, {"A": [b"\0\1", b""]}, {}, {}),
    ],
)
def test_a_body_by_columns(body: Any, value: Any, parameters: Any, extras: Any) -> None:
    made = call(body)
    assert made is not None
    assert isinstance(made.instances, Columns)
    assert (made.instances.value, made.context.parameters, made.context.extras) == (value, parameters, extras)


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "x", "shape": [1], "datatype": "FP32"}, {"name": "y", "shape": [1]}],
        [{"name": "x", "shape": [1], "datatype": "FP32"}, 1],
        {"name": "x", "shape": [1], "datatype": "FP32"},
        [["name", "shape", "datatype"]],
        ["name", "shape", "datatype"],
    ],
)
def test_what_looks_a_little_like_the_open_protocol_is_columns(inputs: Any) -> None:
    made = call({"inputs": inputs})
    assert made is not None
    assert isinstance(made.instances, Columns)


def test_what_is_the_open_protocol_is_tritons() -> None:
    assert call({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}) is None
    assert call({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {}}, {}][:1]}) is None


def test_instances_go_before_inputs() -> None:
    made = call({"inputs": [1, 2, 3], "instances": [4]})
    assert made is not None
    assert (made.instances, made.context.extras) == ([4], {"inputs": [1, 2, 3]})


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"A": {"b64": "AA"}}, "inputs: A: 'b64' is not valid base64: Incorrect padding"),
        ({"A": [1, {"b64": 5}]}, "inputs: A[1]: 'b64' is a number, not a string"),
        ([[{"b64": None}]], "inputs: [0][0]: 'b64' is null, not a string"),
    ],
)
def test_bytes_that_are_none_are_told_of_with_their_place(inputs: Any, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        call({"inputs": inputs})
    assert caught.value.message == sentence


@pytest.mark.parametrize("parameters", [[], "x", 1, False])
def test_parameters_have_to_be_an_object(parameters: Any) -> None:
    with pytest.raises(BadRequest, match=r"^'parameters' is "):
        call({"inputs": [1], "parameters": parameters})


def test_a_reply_by_columns_is_encoded_so() -> None:
    assert instances.encode(Reply([{"A": 1}, {"A": 2}]), by_columns=True) == b'{"outputs":{"A":[1,2]}}'
    assert instances.encode(Reply(np.ones((2, 1), np.int8)), by_columns=True) == b'{"outputs":[[1],[1]]}'
    assert instances.encode(Reply([{"A": np.ones(2)}], whole=True), by_columns=True) == b'{"outputs":{"A":[1.0,1.0]}}'
