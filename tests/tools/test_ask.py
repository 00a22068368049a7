"""What `listener predict` sends and shows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from listener.errors import ConfigError
from listener.tools import ask

PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.mark.parametrize(
    ("content", "instances"),
    [
        (PNG, [{"b64": base64.b64encode(PNG).decode()}]),
        (b"\xff\xd8\xff\xe0", [{"b64": base64.b64encode(b"\xff\xd8\xff\xe0").decode()}]),
        (b'{"instances": [1, 2]}', [1, 2]),
        (b"[1, 2]", [[1, 2]]),
        (b'{"x": 1}', [{"x": 1}]),
        (b'"text"', ["text"]),
        (b"null", [None]),
    ],
)
def test_what_is_sent(content: bytes, instances: list[Any]) -> None:
    assert json.loads(ask.request_body(content))["instances"] == instances


def test_a_whole_request_is_sent_as_it_is() -> None:
    body = b'{ "instances": [1],  "parameters": {"model": "x"} }'
    assert ask.request_body(body) == body


def test_neither_picture_nor_json() -> None:
    with pytest.raises(ConfigError, match="neither a picture nor JSON"):
        ask.request_body(b"\x00\x01")


@pytest.mark.parametrize(
    ("predictions", "shown"),
    [
        ([{"digit": 7, "score": 0.98765432}], "[0] digit: 7   score: 0.9877"),
        ([1, "a", None], "[0] 1\n[1] a\n[2] None"),
        ([[0.1, 2]], "[0] [0.1, 2]"),
        ([list(range(20))], "[0] [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"),
        ([], ""),
    ],
)
def test_what_people_see(predictions: list[Any], shown: str) -> None:
    assert ask.for_people(json.dumps({"predictions": predictions})) == shown


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        ask.read_source(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/predict"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/predict"),
        ("http://127.0.0.1:8080/predict", "http://127.0.0.1:8080/predict"),
        ("https://host/v1/models/m:predict", "https://host/v1/models/m:predict"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_a_listener_is_asked_at_its_predict_route(url: str, asked: str) -> None:
    assert ask.predict_url(url, "/predict") == asked


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8080/predict", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/predict/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/openapi.json", "http://127.0.0.1:8080/openapi.json"),
    ],
)
def test_the_listener_of_a_predict_url(url: str, base: str) -> None:
    assert ask.base_url(url, "/predict") == base
