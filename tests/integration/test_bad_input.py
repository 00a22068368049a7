"""What a caller can do wrong, against the real stack: the right 4xx, one sentence, and the next request is served."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.stack import ROOT, Stack, running

pytestmark = pytest.mark.triton

SEVEN = (ROOT / "examples/digit-7.jpg").read_bytes()
GOOD = {"b64": base64.b64encode(SEVEN).decode()}


def bomb(side: int = 50_000) -> bytes:
    """A PNG of side x side grey pixels in a few megabytes at most: here only its header and the beginning."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * 64, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def instances(*values: Any) -> bytes:
    return json.dumps({"instances": values}).encode()


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the body is empty"),
    "blank": (b" \n", "the body is empty"),
    "not JSON": (b"hello", "the body is not JSON"),
    "truncated JSON": (b'{"instances": [', "the body is not JSON"),
    "not UTF-8": (b'{"instances": ["\xff"]}', "the body is not JSON"),
    "a list": (b"[1]", "the body is a list, not an object"),
    "null": (b"null", "the body is null, not an object"),
    "no instances": (b'{"instance": []}', "the body has no 'instances'"),
    "instances null": (b'{"instances": null}', "'instances' is null, not a list"),
    "instances an object": (b'{"instances": {"b64": ""}}', "'instances' is an object, not a list"),
    "no instance": (b'{"instances": []}', "'instances' is empty"),
    "parameters a list": (b'{"instances": [1], "parameters": [1]}', "'parameters' is a list, not an object"),
    "unknown model": (
        b'{"instances": [1], "parameters": {"model": "cats"}}',
        "parameters.model: no route or model 'cats'; there are 'digits'",
    ),
    "no picture": (instances(GOOD, picture(b"not a picture")), "instances[1]: "),
    "truncated picture": (instances(picture(SEVEN[:200])), "instances[0]: "),
    "empty picture": (instances(GOOD, GOOD, picture(b"")), "instances[2]: "),
    "truncated base64": (instances(GOOD, {"b64": GOOD["b64"][:-1]}), "instances[1]: 'b64' is not valid base64"),
    "base64 of another alphabet": (instances({"b64": "_-_-"}), "instances[0]: 'b64' is not valid base64"),
    "b64 a number": (instances({"b64": 5}), "instances[0]: 'b64' is a number, not a string"),
    "b64 inside": (instances({"image": {"b64": "?"}}), "instances[0]: image: 'b64' is not valid base64"),
    "decompression bomb": (instances(GOOD, picture(bomb())), "instances[1]: "),
    "unknown input": (instances(GOOD, {"image": [1]}), "instances[1]: unknown input 'image'"),
    "63 numbers": (instances([1] * 63), "instances[0]: "),
    "numbers out of range": (instances([1e300] * 64), "instances[0]: "),
    "null instance": (instances(None), "instances[0]: "),
    "deep nesting": (b'{"instances": [' + b"[" * 2000 + b"]" * 2000 + b"]}", "the body is not JSON"),
    "deep nesting with b64": (
        b'{"instances": [' + b"[" * 150 + b'{"b64": ""}' + b"]" * 150 + b"]}",
        "instances[0]: nested deeper than 100 levels",
    ),
}


@pytest.mark.parametrize(("body", "sentence"), BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_400_and_one_sentence(sample: Stack, body: bytes, sentence: str) -> None:
    answer = requests.post(f"{sample.url}/predict", data=body, headers={"Content-Type": "application/json"}, timeout=10)
    check_refusal(answer, 400)
    assert answer.json()["error"].startswith(sentence)
    check_alive(sample)


def check_refusal(answer: requests.Response, status: int) -> None:
    """The one error body: a single sentence without a trace."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["error"]
    sentence = answer.json()["error"]
    assert isinstance(sentence, str)
    assert 0 < len(sentence) <= 520
    assert "\n" not in sentence
    assert "Traceback" not in sentence


def check_alive(stack: Stack) -> None:
    assert stack.predict([GOOD]).json()["predictions"][0]["digit"] == 7


@pytest.mark.parametrize("content_type", ["image/png", "text/plain", "multipart/form-data", "?"])
def test_a_body_of_another_media_type_is_the_handlers(sample: Stack, content_type: str) -> None:
    answer = requests.post(
        f"{sample.url}/predict", data=instances(GOOD), headers={"Content-Type": content_type}, timeout=10
    )
    check_refusal(answer, 400)
    assert answer.json()["error"] == "instances[0]: the bytes are not a PNG or JPEG picture"


def test_what_is_no_npy_file_is_400(sample: Stack) -> None:
    headers = {"Content-Type": "application/x-npy"}
    answer = requests.post(f"{sample.url}/predict", data=instances(GOOD), headers=headers, timeout=10)
    check_refusal(answer, 400)
    assert answer.json()["error"].startswith("the body is no npy file: ")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_is_read_whatever_its_media_type_says_of_it(sample: Stack, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = requests.post(f"{sample.url}/predict", data=instances(GOOD), headers=headers, timeout=10)
    assert answer.json()["predictions"][0]["digit"] == 7


def test_a_body_of_13_mib_is_413_and_names_the_limit(sample: Stack) -> None:
    body = b'{"instances": ["' + b"A" * (13 << 20) + b'"]}'
    answer = requests.post(f"{sample.url}/predict", data=body, timeout=30)
    check_refusal(answer, 413)
    assert answer.json()["error"] == "the body is larger than 12582912 bytes (LISTENER_MAX_BODY)"
    check_alive(sample)


def test_a_body_of_11_mib_is_read(sample: Stack) -> None:
    body = b'{"instances": ["' + b"A" * (11 << 20) + b'"]}'
    check_refusal(requests.post(f"{sample.url}/predict", data=body, timeout=30), 400)


def test_a_decompression_bomb_costs_nothing(sample: Stack) -> None:
    """Refused from its header: no 2.5 GB of pixels, and not the time they would take."""
    begin = time.monotonic()
    check_refusal(sample.predict([picture(bomb())] * 8), 400)
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/nothing", 404),
        ("POST", "/predict/", 404),
        ("POST", "/v2/repository/models/digits/unload", 404),
    ],
)
def test_other_paths_and_methods(sample: Stack, method: str, path: str, status: int) -> None:
    answer = requests.request(method, f"{sample.url}{path}", data=b"{}", timeout=10)
    check_refusal(answer, status)
    if status == 405:
        assert answer.headers["Allow"]


def test_bad_and_good_requests_at_once(sample: Stack) -> None:
    """Forty requests side by side: each gets the answer to its own body."""

    def ask(n: int) -> bool:
        if n % 2:
            return bool(sample.predict([GOOD]).json()["predictions"][0]["digit"] == 7)
        return sample.predict([GOOD, picture(b"x")]).status_code == 400

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def test_thousands_of_instances_in_one_request(sample: Stack) -> None:
    """Many times max_batch_size, beside a health check that must not wait for it."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        big = pool.submit(sample.predict, [[n % 15, 16] * 32 for n in range(5000)])
        slowest = 0.0
        while not big.done():
            begin = time.monotonic()
            assert sample.health()[0] == 200
            slowest = max(slowest, time.monotonic() - begin)
        assert len(big.result().json()["predictions"]) == 5000
    assert slowest < 2


def test_a_client_that_leaves_half_way_does_no_harm(sample: Stack) -> None:
    for fraction in (
        b"POST /pre",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"\x00\xff" * 50,
    ):
        with socket.create_connection(("127.0.0.1", sample.port)) as connection:
            connection.sendall(fraction)
    check_alive(sample)


BROKEN = """\
from listener import Handler


class Broken(Handler):
    model = "same"

    def preprocess(self, instance):
        if instance == "exit":
            raise SystemExit(78)
        if instance == "nothing":
            return None
        return {"X": [1 / instance]}

    def postprocess(self, outputs):
        return float(outputs["X"][0])
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service whose handler fails on 0 and on text, and does not care about shapes."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "handlers").mkdir()
    (folder / "handlers/broken.py").write_text(BROKEN)
    (folder / "triton_repo").mkdir()
    (folder / "listener.yaml").write_text("routes:\n  broken:\n    handler: handlers.broken:Broken\n")
    write_identity(folder / "triton_repo/same")
    with running(folder / "log", service=folder) as stack:
        stack.until(200)
        yield stack


def write_identity(folder: Path) -> None:
    """A Python-backend model that gives back what it gets."""
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.py").write_text(
        "import triton_python_backend_utils as utils\n\n\nclass TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        return [utils.InferenceResponse([utils.get_input_tensor_by_name(r, 'X')]) for r in requests]\n"
    )
    (folder / "config.pbtxt").write_text(
        'backend: "python"\nmax_batch_size: 8\n'
        'input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
        'output [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
    )


def test_a_failing_handler_is_500_with_a_fixed_sentence_and_the_trace_in_the_log(broken: Stack) -> None:
    answer = broken.predict([1, 0])
    check_refusal(answer, 500)
    assert answer.json() == {"error": "the handler of 'broken' failed in preprocess; the log has the reason"}
    assert "ZeroDivisionError" in broken.output()
    assert "instances[1]" in broken.output()
    assert broken.predict([2.0]).json() == {"predictions": [0.5]}


@pytest.mark.parametrize(
    ("instance", "trace"),
    [
        ("exit", "SystemExit: 78"),
        ("nothing", "preprocess returned NoneType for instances[0]; it has to be arrays by name"),
    ],
)
def test_a_hook_can_neither_end_the_worker_nor_confuse_it(broken: Stack, instance: str, trace: str) -> None:
    answer = broken.predict([instance])
    check_refusal(answer, 500)
    assert answer.json() == {"error": "the handler of 'broken' failed in preprocess; the log has the reason"}
    assert trace in broken.output()
    assert answer.headers["X-Request-Id"] in broken.output()
    assert broken.predict([4.0]).json() == {"predictions": [0.25]}
