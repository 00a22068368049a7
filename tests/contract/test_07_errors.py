"""Contract, item 7: one shape for every error, Triton's become ours, time is limited, who leaves stops the work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract import models
from tests.contract.container import Container, Processes, running
from tests.contract.target import Answer, Target, read, refused
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

_JSON = {"Content-Type": "application/json"}


def failing(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": "X", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}


# Triton's errors

#: What the model says, and the statuses: of a prediction, and of Triton's own protocol.
TRITON: dict[str, tuple[int, int]] = {
    "INVALID_ARG too many legs": (400, 400),
    "ALREADY_EXISTS too many legs": (400, 400),
    "NOT_FOUND too many legs": (400, 404),
    "UNSUPPORTED too many legs": (502, 501),
    "INTERNAL too many legs": (502, 500),
    "UNAVAILABLE too many legs": (503, 503),
    "raise too many legs": (502, 500),
    "INVALID_ARG a line\nand another": (400, 400),
    "INTERNAL a line\nand another": (502, 500),
    "INVALID_ARG " + "long " * 2000: (400, 400),
    "INVALID_ARG \x1b[31mred \u2713": (400, 400),
}


@pytest.mark.parametrize(("text", "statuses"), TRITON.items(), ids=[text[:20] for text in TRITON])
def test_an_error_of_triton(target: Target, text: str, statuses: tuple[int, int]) -> None:
    prediction, protocol = statuses
    answer = target.predict({"instances": [[text]], "parameters": {"model": "failing"}})
    refused(answer, prediction)
    assert ("Retry-After" in dict(answer.headers)) is (prediction == 503)
    refused(target.post("/v1/models/failing:predict", {"inputs": [[text]]}), prediction)
    refused(target.post("/v2/models/failing/infer", failing(text)), protocol)
    refused(target.predict({**failing(text), "parameters": {"model": "failing"}}), protocol)
    # and the model goes on
    assert target.predictions([["well"]], "failing") == [["well"]]


def test_what_a_model_says_of_a_mistake_reaches_the_caller(target: Target) -> None:
    body = {"instances": [["INVALID_ARG too many legs"]], "parameters": {"model": "failing"}}
    assert "too many legs" in refused(target.predict(body), 400)
    assert refused(target.post("/v2/models/failing/infer", failing("NOT_FOUND no such leg")), 404) == "no such leg"


def test_a_failure_of_the_model_itself_stays_its_own(target: Target) -> None:
    """A trace names paths and code; it belongs in the log."""
    for answer in (
        target.predict({"instances": [["raise at once"]], "parameters": {"model": "failing"}}),
        target.post("/v2/models/failing/infer", failing("raise at once")),
    ):
        assert "/1/model.py" not in refused(answer, 500, 502)


# Every error path that can be reached from outside


def plain(method: str, path: str, body: bytes | None = None, **headers: str) -> Callable[[Target], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda target: target.request(method, path.format(predict=target.predict_route), body, named)


def raw(text: bytes, method: str = "POST") -> Callable[[Target], Answer]:
    return lambda target: target.raw(text.replace(b"{predict}", target.predict_route.encode()), method, 20)


_GOOD = b'{"instances": [[1.0]]}'
_OIP = json.dumps(failing("well")).encode()
_POST = b"POST {predict} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

#: What is sent, and the statuses that it may have.
PATHS: dict[str, tuple[Callable[[Target], Answer], tuple[int, ...]]] = {
    "unknown path": (plain("GET", "/nothing"), (404,)),
    "unknown path with a line break": (plain("GET", "/no%0Athing%00"), (404,)),
    "unknown path that is no UTF-8": (plain("GET", "/%ff%fe"), (404,)),
    "unknown path of bytes": (
        raw(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET"),
        (400, 404),
    ),
    "wrong method": (plain("DELETE", "{predict}"), (405,)),
    "unknown method": (plain("FETCH", "{predict}"), (400, 405, 501)),
    "method that is none": (raw(b"G\xffT {predict} HTTP/1.1\r\nHost: x\r\n\r\n"), (400,)),
    "empty body": (plain("POST", "{predict}", b""), (400,)),
    "no body": (raw(_POST + b"\r\n"), (400,)),
    "no JSON": (plain("POST", "{predict}", b"{", **_JSON), (400,)),
    "no instances": (plain("POST", "{predict}", b"{}", **_JSON), (400,)),
    "bad instance": (plain("POST", "{predict}", b'{"instances": ["a"]}', **_JSON), (400,)),
    "unknown model": (plain("POST", "{predict}", b'{"instances": [1], "parameters": {"model": "no"}}'), (400,)),
    "media type": (plain("POST", "{predict}", _GOOD, Content_Type="text/html"), (400,)),
    "media type that is none": (plain("POST", "{predict}", _GOOD, Content_Type="\x01;;,"), (400,)),
    "unknown encoding": (plain("POST", "{predict}", _GOOD, Content_Encoding="rot13"), (400, 415)),
    "damaged encoding": (plain("POST", "{predict}", _GOOD, Content_Encoding="gzip"), (400,)),
    "unknown expectation": (plain("POST", "{predict}", _GOOD, Expect="the unexpected"), (400, 417)),
    "too large": (plain("POST", "{predict}", b" " * (13 << 20)), (413,)),
    "said to be too large": (raw(_POST + b"Content-Length: 99999999999\r\n\r\n"), (413,)),
    "length that is none": (raw(_POST + b"Content-Length: ten\r\n\r\n"), (400,)),
    "negative length": (raw(_POST + b"Content-Length: -1\r\n\r\n"), (400,)),
    "two lengths": (raw(_POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), (400,)),
    "length and chunks": (raw(_POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), (400,)),
    "chunks that are none": (raw(_POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), (400,)),
    "unknown transfer": (raw(_POST + b"Transfer-Encoding: gzip\r\n\r\n"), (400, 501)),
    "header without a colon": (raw(_POST + b"nothing\r\n\r\n"), (400,)),
    "header with a bare CR": (raw(_POST + b"A: b\rC: d\r\n\r\n"), (400,)),
    "header with a NUL": (raw(_POST + b"A: \x00\r\n\r\n"), (400,)),
    "huge header": (raw(_POST + b"A: " + b"a" * (1 << 20) + b"\r\n\r\n"), (400, 431)),
    "huge path": (raw(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n", "GET"), (400, 404, 414)),
    "no HTTP": (raw(b"hello\r\n\r\n"), (400,)),
    "noise": (raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), (400,)),
    "HTTP/2": (raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (400, 505)),
    "HTTP/9": (raw(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "GET"), (400, 505)),
    "V1: unknown model": (plain("GET", "/v1/models/nothing"), (404,)),
    "V1: unknown model to predict": (plain("POST", "/v1/models/nothing:predict", _GOOD), (404,)),
    "V1: unknown verb": (plain("POST", "/v1/models/matrix:explain", _GOOD), (404, 405)),
    "V1: bad instance": (plain("POST", "/v1/models/matrix:predict", _GOOD), (400,)),
    "V2: unknown path": (plain("GET", "/v2/nothing"), (404,)),
    "V2: unknown model": (plain("GET", "/v2/models/nothing"), (404,)),
    "V2: unknown version": (plain("GET", "/v2/models/matrix/versions/7/config"), (404,)),
    "V2: unknown model to ask for readiness": (plain("GET", "/v2/models/nothing/ready"), (400, 404)),
    "V2: statistics of an unknown model": (plain("GET", "/v2/models/nothing/stats"), (400,)),
    "V2: infer on an unknown model": (plain("POST", "/v2/models/nothing/infer", _OIP), (404,)),
    "V2: infer, empty": (plain("POST", "/v2/models/matrix/infer", b""), (400,)),
    "V2: infer, no JSON": (plain("POST", "/v2/models/matrix/infer", b"{"), (400,)),
    "V2: infer, no inputs": (plain("POST", "/v2/models/matrix/infer", b"{}"), (400,)),
    "V2: infer, wrong input": (plain("POST", "/v2/models/matrix/infer", _OIP), (400,)),
    "V2: infer, a list": (plain("POST", "/v2/models/matrix/infer", b"[]"), (400,)),
    "V2: infer, header length": (
        plain("POST", "/v2/models/matrix/infer", _OIP, Inference_Header_Content_Length="-5"),
        (400,),
    ),
    "V2: infer on a decoupled model": (
        plain("POST", "/v2/models/talking/infer", _OIP.replace(b'"X"', b'"text_input"')),
        (400, 501),
    ),
    "V2: generate, no JSON": (plain("POST", "/v2/models/greeting/generate", b"{"), (400,)),
    "V2: generate, no input": (plain("POST", "/v2/models/greeting/generate", b"{}"), (400,)),
    "V2: generate, unknown model": (plain("POST", "/v2/models/nothing/generate", b"{}"), (404,)),
    "V2: generate_stream, no JSON": (plain("POST", "/v2/models/greeting/generate_stream", b"{"), (400,)),
    "V2: generate_stream, unknown model": (plain("POST", "/v2/models/nothing/generate_stream", b"{}"), (404,)),
    "V2: index, no JSON": (plain("POST", "/v2/repository/index", b"{"), (400,)),
    "V2: load": (plain("POST", "/v2/repository/models/matrix/load"), (403, 404)),
    "redirect, forbidden": (
        plain("POST", "{predict}", b"", X_Vertex_Ai_Triton_Redirect="v2/repository/models/matrix/load"),
        (403,),
    ),
    "redirect, nowhere": (plain("POST", "{predict}", b"", X_Vertex_Ai_Triton_Redirect="v2/nothing"), (400,)),
    "redirect, wrong method": (plain("PUT", "{predict}", b"", X_Vertex_Ai_Triton_Redirect="v2"), (405,)),
    "redirect, unknown model": (
        plain("POST", "{predict}", b"", X_Vertex_Ai_Triton_Redirect="v2/models/nothing"),
        (404,),
    ),
    "MIME, no number": (
        plain(
            "POST",
            "{predict}",
            _OIP,
            Content_Type="application/vnd.vertex-ai-triton.binary+json;json-header-size=x",
        ),
        (400,),
    ),
    "npy that is none": (plain("POST", "{predict}", b"\x93NUMPY", Content_Type="application/x-npy"), (400,)),
}


@pytest.mark.parametrize(("send", "statuses"), PATHS.values(), ids=PATHS.keys())
def test_every_error_has_the_one_shape(
    target: Target, send: Callable[[Target], Answer], statuses: tuple[int, ...]
) -> None:
    refused(send(target), *statuses)
    assert target.health() == 200


def test_an_error_to_head_has_no_body(target: Target) -> None:
    answer = target.request("HEAD", "/nothing")
    assert (answer.status, answer.body) == (404, b"")


def test_a_body_that_ends_early_is_400_or_no_answer(target: Target) -> None:
    """Who has closed its half of the connection may still read."""
    with target.connect() as connection:
        head = f"POST {target.predict_route} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"instances"')
        connection.shutdown(1)
        try:
            refused(read(connection), 400)
        except (ConnectionError, OSError) as error:
            assert not isinstance(error, TimeoutError)
    assert target.health() == 200


# Overload, time, and callers who leave


@pytest.fixture(scope="module")
def narrow(here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container with 1.5 s for a request, and room for two."""
    folder = tmp_path_factory.mktemp("narrow")
    repository = models.write(folder / "models", ["slow"])
    with running(
        folder / "run",
        "--repository",
        str(repository),
        LISTENER_TIMEOUT="1.5",
        LISTENER_MAX_REQUESTS="2",
        LISTENER_DEFAULT_MODEL="slow",
    ) as container:
        container.ready()
        yield container


def oip(seconds: float) -> dict[str, Any]:
    return {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [seconds]}]}


@pytest.mark.parametrize("way", ["instances", "columns", "OIP on the predict route", "V1", "V2"])
def test_a_request_whose_time_is_up_is_504_and_triton_is_left_alone(narrow: Container, way: str) -> None:
    target = narrow.target()
    sends: dict[str, Callable[[], Answer]] = {
        "instances": lambda: target.predict({"instances": [[3.0]]}),
        "columns": lambda: target.predict({"inputs": [[3.0]]}),
        "OIP on the predict route": lambda: target.predict(oip(3.0)),
        "V1": lambda: target.post("/v1/models/slow:predict", {"instances": [[3.0]]}),
        "V2": lambda: target.post("/v2/models/slow/infer", oip(3.0)),
    }
    wait_for(lambda: narrow.given_up() == 0, 20)
    begin = time.monotonic()
    refused(sends[way](), 504)
    assert 1.4 < time.monotonic() - begin < 5
    check_given_up(narrow)


def check_given_up(container: Processes) -> None:
    """The call is closed: Triton's connection shows it, or, of a newer Triton, the model was told, and counts it."""
    begin = time.monotonic()
    while container.given_up() == 0 and time.monotonic() - begin < 1.2:
        time.sleep(0.02)
    if container.given_up() == 0:
        wait_for(lambda: container.target().predictions([[-1.0]], "slow") > [[0.0]], 2)


def test_one_request_more_than_there_is_room_is_429(narrow: Container) -> None:
    target = narrow.target()
    wait_for(lambda: target.predict({"instances": [[0.0]]}).status == 200, 20)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: target.predict({"instances": [[0.4]]}), range(6)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    for answer in answers:
        if answer.status != 200:
            refused(answer, 429, 504)
        assert (answer.header("Retry-After") is not None) is (answer.status == 429)


@pytest.mark.parametrize("way", ["instances", "OIP on the predict route", "V1", "V2"])
def test_the_call_for_a_caller_who_leaves_is_closed(container: Processes, way: str) -> None:
    """Streams, where the model itself gets to know of it: item 9."""
    target = container.target()
    path, document = {
        "instances": (target.predict_route, {"instances": [[4.0]], "parameters": {"model": "slow"}}),
        "OIP on the predict route": (target.predict_route, {**oip(4.0), "parameters": {"model": "slow"}}),
        "V1": ("/v1/models/slow:predict", {"instances": [[4.0]]}),
        "V2": ("/v2/models/slow/infer", oip(4.0)),
    }[way]
    wait_for(lambda: container.given_up() == 0, 20)
    leave(target, path, document)
    check_given_up(container)
    assert target.health() == 200


def leave(target: Target, path: str, document: dict[str, Any]) -> None:
    """Sends a request and goes away once it is with the model."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with target.connect() as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.7)


def test_a_caller_who_leaves_is_no_error_in_the_log(narrow: Container) -> None:
    target = narrow.target()
    leave(target, target.predict_route, {"instances": [[1.2]]})
    wait_for(lambda: target.predict({"instances": [[0.0]]}).status == 200, 10)
    assert '"severity":"ERROR"' not in narrow.output()


def test_before_triton_is_there_predictions_are_503(here: None, tmp_path: Path) -> None:
    repository = models.write(tmp_path / "models", [models.DEFAULT])
    with running(tmp_path / "run", "--repository", str(repository)) as container:
        target = container.target()
        wait_for(lambda: target.health() != 0, 20, container.output)
        answer = target.predict({"instances": [[1.0]]})
        refused(answer, 503)
        assert answer.header("Retry-After") is not None
        container.ready()
