"""What never passes: Triton's control of models, shared memory, traces and logs, whatever path, head or body are like.

After each attempt Triton itself is asked, on its own port, whether anything has changed. It is one that would obey.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import os
import socket
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.contract import models
from tests.contract.container import Container, running
from tests.contract.target import Answer, Target, read, refused
from tests.integration.stack import SHM, wait_for

pytestmark = pytest.mark.triton

CONTENT = bytes(range(64)) * 4


@dataclass
class Guard:
    """A listener, and what must stay as it is.

    Attributes:
        container: None where the listener runs elsewhere; then only its own index of models is looked at.
        region: a file in shared memory that Triton knows as the region `probe`.
        triton: a connection to Triton itself.
    """

    target: Target
    container: Container | None = None
    region: Path | None = None
    triton: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Triton's own answer."""
        assert self.triton is not None
        self.triton.request(method, path, body)
        response = self.triton.getresponse()
        return response.status, response.read()

    def state(self) -> dict[str, Any]:
        """Everything that the control API can change."""
        if self.container is None or self.region is None:
            return {"index": self.target.post("/v2/repository/index").body}
        told = {path: self.ask("GET", path) for path in TOLD}
        loads = self.container.output().count("loading: ")  # a model that is loaded anew is in the index as before
        return {
            **told,
            "index": self.ask("POST", "/v2/repository/index"),
            "loads": loads,
            "region": self.region.read_bytes(),
        }


#: Where Triton tells of what its control API has done.
TOLD = (
    "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/status",
    "/v2/trace/setting",
    "/v2/models/matrix/trace/setting",
    "/v2/logging",
)


@pytest.fixture(scope="module")
def guard(elsewhere: Target | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    if elsewhere is not None:
        yield Guard(elsewhere)
        return
    folder = tmp_path_factory.mktemp("guarded")
    repository = models.write(folder / "models", [models.DEFAULT, "matrix", "greeting"])
    region = SHM / f"conformance-{os.getpid()}"
    region.write_bytes(CONTENT)
    try:
        with running(
            folder / "run",
            "--repository",
            str(repository),
            LISTENER_DEFAULT_MODEL=models.DEFAULT,
            LISTENER_TRITON_ARGS="--model-control-mode=explicit --load-model=*",
        ) as container:
            target, triton = container.ready(), container.triton()
            known = {"key": f"/{region.name}", "offset": 0, "byte_size": len(CONTENT)}
            assert triton.post("/v2/systemsharedmemory/region/probe/register", known).status == 200
            # the listener has regions of its own now, which must not go either
            assert target.predict({"instances": [[0.5] * 100_000]}).status == 200
            with contextlib.closing(http.client.HTTPConnection(triton.host, triton.port, timeout=20)) as connection:
                guard = Guard(target, container, region, connection)
                assert b'"probe"' in guard.state()["/v2/systemsharedmemory/status"][1]
                yield guard
    finally:
        region.unlink()


def test_triton_itself_would_obey(guard: Guard) -> None:
    """Else all that follows proves nothing."""
    if guard.container is None or guard.region is None:
        pytest.skip("needs control over the process, which --base-url does not give")
    before = guard.state()

    def obeys(path: str, body: bytes, undo: str, undoing: bytes) -> None:
        assert guard.ask("POST", path, body)[0] == 200
        assert guard.state() != before
        assert guard.ask("POST", undo, undoing)[0] == 200

    region = "/v2/systemsharedmemory/region/probe"
    known = json.dumps({"key": f"/{guard.region.name}", "offset": 0, "byte_size": len(CONTENT)}).encode()
    obeys(f"{region}/unregister", b"", f"{region}/register", known)
    obeys("/v2/logging", b'{"log_verbose_level": 1}', "/v2/logging", b'{"log_verbose_level": 0}')
    obeys("/v2/trace/setting", b'{"trace_rate": "999"}', "/v2/trace/setting", b'{"trace_rate": "1000"}')
    assert guard.state() == before
    obeys("/v2/repository/models/greeting/unload", b"", "/v2/repository/models/greeting/load", b"")
    assert guard.state()["loads"] == before["loads"] + 1
    wait_for(lambda: guard.target.health() == 200, 30)


#: Paths that change Triton, and the bodies with which they do.
CONTROL: dict[str, bytes] = {
    "/v2/repository/models/matrix/unload": b"",
    "/v2/repository/models/matrix/load": b'{"parameters": {"config": "{\\"backend\\": \\"python\\"}"}}',
    "/v2/systemsharedmemory/region/probe/unregister": b"",
    "/v2/systemsharedmemory/unregister": b"",
    "/v2/systemsharedmemory/region/more/register": b'{"key": "/conformance", "offset": 0, "byte_size": 16}',
    "/v2/cudasharedmemory/unregister": b"",
    "/v2/cudasharedmemory/region/more/register": b'{"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 1}',
    "/v2/trace/setting": b'{"trace_level": ["TIMESTAMPS"]}',
    "/v2/models/matrix/trace/setting": b'{"trace_level": ["TIMESTAMPS"]}',
    "/v2/logging": b'{"log_verbose_level": 1}',
}


def everywhere(old: str, new: str) -> Callable[[str], str]:
    return lambda path: path.replace(old, new)


def encoded(path: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in path)


#: Ways to write a path; `{predict}` is the predict route.
PATHS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "a slash behind": lambda path: f"{path}/",
    "two slashes before": lambda path: f"/{path}",
    "two slashes each": everywhere("/", "//"),
    "a dot between": everywhere("/", "/./"),
    "a dot behind v2": everywhere("/v2/", "/v2/./"),
    "up and down again": everywhere("/v2/", "/v2/health/../"),
    "up from a model": everywhere("/v2/", "/v2/models/matrix/../../"),
    "up from an inference": everywhere("/v2/", "/v2/models/matrix/infer/../../../"),
    "up from the predict route": lambda path: f"{{predict}}/..{path}",
    "up from V1": lambda path: f"/v1/..{path}",
    "up from the root": lambda path: f"/..{path}",
    "up, encoded": everywhere("/v2/", "/v2/health/%2e%2e/"),
    "up, encoded twice": everywhere("/v2/", "/v2/health/%252e%252e/"),
    "slashes encoded": lambda path: f"/{path[1:].replace('/', '%2f')}",
    "slashes in capitals": lambda path: f"/{path[1:].replace('/', '%2F')}",
    "slashes encoded twice": lambda path: f"/{path[1:].replace('/', '%252f')}",
    "the last slash encoded": lambda path: "%2f".join(path.rsplit("/", 1)),
    "slashes encoded too long": lambda path: f"/{path[1:].replace('/', '%c0%af')}",
    "wide slashes": lambda path: f"/{path[1:].replace('/', '%ef%bc%8f')}",
    "backslashes": lambda path: f"/{path[1:].replace('/', chr(92))}",
    "backslashes encoded": lambda path: f"/{path[1:].replace('/', '%5c')}",
    "all encoded": lambda path: f"/{encoded(path[1:])}",
    "the first letter encoded": lambda path: f"/{encoded(path[1])}{path[2:]}",
    "capitals": str.upper,
    "capital V": everywhere("/v2/", "/V2/"),
    "capital words": lambda path: path.replace("repository", "Repository").replace("shared", "Shared").title(),
    "a parameter": lambda path: f"{path};a=b",
    "a parameter within": everywhere("/v2/", "/v2;a=b/"),
    "an empty parameter": everywhere("/", ";/"),
    "a query": lambda path: f"{path}?a=b",
    "a query before": lambda path: f"/v2?{path}",
    "a fragment": lambda path: f"{path}#a",
    "a fragment before": lambda path: f"/v2/health/live#{path}",
    "absolute": lambda path: f"http://127.0.0.1{path}",
    "absolute, to another": lambda path: f"http://127.0.0.1:8000{path}",
    "absolute, with a user": lambda path: f"http://a:b@127.0.0.1{path}",
    "absolute, encrypted": lambda path: f"https://127.0.0.1{path}",
    "absolute, without a scheme": lambda path: f"//127.0.0.1{path}",
    "without a slash": lambda path: path[1:],
    "NUL": lambda path: f"{path}%00",
    "NUL within": everywhere("/v2/", "/v2%00/"),
    "a line break": lambda path: f"{path}%0d%0a",
    "a blank": lambda path: f"{path}%20",
    "a tab": lambda path: f"{path}%09",
    "a line break and a request": lambda path: f"/v2/health/live%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aPOST%20{path}",
    "as a model": lambda path: f"/v2/models/{quoted('x/../..' + path[3:])}",
    "as a model to infer": lambda path: f"/v2/models/{quoted('x/../..' + path[3:] + '?')}/infer",
    "as a model to infer, with a fragment": lambda path: f"/v2/models/{quoted('x/../..' + path[3:] + '#')}/infer",
    "as a model to generate": lambda path: f"/v2/models/{quoted('../..' + path + '?')}/generate",
    "as a model to stream": lambda path: f"/v2/models/{quoted('../..' + path + '?')}/generate_stream",
    "as a model of V1": lambda path: f"/v1/models/{quoted('../..' + path + '?')}:predict",
    "as a version": lambda path: f"/v2/models/matrix/versions/{quoted('../../../..' + path + '?')}/infer",
    "as a version of V1": lambda path: f"/v1/models/matrix/versions/{quoted('../../../..' + path + '?')}:predict",
    "as a model, dots alone": lambda path: f"/v2/models/..{path[3:]}",
    "as a model, dots encoded": lambda path: f"/v2/models/%2e%2e{path[3:]}",
    "as a model with a request in it": lambda path: (
        "/v2/models/"
        + quoted(f"matrix/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST {path} HTTP/1.1\r\nA: ")
        + "/infer"
    ),
    "as a version with a request in it": lambda path: (
        "/v2/models/matrix/versions/"
        + quoted(f"1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST {path} HTTP/1.1\r\nA: ")
        + "/infer"
    ),
}


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


class Received(io.BytesIO):
    """Bytes of which one answer after the other is read, none of which closes it."""

    def makefile(self, mode: str) -> Received:
        assert mode == "rb"
        return self

    def close(self) -> None:
        pass


def attempt(target: Target, sent: bytes) -> list[Answer]:
    """Sends bytes and gives the answers that came until the connection was closed, or nothing more came."""
    received = bytearray()
    with target.connect(20) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        while more := connection.recv(65536):
            received += more
            connection.settimeout(2)
    answers, rest = list[Answer](), Received(received)
    while rest.tell() < len(received):
        answers.append(read(cast(socket.socket, rest), sent.partition(b" ")[0].decode("latin-1")))
    return answers


def unimpressed(guard: Guard, before: dict[str, Any], sent: bytes, fine: int = 0) -> None:
    """Sends bytes that must be refused, and looks whether everything is as it was.

    Args:
        before: the state to compare with.
        sent: bytes of one request or more.
        fine: how many answers, the first ones, may be no refusals.
    """
    for answer in attempt(guard.target, sent)[fine:]:
        assert answer.status in (400, 403, 404, 405, 413, 415, 417), (sent, answer)
    assert guard.state() == before, sent


def post(path: str, body: bytes, *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("write", PATHS.values(), ids=PATHS.keys())
def test_no_path_leads_to_it(guard: Guard, write: Callable[[str], str], method: str) -> None:
    before = guard.state()
    for path, body in CONTROL.items():
        written = write(path).replace("{predict}", guard.target.predict_route)
        if method == "GET" and written.startswith(("/v2?", "/v2/health/live#")):
            continue  # the question for the metadata, or for liveness
        unimpressed(guard, before, post(written, body).replace(b"POST ", f"{method} ".encode(), 1))
    assert guard.target.health() == 200


# Through the model's name in a body


@pytest.mark.parametrize("key", ["model", "version"])
@pytest.mark.parametrize("path", CONTROL)
def test_no_name_of_a_model_leads_to_it(guard: Guard, path: str, key: str) -> None:
    before = guard.state()
    names = [
        f"matrix/../..{path[3:]}?",
        f"../..{path}?",
        f"../..{path}#",
        f"%2e%2e%2f%2e%2e{path.replace('/', '%2f')}%3f",
        f"1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST {path} HTTP/1.1\r\nA: ",
        f"1\r\nA: {path}",
        f"1\u0000{path}",
    ]
    tensor = {"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    for name in names:
        parameters = {"model": "matrix", key: name}
        for document in ({"instances": [[1]]}, {"inputs": [[1]]}, {"inputs": [tensor]}, {"text_input": "a"}):
            for accept in ("application/json", "text/event-stream"):
                body = json.dumps({**document, "parameters": parameters}).encode()
                unimpressed(guard, before, post(guard.target.predict_route, body, f"Accept: {accept}"))


# Through the head


@pytest.mark.parametrize("path", CONTROL)
def test_no_header_leads_to_it(guard: Guard, path: str) -> None:
    """Redirects of Triton's Vertex frontend, and headers with which proxies change a path or a method."""
    before, body = guard.state(), CONTROL[path]
    written = [write(path[1:]) for name, write in PATHS.items() if "{" not in write(path[1:]) and "NUL" not in name]
    for redirect in {path, path[1:], f"v2/models/../{path[4:]}", *written}:
        line = f"X-Vertex-Ai-Triton-Redirect: {redirect}"
        unimpressed(guard, before, post(guard.target.predict_route, body, line))
    for line in (
        f"X-Original-URL: {path}",
        f"X-Rewrite-URL: {path}",
        f"X-Forwarded-Prefix: {path}",
        f"X-Accel-Redirect: {path}",
        f"Location: {path}",
        "X-HTTP-Method-Override: POST",
    ):
        unimpressed(guard, before, post(guard.target.predict_route, body or b"{}", line))


def test_two_redirects_are_not_one_of_each(guard: Guard) -> None:
    """What is checked must be what is taken."""
    before = guard.state()
    for first, second in (
        ("v2", "v2/repository/models/matrix/unload"),
        ("v2/repository/models/matrix/unload", "v2"),
    ):
        lines = [f"X-Vertex-Ai-Triton-Redirect: {first}", f"x-vertex-ai-triton-redirect: {second}"]
        attempt(guard.target, post(guard.target.predict_route, b"", *lines))
        assert guard.state() == before


SMUGGLED = b"POST /v2/repository/models/matrix/unload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
LAST = SMUGGLED.replace(b"Host: x", b"Host: x\r\nConnection: close")
_OIP = json.dumps({"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}).encode()

#: Lines of a head, and a body, of which one server may see another end than the next.
FRAMES: dict[str, tuple[list[str], bytes]] = {
    "behind a body": (["Content-Length: 2"], b"{}" + SMUGGLED),
    "behind no body": (["Content-Length: 0"], SMUGGLED),
    "length and chunks": (["Content-Length: 3", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + SMUGGLED),
    "chunks and length": (
        ["Transfer-Encoding: chunked", f"Content-Length: {len(SMUGGLED) + 5}"],
        b"0\r\n\r\n" + SMUGGLED,
    ),
    "two lengths": (["Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    "lengths in a list": ([f"Content-Length: 0, {len(SMUGGLED)}"], SMUGGLED),
    "a signed length": ([f"Content-Length: +{len(SMUGGLED)}"], SMUGGLED),
    "a length with a blank": (["Content-Length : 0", f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    "a folded length": ([f"Content-Length:\r\n {len(SMUGGLED)}"], SMUGGLED),
    "odd chunks": (["Transfer-Encoding: xchunked", f"Content-Length: {len(SMUGGLED)}"], SMUGGLED),
    "chunks twice": (["Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n" + SMUGGLED),
    "chunks in capitals": (["Transfer-Encoding: CHUNKED"], b"0\r\n\r\n" + SMUGGLED),
    "chunks with a tab": (["Transfer-Encoding:\tchunked"], b"0\r\n\r\n" + SMUGGLED),
    "a chunk with an extension": (["Transfer-Encoding: chunked"], b"0;a=b\r\n\r\n" + SMUGGLED),
    "a chunk of odd size": (["Transfer-Encoding: chunked"], b"0x0\r\n\r\n" + SMUGGLED),
    "a trailer": (["Transfer-Encoding: chunked"], b"0\r\nX-Vertex-Ai-Triton-Redirect: v2\r\n\r\n" + SMUGGLED),
    "a bare line feed": (["Content-Length: 0\n"], SMUGGLED),
    "a bare carriage return": ([f"A: b\rContent-Length: {len(SMUGGLED)}", "Content-Length: 0"], SMUGGLED),
    "an upgrade": (["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "Content-Length: 0"], SMUGGLED),
    "an inference with another's length": ([f"Content-Length: {len(_OIP)}"], _OIP + SMUGGLED),
}


@pytest.mark.parametrize("path", ["{predict}", "/v2/models/identity_fp32/infer", "/v2/models/greeting/generate"])
@pytest.mark.parametrize(("lines", "body"), FRAMES.values(), ids=FRAMES.keys())
def test_no_framing_hides_a_request(guard: Guard, path: str, lines: list[str], body: bytes) -> None:
    """Whether the first is answered or refused, the second never reaches Triton."""
    before = guard.state()
    written = path.format(predict=guard.target.predict_route)
    head = "\r\n".join([f"POST {written} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")
    unimpressed(guard, before, head + body + LAST, fine=1)


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-Id: a\r\n\r\n" + SMUGGLED,
        b"X-Request-Id: a\rContent-Length: 0",
        b"X-Request-Id: a\nContent-Length: 0",
        b"X-Request-Id: a\x00b",
        b"traceparent: 00\rPOST",
        b"Accept-Encoding: gzip\rA: b",
        b"Inference-Header-Content-Length: 5\rA: b",
        b"Inference-Header-Content-Length: 0\x0b",
        b"X-Vertex-Ai-Triton-Redirect: v2\x00/../repository",
        b"X-Vertex-Ai-Triton-Redirect: v2\x0b",
    ],
)
def test_no_header_can_be_put_into_anothers_value(guard: Guard, line: bytes) -> None:
    before = guard.state()
    for path in (guard.target.predict_route, "/v2/models/identity_fp32/infer"):
        head = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n"
        unimpressed(guard, before, head + f"Content-Length: {len(_OIP)}\r\n\r\n".encode() + _OIP + LAST, fine=1)


# Through shared memory


REGION, ESCAPED = "shared_memory_region", "\\u0073hared_memory_region"


def place(key: str = REGION, more: str = "") -> str:
    """The parameters of a tensor in shared memory."""
    return f'{{"{key}": "probe", "shared_memory_byte_size": 16, "shared_memory_offset": 0{more}}}'


def input_(*fields: str) -> str:
    """The member `inputs` with one tensor."""
    return '"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", ' + ", ".join(fields) + "}]"


def output(*fields: str) -> str:
    """The member `outputs` with one tensor."""
    return '"outputs": [{"name": "Y", ' + ", ".join(fields) + "}]"


def parameters(value: str, key: str = "parameters") -> str:
    return f'"{key}": {value}'


def request(*members: str) -> str:
    return "{" + ", ".join(members) + "}"


HERE, THERE = '"data": [1, 2, 3, 4]', parameters(place())

#: Bodies that have Triton read from the region, or write to it; or would, if it read them in its own way.
PLACES: dict[str, str] = {
    "input": request(input_(THERE)),
    "output": request(input_(HERE), output(THERE)),
    "both": request(input_(THERE), output(THERE)),
    "beside data": request(input_(HERE, THERE)),
    "size and offset alone": request(input_(HERE), output(THERE.replace(REGION, "region"))),
    "input, escaped": request(input_(parameters(place(ESCAPED)))),
    "output, escaped": request(input_(HERE), output(parameters(place(ESCAPED)))),
    "escaped letter by letter": request(input_(parameters(place("".join(f"\\u{ord(c):04X}" for c in REGION))))),
    "parameters escaped": request(input_(parameters(place(), "p\\u0061rameters"))),
    "outputs escaped": request(input_(HERE), output(THERE).replace("outputs", "output\\u0073")),
    "region twice": request(input_(parameters(place(more=f', "{ESCAPED}": "probe"')))),
    "parameters twice, last": request(input_(HERE, parameters("{}"), THERE)),
    "parameters twice, first": request(input_(HERE, THERE, parameters("{}"))),
    "inputs twice, last": request(input_(HERE), input_(THERE)),
    "inputs twice, first": request(input_(THERE), input_(HERE)),
    "outputs twice, last": request(input_(HERE), '"outputs": []', output(THERE)),
    "outputs twice, first": request(input_(HERE), output(THERE), '"outputs": []'),
    "beside a bare NaN": request(input_('"data": [NaN, 2, 3, 4]'), output(THERE)),
    "beside a bare Infinity": request(input_('"data": [Infinity, 2, 3, 4]'), output(THERE)),
    "beside a lone surrogate": request('"id": "\\ud800"', input_(HERE), output(THERE)),
    "beside what is no UTF-8": request('"id": "\udcff"', input_(HERE), output(THERE)),
    "beside a number too large": request('"parameters": {"a": 1e999}', input_(HERE), output(THERE)),
    "beside deep nesting": request(f'"a": {"[" * 1100}{"]" * 1100}', input_(HERE), output(THERE)),
    "with something behind": request(input_(HERE), output(THERE)) + " more",
    "with NUL behind": request(input_(HERE), output(THERE)) + "\0",
    "with a byte order mark": "\ufeff" + request(input_(HERE), output(THERE)),
    "with a trailing comma": request(input_(HERE), output(THERE) + ","),
    "with a comment": request(input_(HERE), "/* */" + output(THERE)),
    "in quotes of another kind": request(input_(HERE), output(THERE).replace('"parameters"', "'parameters'")),
}

_LENGTH = "Inference-Header-Content-Length"
_MIME = "application/vnd.vertex-ai-triton.binary+json;json-header-size="

#: Ways to send a body: path, body, further lines.
SENDING: dict[str, Callable[[Target, bytes], bytes]] = {
    "V2": lambda target, body: post("/v2/models/identity_fp32/infer", body),
    "V2, version": lambda target, body: post("/v2/models/identity_fp32/versions/1/infer", body),
    "V2, binary": lambda target, body: post("/v2/models/identity_fp32/infer", body, f"{_LENGTH}: {len(body)}"),
    "V2, gzip": lambda target, body: post(
        "/v2/models/identity_fp32/infer", gzip.compress(body), "Content-Encoding: gzip"
    ),
    "V2, deflate": lambda target, body: post(
        "/v2/models/identity_fp32/infer", zlib.compress(body), "Content-Encoding: deflate"
    ),
    "predict": lambda target, body: post(target.predict_route, body, "Content-Type: application/json"),
    "predict, binary": lambda target, body: post(target.predict_route, body, f"{_LENGTH}: {len(body)}"),
    "predict, MIME": lambda target, body: post(target.predict_route, body, f"Content-Type: {_MIME}{len(body)}"),
    "redirect": lambda target, body: post(
        target.predict_route, body, "X-Vertex-Ai-Triton-Redirect: v2/models/identity_fp32/infer"
    ),
    "redirect, gzip": lambda target, body: post(
        target.predict_route,
        gzip.compress(body),
        "X-Vertex-Ai-Triton-Redirect: v2/models/identity_fp32/infer",
        "Content-Encoding: gzip",
    ),
}


@pytest.mark.parametrize("send", SENDING.values(), ids=SENDING.keys())
@pytest.mark.parametrize(("name", "body"), PLACES.items(), ids=PLACES.keys())
def test_no_inference_reads_or_writes_shared_memory(
    guard: Guard, name: str, body: str, send: Callable[[Target, bytes], bytes]
) -> None:
    """Of two members of one name either may count, as long as Triton takes the one that was looked at."""
    before = guard.state()
    (answer,) = attempt(guard.target, send(guard.target, body.encode("utf-8", "surrogateescape")))
    if answer.status == 200 and "twice" in name:
        assert [output["data"] for output in answer.json()["outputs"]] == [[1, 2, 3, 4]]
    else:
        refused(answer, 400)
    assert guard.state() == before


def test_the_regions_of_the_listener_cannot_be_used_either(guard: Guard) -> None:
    if guard.container is None:
        pytest.skip("needs control over the process, which --base-url does not give")
    known = guard.container.triton().get("/v2/systemsharedmemory/status").json()
    names = [region["name"] for region in known if region["name"] != "probe"]
    assert names
    for name in names:
        body = request(input_(HERE), output(THERE.replace("probe", name))).encode()
        refused(guard.target.post("/v2/models/identity_fp32/infer", body), 400)


def test_everything_is_still_there(guard: Guard) -> None:
    assert guard.target.predictions([[1.0]]) == [[1.0]]
    assert guard.target.predictions([[[1] * 3] * 2], "matrix") == [[2.0] * 3]
    index = guard.target.post("/v2/repository/index").json()
    assert {entry["state"] for entry in index} == {"READY"}
