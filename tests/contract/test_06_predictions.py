"""Contract, item 6: order and number of predictions, one output or several, bytes, and no JSON that is none."""

from __future__ import annotations

import base64
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.target import Target

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("count", [1, 2, 8, 9, 255, 256, 257, 1000])
def test_there_is_one_prediction_for_each_instance_in_their_order(target: Target, count: int) -> None:
    """Above and below what the model takes at a time (256)."""
    order = random.Random(count).sample(range(count * 3), count)
    assert target.predictions([[n] for n in order], "identity_int64") == [[n] for n in order]


def test_every_caller_gets_its_own(target: Target) -> None:
    def ask(n: int) -> bool:
        instances = [[n, k] for k in range(n % 7 + 1)]
        return bool(target.predictions(instances, "identity_int32") == instances)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_order_of_a_model_without_batching(target: Target) -> None:
    assert target.predictions([[[n, 0]] for n in range(40)], "unbatched") == [[float(n), 0.0] for n in range(40)]


def test_order_of_rows_that_differ_in_shape(target: Target) -> None:
    rows = [[1.0] * (n % 5 + 1) for n in range(40)]
    predictions = target.predictions(rows, "ragged")
    assert [prediction["LENGTH"] for prediction in predictions] == [[len(row)] for row in rows]


def test_one_output_is_the_bare_value(target: Target) -> None:
    assert target.predictions([[1, 2]], "identity_int32") == [[1, 2]]


def test_several_outputs_are_an_object_by_name(target: Target) -> None:
    one = {"A": [1, 2, 3, 4], "B": [4, 3, 2, 1]}
    assert target.predictions([one], "add_sub") == [{"SUM": [5, 5, 5, 5], "DIFFERENCE": [-3, -1, 1, 3]}]


@pytest.mark.parametrize("content", [b"text and more", b"\x89PNG\r\n\x1a\n", b"", b"\x00"])
def test_an_output_by_a_name_in_bytes_is_always_base64(target: Target, content: bytes) -> None:
    (prediction,) = target.predictions([wrapped(content)], "picture")
    assert prediction["SIZE"] == [len(content)]
    assert prediction["HEAD_bytes"] == [wrapped(content[:4])]
    assert prediction["HEAD"] == [said(content[:4])]


def test_bytes_that_are_no_text_are_base64_each_for_itself(target: Target) -> None:
    row = [wrapped(b"one"), wrapped(b"\xff"), "\u2713"]
    assert target.predictions([row], "identity_bytes") == [["one", wrapped(b"\xff"), "\u2713"]]


def wrapped(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def said(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return wrapped(content)


# `Target.predictions` and `Answer.json` read strictly: a bare NaN or Infinity would fail them


def test_what_is_no_number_is_null(target: Target) -> None:
    assert target.predictions([1, 2], "not_finite") == [[1.0, None, None, None], [2.0, None, None, None]]


def test_what_is_no_number_is_null_in_columns(target: Target) -> None:
    answer = target.predict({"inputs": [[1]], "parameters": {"model": "not_finite"}})
    assert (answer.status, answer.json()) == (200, {"outputs": [[1.0, None, None, None]]})


@pytest.mark.parametrize("datatype", ["fp16", "bf16", "fp32", "fp64"])
def test_what_is_no_number_is_null_in_every_datatype(target: Target, datatype: str) -> None:
    rows = [[float(n), "NaN", "-Infinity"] for n in range(3)]
    assert target.predictions(rows, f"identity_{datatype}") == [[float(n), None, None] for n in range(3)]
