"""Bodies of numbers in one pass: the same as JSON read the long way, or nothing at all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from listener.call import Context, Numbers
from listener.contract import instances
from listener.contract import numbers as module
from listener.contract.numbers import numbers
from tests.test_rows import NUMBERS, nested


@pytest.fixture(autouse=True, scope="module")
def short_ones_too() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SHORTEST", 0)
        yield


def body(value: Any) -> bytes:
    return json.dumps({"instances": value}).encode()


@st.composite
def rectangles(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return draw(nested(tuple(shape), NUMBERS))


@given(rectangles())
@example([[1, 2.5], [-3e5, 0]])
@example([18446744073709551615])
@example([[[1], [2]], [[3], [4]]])
def test_numbers_are_the_same_as_the_long_way(value: Any) -> None:
    text = body(value)
    found = numbers(text)
    if found is None:  # numbers beyond 64 bits, or beyond the doubles
        assert any(abs(number) >= 2**63 for number in np.asarray(value, np.object_).ravel().tolist())
        return
    long_way = orjson.loads(text)["instances"]
    expected = np.array(long_way, np.float64)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.frombuffer(found.values).reshape(found.shape), expected)
    assert found.as_list() == long_way
    assert [type(item) for item in np.asarray(found.as_list(), np.object_).flat] == [
        type(item) for item in np.asarray(long_way, np.object_).flat
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1]",
        b'{"instances": 1}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"instances": [[], []]}',
        b'{"instances": [[1], [2, 3], [4, 5, 6]]}',
        b'{"instances": [[1, 2], [3, 4, 5], [6]]}',
        b'{"instances": [1, [2]]}',
        b'{"instances": [[1], 2]}',
        b'{"instances": [[[1, 2]], [3, 4]]}',
        b'{"instances": [[1, [2]], [3, 4]]}',
        b'{"instances": [[[1], []], [[2], []]]}',
        b'{"instances": [[1, true]]}',
        b'{"instances": [[1, null]]}',
        b'{"instances": [[1, "2"]]}',
        b'{"instances": [[1, {"a": 2}]]}',
        b'{"instances": [{"b64": "AAAA"}]}',
        b'{"instances": [NaN]}',
        b'{"instances": [01]}',
        b'{"instances": [1,]}',
        b'{"instances": [1e400]}',
        b'{"instances": [1]',
        b'{"instances": [1]} 2',
        b'{"instances": [1], "parameters": {"model": "m"}}',
        b'{"instances": [1], "instances": [2]}',
        b'{"instances": [1], "instance\\u0073": [2]}',
        b'\xef\xbb\xbf{"instances": [1]}',
        b'{"instances": ' + b"[" * 2000 + b"1" + b"]" * 2000 + b"}",
    ],
)
def test_whatever_is_not_plain_is_left_to_others(text: bytes) -> None:
    assert numbers(text) is None


@given(st.binary(max_size=40), st.integers(0, 60))
def test_a_damaged_body_is_never_read_as_another(rubbish: bytes, at: int) -> None:
    text = body([[1, 2.5, -3], [4e5, 5, 6]])
    text = text[:at] + rubbish + text[at:]
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        assert numbers(text) is None
        return
    found = numbers(text)
    assert found is None or found.as_list() == expected["instances"]


def test_the_parser_is_free_again_after_every_kind_of_body() -> None:
    """It refuses to be used while anything of the last document is there."""
    for text in (body([1]), body([[1], [2, 3]]), body([True]), b"{", body([[1, 2]])) * 2:
        numbers(text)
    assert numbers(body([[1, 2]])) is not None


def test_large_bodies_do_not_stay_in_the_parser() -> None:
    found = numbers(body([[1.5] * 1000] * 400))
    assert found is not None
    assert found.shape == (400, 1000)


def test_a_call_holds_the_numbers_until_somebody_wants_the_lists() -> None:
    call = instances.call(body([[1, 2.5], [3, 4]]), Context("id"))
    assert call is not None
    assert isinstance(call.instances, Numbers)
    assert (len(call.instances), call.booleans, call.context.request_id) == (2, False, "id")
    assert call.instances[1] == [3, 4]
    assert call.instances[:1] == [[1, 2.5]]
    assert list(call.instances) == [[1, 2.5], [3, 4]]
    assert call.plain().instances == [[1, 2.5], [3, 4]]
    assert call.plain().context is call.context
