"""What Triton's refusals say, and whose fault it is."""

from __future__ import annotations

import json

import pytest

from listener.triton import refusals


def said(text: object) -> bytes:
    return json.dumps({"error": text}).encode()


def test_a_refusal_is_its_status_and_its_first_line() -> None:
    trace = "Failed to process the request(s), message: ValueError: no\n\nAt:\n  /models/m/1/model.py(12): execute\n"
    assert refusals.read(500, said(trace)) == (500, "Failed to process the request(s), message: ValueError: no")
    assert refusals.read(404, said("  unknown   model\r\n")) == (404, "unknown model")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"{}", said(""), said("\n\n")])
def test_where_triton_says_nothing_the_status_has_to_do(body: bytes) -> None:
    assert refusals.read(503, body) == (503, "Triton answered with status 503")


@pytest.mark.parametrize(
    "text",
    [
        "failed to parse the request JSON buffer: Missing a closing quotation mark in string. at 9",
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
        "failed to get request params.: attempt to get members for non-object",
        "attempt to get members for non-object",
        "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object",
        "parameter key 'mod' was not found in the JSON",
        "Converting keyword: 'parameters': parameter key 'mod' was not found in the JSON",
    ],
)
def test_what_triton_could_not_read_is_the_callers_fault(text: str) -> None:
    assert refusals.read(500, said(text)) == (400, text)
    assert refusals.read(503, said(text)) == (503, text)


@pytest.mark.parametrize("text", ["a model failed to parse something", "Failed to process the request(s)", "no memory"])
def test_its_own_failures_stay_its_own(text: str) -> None:
    assert refusals.read(500, said(text)) == (500, text)
