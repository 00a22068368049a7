"""Bodies, places and answers of the load test, without Locust."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from handlers.digits import EXAMPLE
from loadtest import asking
from loadtest.asking import Mistake

ROOT = Path(__file__).parents[2]
VERTEX = "https://1.us-central1-2.prediction.vertexai.goog/v1/projects/p/locations/us-central1/endpoints/1:predict"

# Bodies


def written(folder: Path, text: str) -> Path:
    file = folder / "bodies.jsonl"
    file.write_text(text)
    return file


def test_a_line_is_a_body_with_its_instances(tmp_path: Path) -> None:
    lines = ['{"instances": ["ü"]}', "", '{"parameters": {}, "instances": [1, 2]}']
    assert asking.read(written(tmp_path, "\n".join(lines))) == [(lines[0].encode(), 1), (lines[2].encode(), 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"instances": [1]', "no JSON: Expecting ',' delimiter: line 1 column 18 (char 17)"),
        ("[" * 100_000, "no JSON: "),
        ("[1]", 'no request: {"instances": [...]}'),
        ('{"inputs": []}', "no request: "),
        ('{"instances": {"a": 1}}', "no request: "),
        ('{"instances": []}', "no request: "),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: str, reason: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'{{"instances": [1]}}\n\n{line}\n')
    with pytest.raises(Mistake) as caught:
        asking.read(file)
    assert str(caught.value).startswith(f"BODIES={file}: line 3: {reason}")


def test_a_file_without_bodies_and_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"^BODIES=.*bodies\.jsonl: holds no request"):
        asking.read(written(tmp_path, "\n \n"))
    with pytest.raises(Mistake, match=r"^BODIES=.*absent: cannot be read: No such file or directory$"):
        asking.read(tmp_path / "absent")


def test_the_samples_bodies_are_a_picture_and_a_list_of_the_sample() -> None:
    picture, numbers = asking.read(ROOT / "loadtest/digits.jsonl")
    first = base64.b64encode((ROOT / "examples/digit-0.png").read_bytes()).decode()
    assert json.loads(picture.content) == {"instances": [{"b64": first}]}
    assert json.loads(numbers.content) == {"instances": [EXAMPLE]}


# Places


@pytest.mark.parametrize(
    ("host", "route", "url"),
    [
        ("http://listener:8080", "/predict", "http://listener:8080/predict"),
        ("http://listener:8080/", "predict", "http://listener:8080/predict"),
        (VERTEX, "/predict", VERTEX),
        ("http://listener:8080", VERTEX, VERTEX),
    ],
)
def test_where_requests_go(host: str, route: str, url: str) -> None:
    assert asking.predict_url(host, route) == url


# Answers


@pytest.mark.parametrize(
    ("status", "content", "instances", "said"),
    [
        (200, b'{"predictions": [1, {"error": "of one instance"}], "model": "m"}', 2, ""),
        (200, b'{"predictions": [1]}', 2, "200: 1 predictions for 2 instances"),
        (200, b'{"predictions": {"0": 1}}', 1, '200: no list of predictions: {"predictions": {"0": 1}}'),
        (200, b"<p>\nhello</p>", 1, "200: no list of predictions: <p> hello</p>"),
        (200, b"[1]", 1, "200: no list of predictions: [1]"),
        (201, b'{"predictions": [1]}', 1, '201: {"predictions": [1]}'),
        (404, b'{"error": "no such path: /x"}', 1, "404: no such path: /x"),
        (401, b'{"error": {"code": 401, "message": "Request had\\ninvalid credentials."}}', 1,
         "401: Request had invalid credentials."),
        (500, b'{"error": [1]}', 1, '500: {"error": [1]}'),
        (503, b"", 1, "503: no body"),
        (502, b"\xff" * 200, 1, "502: " + "\ufffd" * 80),
        (400, b'{"error": "' + b"word " * 40 + b'"}', 1, "400: " + "word " * 15 + "..."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_answer(status: int, content: bytes, instances: int, said: str) -> None:
    assert asking.mistake(status, content, instances) == said


def test_no_answer_is_named_by_why() -> None:
    assert asking.no_answer(ConnectionRefusedError(111, "Connection refused")) == (
        "no answer: ConnectionRefusedError: [Errno 111] Connection refused"
    )
