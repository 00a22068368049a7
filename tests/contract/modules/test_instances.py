"""The platform's contract: bytes in, bytes out."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.call import Context, Reply
from listener.contract import instances, media
from listener.errors import BadRequest, InstanceError, ListenerError, TritonFailed


def refusal(body: bytes) -> ListenerError:
    with pytest.raises(ListenerError) as caught:
        instances.decode(body)
    return caught.value


# The media type


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "  application/json ",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "",
    ],
)
def test_a_media_type_that_is_taken_for_json(content_type: str) -> None:
    assert media.form(content_type) is media.Form.JSON


# The request

PNG = base64.b64encode(b"\x89PNG").decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param('{"instances": [1]}', ([1], {}, {}), id="the least"),
        pytest.param(
            '{"instances": [[1, 2.5], "a", null, true, {}]}', ([[1, 2.5], "a", None, True, {}], {}, {}), id="any"
        ),
        pytest.param('{"instances": [1], "parameters": null}', ([1], {}, {}), id="null parameters"),
        pytest.param('{"instances": [1], "parameters": {"model": "m"}}', ([1], {"model": "m"}, {}), id="parameters"),
        pytest.param(
            '{"instances": [1], "signature_name": "serving_default", "b64": "x"}',
            ([1], {}, {"signature_name": "serving_default", "b64": "x"}),
            id="extras",
        ),
        pytest.param(f'{{"instances": [{{"b64": "{PNG}"}}]}}', ([b"\x89PNG"], {}, {}), id="b64"),
        pytest.param(
            f'{{"instances": [{{"image": {{"b64": "{PNG}"}}, "n": 1}}]}}',
            ([{"image": b"\x89PNG", "n": 1}], {}, {}),
            id="b64 inside",
        ),
        pytest.param(f'{{"instances": [[[{{"b64": "{PNG}"}}]]]}}', ([[[b"\x89PNG"]]], {}, {}), id="b64 deep inside"),
        pytest.param(
            '{"instances": [{"\\u0062\\u0036\\u0034": "AA=="}]}', ([b"\0"], {}, {}), id="an escaped key is the key"
        ),
        pytest.param('{"instances": [{"b64": ""}]}', ([b""], {}, {}), id="empty b64"),
        pytest.param(
            '{"instances": [{"b64": "AA==", "name": "x"}]}',
            ([{"b64": "AA==", "name": "x"}], {}, {}),
            id="b64 beside another key is a plain object",
        ),
        pytest.param('{"instances": ["b64"]}', (["b64"], {}, {}), id="the word b64"),
        pytest.param(
            '{"instances": [1], "parameters": {"p": {"b64": "AA=="}}}',
            ([1], {"p": {"b64": "AA=="}}, {}),
            id="no b64 in parameters",
        ),
        pytest.param(' \n{"instances": ["ä\\u00e4"]}\n', (["ää"], {}, {}), id="blanks and text"),
    ],
)
def test_a_request(body: str, expected: tuple[list[Any], dict[str, Any], dict[str, Any]]) -> None:
    assert instances.decode(body.encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", 'the body is empty; expected {"instances": [...]}'),
        (" \n", 'the body is empty; expected {"instances": [...]}'),
        ("[1]", 'the body is a list, not an object; expected {"instances": [...]}'),
        ("null", 'the body is null, not an object; expected {"instances": [...]}'),
        ('"a"', 'the body is a string, not an object; expected {"instances": [...]}'),
        ("1.5", 'the body is a number, not an object; expected {"instances": [...]}'),
        ("true", 'the body is a boolean, not an object; expected {"instances": [...]}'),
        ("{}", "the body has no 'instances'; it needs a list of at least one instance"),
        ('{"Instances": [1]}', "the body has no 'instances'; it needs a list of at least one instance"),
        ('{"instances": null}', "'instances' is null, not a list"),
        ('{"instances": {"a": 1}}', "'instances' is an object, not a list"),
        ('{"instances": []}', "'instances' is empty; send at least one instance"),
        ('{"instances": [1], "parameters": [1]}', "'parameters' is a list, not an object"),
        ('{"instances": [1], "parameters": "m"}', "'parameters' is a string, not an object"),
    ],
    ids=lambda value: value or "empty",
)
def test_a_body_that_is_no_request(body: str, message: str) -> None:
    error = refusal(body.encode())
    assert (type(error), error.message) == (BadRequest, message)


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b"\x89PNG\r\n", b'{"instances": [NaN]}', b'{"instances": [1],}', b"{'instances': [1]}"],
    ids=ascii,
)
def test_a_body_that_is_no_json(body: bytes) -> None:
    error = refusal(body)
    assert type(error) is BadRequest
    assert error.message.startswith("the body is not JSON: ")


def test_a_body_of_nothing_but_brackets() -> None:
    assert refusal(b"[" * 100_000).message.startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ('{"b64": "?"}', "instances[1]: 'b64' is not valid base64: "),
        ('{"b64": "AAA"}', "instances[1]: 'b64' is not valid base64: "),
        ('{"b64": "AA\\n=="}', "instances[1]: 'b64' is not valid base64: "),
        ('{"b64": "ä"}', "instances[1]: 'b64' is not valid base64: "),
        ('{"b64": 5}', "instances[1]: 'b64' is a number, not a string"),
        ('{"b64": null}', "instances[1]: 'b64' is null, not a string"),
        ('{"image": {"b64": "?"}}', "instances[1]: image: 'b64' is not valid base64: "),
        ('{"images": [0, {"b64": ["x"]}]}', "instances[1]: images[1]: 'b64' is a list, not a string"),
        ('[[0], [{"b64": {}}]]', "instances[1]: [1][0]: 'b64' is an object, not a string"),
    ],
)
def test_base64_that_is_none(instance: str, message: str) -> None:
    error = refusal(f'{{"instances": [{{"b64": "AA=="}}, {instance}]}}'.encode())
    assert isinstance(error, InstanceError)
    assert (error.status, error.index) == (400, 1)
    assert error.message.startswith(message)


@pytest.mark.parametrize(("depth", "taken"), [(99, True), (100, True), (101, False), (900, False)])
def test_nesting_has_an_end(depth: int, taken: bool) -> None:
    body = b'{"instances": [0, ' + b"[" * depth + b'{"b64": "AA=="}' + b"]" * depth + b"]}"
    if taken:
        value = instances.decode(body)[0][1]
        for _ in range(depth):
            (value,) = value
        assert value == b"\0"
    else:
        assert refusal(body).message == "instances[1]: nested deeper than 100 levels"


def test_a_call_has_the_rest_of_the_context() -> None:
    context = Context("r", deadline=5.0)
    call = instances.call(b'{"instances": [1], "parameters": {"a": 1}, "x": 2}', context)
    assert call is not None
    assert list(call.instances) == [1]
    assert call.context == Context("r", {}, {"a": 1}, {"x": 2}, 5.0)


# Anything at all

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.just("b64"), inner, max_size=4)
    ),
    max_leaves=12,
)


def decode_or_complain(body: bytes) -> None:
    try:
        found, _, _ = instances.decode(body)
    except ListenerError as error:
        assert error.status == 400
        assert error.message
        assert json.loads(instances.encode_error(error)) == {"error": error.message}
    else:
        assert found


@given(st.binary())
def test_arbitrary_bytes_are_a_request_or_a_bad_one(body: bytes) -> None:
    decode_or_complain(body)


@given(st.text(st.sampled_from('{}[]":,0123456789.-eE \\ubtrfalsn64instances'), max_size=60))
def test_arbitrary_punctuation_is_a_request_or_a_bad_one(text: str) -> None:
    decode_or_complain(text.encode())
    decode_or_complain(b'{"instances": [' + text.encode() + b"]}")


@given(JSON)
def test_arbitrary_json_is_a_request_or_a_bad_one(document: Any) -> None:
    decode_or_complain(json.dumps(document).encode())


@given(
    st.dictionaries(st.sampled_from(["instances", "parameters", "x"]), JSON),
    st.booleans(),
)
def test_arbitrary_documents_are_a_request_or_a_bad_one(document: dict[str, Any], escaped: bool) -> None:
    decode_or_complain(json.dumps(document, ensure_ascii=escaped).encode())


# Bytes at any depth come as bytes

WITH_BYTES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.just("b64"), inner, max_size=3).filter(lambda d: d.keys() != {"b64"})
    ),
    max_leaves=12,
)


def wrapped(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [wrapped(item) for item in value]
    return {key: wrapped(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(st.lists(WITH_BYTES, min_size=1, max_size=4), st.integers(0, 80))
def test_bytes_come_through_at_any_depth(values: list[Any], depth: int) -> None:
    deep: Any = values
    for level in range(depth):
        deep = [deep] if level % 2 else {"inner": deep}
    assert instances.decode(orjson.dumps({"instances": [wrapped(deep), *wrapped(values)]}))[0] == [deep, *values]


# The response


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([], []),
        ((1, 2.5, "ä", None, True), [1, 2.5, "ä", None, True]),
        ([{"digit": 7, "p": [0.5]}], [{"digit": 7, "p": [0.5]}]),
        ([float("nan"), float("inf"), [-float("inf")]], [None, None, [None]]),
        ([np.float32(0.5), np.int64(3), np.bool_(True)], [0.5, 3, True]),
        ([np.arange(6, dtype=np.float32).reshape(2, 3)], [[[0, 1, 2], [3, 4, 5]]]),
        ([{"nan": np.array([np.nan, 1.0])}], [{"nan": [None, 1]}]),
        ([np.arange(6, dtype=np.float32).reshape(2, 3)[:, 1]], [[1, 4]]),
        ([np.arange(6, dtype=np.int32).reshape(2, 3).T], [[[0, 3], [1, 4], [2, 5]]]),
        ([b"raw", {"a": [b""]}], [{"b64": "cmF3"}, {"a": [{"b64": ""}]}]),
    ],
    ids=[
        "none",
        "scalars",
        "objects",
        "NaN and infinities",
        "numpy scalars",
        "array",
        "NaN in an array",
        "a column of an array",
        "a transposed array",
        "bytes",
    ],
)
def test_predictions_as_json(predictions: Any, expected: Any) -> None:
    assert json.loads(instances.encode(Reply(predictions))) == {"predictions": expected}


def _endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "prediction",
    [object(), {1, 2}, {1: 2}, {b"key": 1}, 2**70, "\ud800", np.dtype("int8"), _endless()],
    ids=["object", "set", "key is no string", "key is bytes", "huge number", "surrogate", "dtype", "endless"],
)
def test_what_json_cannot_say(prediction: Any) -> None:
    with pytest.raises(TypeError):
        instances.encode(Reply([prediction]))


@given(st.lists(JSON, max_size=4))
def test_whatever_json_can_say_comes_out_as_it_is(predictions: list[Any]) -> None:
    finite = json.loads(json.dumps(predictions), parse_constant=lambda _: None)
    assert json.loads(instances.encode(Reply(predictions))) == {"predictions": finite}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadRequest('no "model"\nhere'), 'no "model" here'),
        (InstanceError("no picture", 2), "instances[2]: no picture"),
        (TritonFailed("model 'm' failed in Triton"), "model 'm' failed in Triton"),
        (BadRequest("ä"), "ä"),
    ],
    ids=["bad request", "instance", "triton", "beyond ASCII"],
)
def test_an_error_body_is_one_string(error: ListenerError, expected: str) -> None:
    assert json.loads(instances.encode_error(error)) == {"error": expected}


def test_an_error_body_can_be_made_of_any_text() -> None:
    # a request's path with undecodable bytes comes with lone surrogates
    assert json.loads(instances.encode_error(BadRequest("no such path: /\udcff")))["error"].startswith(
        "no such path: /"
    )
