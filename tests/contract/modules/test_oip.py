"""Requests of the Open Inference Protocol: what of them may be passed on. docs/reference/contract.md, the same section.

What is passed on is read by another parser than the one that looked at it, so it must say the same to every parser:
whether of a key that is there twice the first counts, or the last, or both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract import oip
from listener.contract.oip import Infer
from listener.errors import BadRequest

SHARED = "shared memory cannot be used through the listener; send the tensors with the request"
VENDOR = "application/vnd.vertex-ai-triton.binary+json;json-header-size="


def refusal(body: bytes, length: int | None = None) -> str:
    with pytest.raises(BadRequest) as caught:
        oip.checked(body, length)
    return caught.value.message


# What is such a request

TENSOR = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}


@pytest.mark.parametrize("inputs", [[TENSOR], [TENSOR, TENSOR], [{"name": None, "shape": None, "datatype": None}]])
def test_inputs_that_all_have_name_shape_and_datatype_are_the_protocols(inputs: Any) -> None:
    assert oip.is_request(inputs)


@pytest.mark.parametrize(
    "inputs", [None, [], {}, "x", 1, TENSOR, [1], [[TENSOR]], [TENSOR, 1], [TENSOR, {"name": "x", "shape": [1]}]]
)
def test_other_inputs_are_not(inputs: Any) -> None:
    assert not oip.is_request(inputs)


# Lengths


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("0", 5), ("5", 5), ("005", 5), ("2147483647", 2**40)])
def test_a_length_is_a_number_within_the_body(text: str, size: int) -> None:
    assert oip.header_length(text, size) == int(text)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1.0", "1e1", "0x5", "five", " 5", "5 ", "\u0665", "5,5", "5\n", "²", "NaN", "\udcff"],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"is not a number of bytes$") as caught:
        oip.header_length(text, 100)
    assert caught.value.message.startswith("inference-header-content-length: ")


@pytest.mark.parametrize("text", ["6", "99", "2147483648", "4294967301", "18446744073709551621", "9" * 5000])
def test_what_is_more_than_the_body_is_refused(text: str) -> None:
    """Also beyond 32 bits and 64, where it might come to be small again, and as a number that nobody should read."""
    with pytest.raises(BadRequest, match=r"^json-header-size: [0-9]{1,40} is more than the body's 5 bytes$"):
        oip.header_length(text, 5, "json-header-size")


def test_a_length_that_does_not_fit_into_32_bits_is_refused_for_any_body() -> None:
    with pytest.raises(BadRequest):
        oip.header_length("2147483648", 2**40)


@given(st.text(max_size=30), st.integers(0, 2**40))
def test_a_length_is_within_the_body_or_refused(text: str, size: int) -> None:
    try:
        assert 0 <= oip.header_length(text, size) <= min(size, 2**31 - 1)
    except BadRequest as error:
        assert "\n" not in error.message


@given(st.integers(0, 2**33), st.integers(0, 2**33))
def test_every_length_within_the_body_is_taken(length: int, size: int) -> None:
    if length <= min(size, 2**31 - 1):
        assert oip.header_length(str(length), size) == length
    else:
        with pytest.raises(BadRequest):
            oip.header_length(str(length), size)


# By the headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Infer(b"{}xx")),
        ({"content-type": "application/json"}, Infer(b"{}xx")),
        ({"inference-header-content-length": "2"}, Infer(b"{}xx", 2)),
        ({"inference-header-content-length": "0"}, Infer(b"{}xx", 0)),
        ({"inference-header-content-length": "4"}, Infer(b"{}xx", 4)),
        ({"content-type": f"{VENDOR}2"}, Infer(b"{}xx", 2)),
        ({"content-type": f"{VENDOR}2", "inference-header-content-length": "9"}, Infer(b"{}xx", 2)),
    ],
)
def test_the_headers_say_how_long_the_json_is(headers: dict[str, str], expected: Infer) -> None:
    assert oip.request(b"{}xx", headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"inference-header-content-length": "5"},
        {"inference-header-content-length": ""},
        {"inference-header-content-length": "2, 2"},
        {"content-type": f"{VENDOR}5"},
        {"content-type": VENDOR},
        {"content-type": f"{VENDOR}2;x=y"},
        {"content-type": f"{VENDOR}-1"},
        {"content-type": f" {VENDOR}2"},
        {"content-type": VENDOR.upper() + "2"},
        {"content-type": "application/vnd.vertex-ai-triton.binary+json"},
    ],
)
def test_a_wrong_length_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        oip.request(b"{}xx", headers)


# The choice of a model


@pytest.mark.parametrize(
    ("request_", "parameters"),
    [
        (Infer(b'{"parameters": {"model": "m", "n": 1}}'), {"model": "m", "n": 1}),
        (Infer(b'{"parameters": {"model": "m"}}\xff\xff', 30), {"model": "m"}),
        (Infer(b'{"inputs": []}'), {}),
        (Infer(b'{"parameters": null}'), {}),
        (Infer(b'{"parameters": ["model"]}'), {}),
        (Infer(b'["parameters"]'), {}),
        (Infer(b'"parameters"'), {}),
        (Infer(b'{"x": {"parameters": {"model": "m"}}}'), {}),
        (Infer(b'{"parameters": '), {}),
        (Infer(b'\xff{"parameters": {}}'), {}),
        (Infer(b'{"parameters": {"model": "m"}}', 0), {}),
        (Infer(b'{"parameters": {"model": "m"}}', 5), {}),
    ],
)
def test_parameters_are_those_of_the_request(request_: Infer, parameters: dict[str, Any]) -> None:
    assert oip.parameters(request_) == parameters


# Shared memory

REGION = '"shared_memory_region": "r"'
NAMING = {
    "of an input": f'{{"inputs": [{{"parameters": {{{REGION}}}}}]}}',
    "of the second input": f'{{"inputs": [{{}}, {{"parameters": {{{REGION}}}}}]}}',
    "of an output": f'{{"outputs": [{{"parameters": {{{REGION}, "shared_memory_byte_size": 4}}}}]}}',
    "of the request": f'{{"parameters": {{{REGION}}}}}',
    "an offset alone": '{"inputs": [{"parameters": {"shared_memory_offset": 4}}]}',
    "an escaped letter": '{"inputs": [{"parameters": {"\\u0073hared_memory_region": "r"}}]}',
    "all letters escaped": '{"inputs": [{"parameters": {"'
    + "".join(f"\\u{ord(letter):04x}" for letter in "shared_memory_region")
    + '": "r"}}]}',
    "an escape in capitals": '{"inputs": [{"parameters": {"shared\\u005Fmemory_region": "r"}}]}',
    "escaped parameters": f'{{"inputs": [{{"\\u0070arameters": {{{REGION}}}}}]}}',
    "escaped inputs": f'{{"\\u0069nputs": [{{"parameters": {{{REGION}}}}}]}}',
    "twice, the last time": f'{{"inputs": [{{"parameters": {{}}, "parameters": {{{REGION}}}}}]}}',
}


@pytest.mark.parametrize("body", NAMING.values(), ids=NAMING.keys())
def test_shared_memory_cannot_be_named(body: str) -> None:
    assert refusal(body.encode()) == SHARED
    assert refusal(body.encode() + b"\0\1", len(body)) == SHARED


@pytest.mark.parametrize(
    "body",
    [
        f'{{"inputs": [{{"parameters": {{{REGION}}}, "parameters": {{}}}}]}}',
        f'{{"inputs": [{{"parameters": {{{REGION}}}}}], "inputs": []}}',
        f'{{"inputs": [{{"parameters": {{{REGION}, "\\u0073hared_memory_region": null}}, "parameters": {{}}}}]}}',
    ],
)
def test_of_a_key_that_is_there_twice_one_is_passed_on(body: str) -> None:
    assert b"shared_memory" not in oip.checked(body.encode()).body


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [{"name": "shared_memory_region", "data": ["shared_memory"], "parameters": {"x": "shared_memory"}}]},
        {"inputs": [{"data": ["ä\u2028"], "parameters": {"not_shared_memory": 1}}]},
        {"inputs": [{"data": [{"parameters": {"shared_memory_region": "r"}}]}]},
        ["shared_memory"],
        "shared_memory",
    ],
)
def test_what_only_says_the_word_is_passed_on_and_means_the_same(document: Any) -> None:
    body = json.dumps(document).encode()
    assert orjson.loads(oip.checked(body).body) == document
    binary = oip.checked(body + b"\0shared_memory", len(body))
    assert binary.header_length is not None
    assert orjson.loads(binary.body[: binary.header_length]) == document
    assert binary.body[binary.header_length :] == b"\0shared_memory"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"inputs": [{"data": [1, 2'])
def test_what_need_not_be_looked_into_is_passed_on_as_it_is(body: bytes) -> None:
    assert oip.checked(body) == Infer(body)
    assert oip.checked(body, 0) == Infer(body, 0)


@pytest.mark.parametrize("body", [b"shared_memory", b'{"shared_memory": ', b'{"a": "\\ud800"}', b'\xff"\\u0041"'])
def test_what_has_to_be_looked_into_and_cannot_is_refused(body: bytes) -> None:
    assert refusal(body).startswith("the body is not JSON: ")


def test_what_can_be_read_and_not_written_again_is_refused() -> None:
    data = "[" * 400 + "]" * 400
    assert refusal(b'{"a": "\\u0041", "data": %b}' % data.encode()).startswith("the body cannot be passed on: ")


def test_a_shape_is_one_in_an_inference_request_alone() -> None:
    """In the generate extension it is an input that a model may have."""
    body = b'{"shape": [1024, 1024]}'
    assert refusal(body).startswith("the shape [1024, 1024] is one of more elements than ")
    assert oip.checked_json(body) == body


@pytest.mark.parametrize("body", NAMING.values(), ids=NAMING.keys())
def test_nor_can_it_be_named_in_other_requests(body: str) -> None:
    with pytest.raises(BadRequest, match=r"^shared memory cannot be used"):
        oip.checked_json(body.encode())


def test_binary_data_is_not_looked_into() -> None:
    body = b'{"inputs": []}' + b'{"parameters": {"shared_memory_region": "r"}}'
    assert oip.checked(body, 14) == Infer(body, 14)


# What ends Triton


@pytest.mark.parametrize("key", ['"shape": ', '"shape"\n:', '"\\u0073hape": '])
@pytest.mark.parametrize(
    "shape", ["[100]", "[4000000000, 4000000000]", "[ 1 ,\t1000 ]", "[2, 2, 2, 2, 2, 2, 2]", "[1, 1, 101]"]
)
def test_a_shape_of_more_elements_than_bytes_is_refused(key: str, shape: str) -> None:
    body = f'{{"inputs": [{{{key}{shape}}}]}}'.encode()
    for sentence in (refusal(body), refusal(body, len(body))):
        assert re.fullmatch(r"a shape has more elements than the body has bytes, which are \d\d: \[.*\]", sentence)


@pytest.mark.parametrize(
    "tensor",
    [
        '"shape": [4, 4]',
        '"shape": [0, 4000000000]',
        '"shape": [4000000000, 0]',
        '"shape": [-1]',
        '"shape": [1e30]',
        '"shape": "[4000000000]"',
        '"shape": [[4000000000]]',
        '"shape": []',
        '"data": ["\\"shape\\": [4000000000]"]',
    ],
)
def test_shapes_that_fit_or_are_none_are_tritons_to_read(tensor: str) -> None:
    body = f'{{"inputs": [{{{tensor}}}]}}'.encode()
    assert oip.checked(body) == Infer(body)


def test_the_bytes_of_binary_tensors_count() -> None:
    header = b'{"inputs": [{"shape": [90], "datatype": "BOOL", "parameters": {"binary_data_size": 90}}]}'
    body = header + bytes(90)
    assert oip.checked(body, len(header)) == Infer(body, len(header))
    assert "more elements" in refusal(header, len(header))


def test_of_a_shape_with_very_many_sizes_the_first_few_tell() -> None:
    """To multiply all of them would take hours."""
    assert "more elements" in refusal(b'{"inputs": [{"shape": [%b]}]}' % b",".join([b"9"] * 1_000_000))


@pytest.mark.parametrize(
    ("tensors", "empty"),
    [
        ('{"shape": [0]}', True),
        ('{"shape": [1]}, {"shape": [ 0, 0 ]}', True),
        ('{"shape": [1, 0]}', False),
        ('{"shape": [10]}', False),
        ('{"shape": []}', False),
        ('{"data": [0]}', False),
    ],
)
def test_a_batch_without_rows_is_seen(tensors: str, empty: bool) -> None:
    body = f'{{"inputs": [{tensors}]}}'.encode()
    assert oip.has_no_rows(oip.checked(body)) is empty
    assert oip.has_no_rows(oip.checked(body + b'{"shape": [0]}', len(body))) is empty


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ('{"outputs": [{"name": "Y", "parameters": {"classification": 2}}, {"name": "Z", "parameters": {}}]}', ["Y"]),
        ('{"outputs": [{"name": "Y", "parameters": {"cl\\u0061ssification": 2}}]}', ["Y"]),
        ('{"outputs": [{"name": "Y", "parameters": {"classification": 1}}], "outputs": []}', []),
        ('{"outputs": [], "outputs": [{"name": "Y", "parameters": {"classification": 1}}]}', ["Y"]),
        ('{"outputs": [{"name": "Y"}], "id": "classification"}', []),
        ('{"parameters": {"classification": 2}}', []),
        ('{"outputs": [{"name": 1, "parameters": {"classification": 2}}]}', ["1"]),
        ('{"outputs": [{"parameters": {"classification": 2}}]}', []),
        ('{"outputs": ["classification"]}', []),
        ('["classification"]', []),
    ],
)
def test_outputs_of_which_classes_are_wanted(body: str, names: list[str]) -> None:
    """As Triton reads it, for which of two members of one name the first counts: only one is passed on."""
    passed = oip.checked(body.encode())
    assert oip.classified(passed) == names
    assert len(re.findall(rb'"outputs"', passed.body)) <= 1


WORDS = ("parameters", "inputs", "outputs", "name", "data", "shared_memory_region", "shared_memory_offset", "x")


def spelled(word: str, escapes: list[bool]) -> str:
    """A JSON string with some letters escaped."""
    return '"' + "".join(f"\\u{ord(c):04X}" if e else c for c, e in zip(word, escapes, strict=False)) + '"'


STRINGS = st.builds(spelled, st.sampled_from(WORDS), st.lists(st.booleans(), min_size=20, max_size=20))
DOCUMENTS = st.recursive(
    STRINGS | st.sampled_from(["1", "null", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(STRINGS, inner), max_size=4).map(  # a key may be there twice
            lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        )
    ),
    max_leaves=12,
)


class Pairs(list[tuple[str, Any]]):
    """An object with every pair that it says."""


def all_of(value: Any, key: str) -> Iterator[Any]:
    """What any parser may take for a member."""
    if isinstance(value, Pairs):
        yield from (item for name, item in value if name == key)


def named(document: Any) -> Iterator[str]:
    """The parameters of the request and its tensors, whichever parser reads it."""
    lists = [found for key in ("inputs", "outputs") for found in all_of(document, key)]
    tensors = [item for found in lists if isinstance(found, list) for item in found]
    for holder in (document, *tensors):
        for parameters in all_of(holder, "parameters"):
            if isinstance(parameters, Pairs):
                yield from (name for name, _ in parameters)


@given(DOCUMENTS, st.sampled_from([None, b"", b'{"parameters": {"shared_memory_region": "r"}}']))
def test_whatever_is_passed_on_names_no_shared_memory_to_any_parser(document: str, data: bytes | None) -> None:
    body = document.encode()
    try:
        passed = oip.checked(body) if data is None else oip.checked(body + data, len(body))
    except BadRequest as error:
        assert error.message == SHARED
        return
    header = passed.body[: passed.header_length]
    assert not [name for name in named(json.loads(header, object_pairs_hook=Pairs)) if name.startswith("shared_memory")]
    if data is not None:
        assert passed.body[len(header) :] == data


@given(DOCUMENTS)
def test_whoever_names_none_is_passed_on_and_means_the_same(document: str) -> None:
    if list(named(json.loads(document, object_pairs_hook=Pairs))):
        return
    assert json.loads(oip.checked(document.encode()).body) == json.loads(document)
