"""Server-sent events: docs/reference/contract.md, "Streaming"."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract import events
from listener.errors import TritonFailed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\n", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_an_event_is_one_line_of_json_and_an_empty_one(value: Any) -> None:
    """Whatever line breaks a text has: they are escaped."""
    said = events.event(value)
    assert said.startswith(b"data: ")
    assert said.endswith(b"\n\n")
    assert said.count(b"\n") == 2
    assert b"\r" not in said
    assert orjson.loads(said[6:]) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, b"data: null\n\n"),
        ([math.inf, -math.inf], b"data: [null,null]\n\n"),
        (np.float32(0.1), b"data: 0.1\n\n"),
        (np.array([1, 2], np.int8), b"data: [1,2]\n\n"),
        ({"a": np.array(0.1, np.float32)}, b'data: {"a":0.1}\n\n'),
        (b"raw", b'data: {"b64":"cmF3"}\n\n'),
    ],
)
def test_values_are_said_as_in_predictions(value: Any, said: bytes) -> None:
    assert events.event(value) == said


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", {1, 2}, 1j, np.array([1j]), 2**64])
def test_what_json_has_no_word_for_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        events.event(value)


def test_a_failure_is_an_event_with_the_one_sentence() -> None:
    failure = TritonFailed("model 'm' failed\nin Triton")
    assert events.failure(failure) == b'data: {"error":"model \'m\' failed in Triton"}\n\n'
