"""Values as JSON says them: every layout of an array, bytes, and what has no word."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from listener.said import words
from listener.testing import FakeTriton
from listener.testing.client import Client

ARRAYS: dict[str, tuple[NDArray[Any], str]] = {
    "BOOL": (np.array([[True], [False]]), "[[true],[false]]"),
    "INT8": (np.array([[1, -2], [3, 4]], np.int8), "[[1,-2],[3,4]]"),
    "UINT64": (np.array([2**64 - 1, 0], np.uint64), "[18446744073709551615,0]"),
    "FP16": (np.array([0.5, 2], np.float16), "[0.5,2.0]"),
    "FP32": (np.array([[0.1, 2]], np.float32), "[[0.1,2.0]]"),
    "FP64": (np.array([0.1, np.nan, np.inf]), "[0.1,null,null]"),
    "text": (np.array(["a", "ä"]), '["a","ä"]'),
    "bytes": (np.array([b"a", b"bc"]), '[{"b64":"YQ=="},{"b64":"YmM="}]'),
    "objects": (np.array([b"a", "b", None], np.object_), '[{"b64":"YQ=="},"b",null]'),
    "times": (np.array(["2020-01-02T03:04:05"], "M8[ns]"), '["2020-01-02T03:04:05"]'),
    "none": (np.zeros((2, 0), np.float32), "[[],[]]"),
}


def layouts(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {
        "plain": array,
        "a view with gaps": np.repeat(array, 2, axis=0)[::2],
        "backwards": array[::-1].copy()[::-1],
        "by columns": np.asfortranarray(array),
        "read-only": np.broadcast_to(array, array.shape),
    }


@pytest.mark.parametrize(("array", "said"), ARRAYS.values(), ids=ARRAYS.keys())
def test_an_array_in_every_layout(array: NDArray[Any], said: str) -> None:
    assert {layout: words(one) for layout, one in layouts(array).items()} == dict.fromkeys(layouts(array), said)


@pytest.mark.parametrize(("array", "said"), [pair for pair in ARRAYS.values() if pair[0].size])
def test_one_element_of_an_array(array: NDArray[Any], said: str) -> None:
    first = json.loads(said)
    while isinstance(first, list):
        first = first[0]
    corner = array[(0,) * array.ndim]
    assert json.loads(words(corner)) == json.loads(words(np.array(corner, array.dtype))) == first


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xff\0", '{"b64":"/wA="}'),
        (bytearray(b"raw"), '{"b64":"cmF3"}'),
        (memoryview(b"r-a-w")[::2], '{"b64":"cmF3"}'),
        (np.bytes_(b"raw"), '{"b64":"cmF3"}'),
        ({"b": [b""], "a": {"d": 1, "c": None}}, '{"a":{"c":null,"d":1},"b":[{"b64":""}]}'),
        ((1, "ä"), '[1,"ä"]'),
    ],
)
def test_bytes_and_the_order_of_keys(value: Any, said: str) -> None:
    assert words(value) == said


@given(st.dictionaries(st.text("abc", max_size=2), st.integers(-3, 3), max_size=4))
def test_objects_that_say_the_same_have_the_same_words(value: dict[str, int]) -> None:
    assert words(value) == words(dict(reversed(value.items())))
    assert json.loads(words(value)) == value


def endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, {1: 2}, 2**64, "\ud800", 1j, np.array([1j]), np.array([1], np.longdouble), endless()]
)
def test_what_json_has_no_word_for(value: Any) -> None:
    with pytest.raises(TypeError):
        words(value)


def test_bytes_come_back_from_a_node_that_passes_them_on_and_from_a_handler(tmp_path: Path) -> None:
    (tmp_path / "said_handlers.py").write_text(
        "from listener import Handler, Reply\n\n"
        "class Raw(Handler):\n    model = None\n\n    async def predict(self, call):\n"
        "        return Reply([{'raw': bytes(reversed(each))} for each in call.instances])\n"
    )
    (tmp_path / "listener.yaml").write_text(
        "default: same\nroutes: {same: {node: pass}, raw: {handler: 'said_handlers:Raw'}}\n"
    )
    sent = [b"\xff\0", b"", b"long" * 30_000]
    with Client(tmp_path, FakeTriton()) as client:
        same, raw = client.predict(sent), client.predict(sent, parameters={"model": "raw"})
        status, told = client.post(sent[2], {"Content-Type": "application/octet-stream"})
    assert [base64.b64decode(each["b64"]) for each in same] == sent
    assert [base64.b64decode(each["raw"]["b64"]) for each in raw] == [each[::-1] for each in sent]
    assert (status, told) == (200, {"predictions": [{"b64": base64.b64encode(sent[2]).decode()}]})
