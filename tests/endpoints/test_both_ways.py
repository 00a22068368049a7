"""Whatever a plain request carries, the fast path answers it as aiohttp does: same status, same headers, same body."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import orjson
import pytest

from tests.endpoints.caller import Caller, calling, post
from tests.endpoints.conftest import Serve, Served

NPY, RAW = "Content-Type: application/x-npy", "Content-Type: application/octet-stream"
VENDOR = "Content-Type: application/vnd.vertex-ai-triton.binary+json;json-header-size="


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


INFER = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
HEADER = orjson.dumps(
    {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}
)
BINARY = HEADER + np.array([1, 2], "<f4").tobytes()
LENGTH = f"Inference-Header-Content-Length: {len(HEADER)}"
MANY = {"instances": [[0.5, 2]] * 500}

REQUESTS: dict[str, tuple[Any, ...]] = {
    "instances": ({"instances": [[1, 2]]},),
    "columns": ({"inputs": {"A": [[1]], "B": [[2]]}, "parameters": {"model": "pair"}},),
    "no columns": ({"inputs": []},),
    "a version": ({"instances": [[1, 2]], "parameters": {"version": 2}},),
    "no version": ({"instances": [[1, 2]], "parameters": {"version": 3}},),
    "an array": (saved(np.ones((2, 2), "f4")), NPY),
    "no array": (b"x", NPY),
    "an array asked for": ({"instances": [[1, 2]]}, "Accept: application/x-npy"),
    "no array to be had": (
        {"instances": [{"A": [1], "B": [2]}], "parameters": {"model": "pair"}},
        "Accept: application/x-npy",
    ),
    "a raw tensor": (np.array([1, 2], "<f4").tobytes(), RAW),
    "no raw tensor": (b"abc", RAW),
    "a picture": (b"abc", "Content-Type: image/png"),
    "the open protocol": (INFER,),
    "the open protocol, compressed": (INFER, "Accept-Encoding: gzip"),
    "binary by the header": (BINARY, LENGTH),
    "binary by the media type": (BINARY, f"{VENDOR}{len(HEADER)}"),
    "binary as raw bytes": (BINARY, RAW, LENGTH),
    "too long": (BINARY, "Inference-Header-Content-Length: 9999"),
    "no length": (BINARY, f"{VENDOR}x"),
    "shared memory": ({"inputs": [{**INFER["inputs"][0], "parameters": {"shared_memory_region": "r"}}]},),
    "compressed": (MANY, "Accept-Encoding: gzip"),
    "deflated": (MANY, "Accept-Encoding: br, deflate"),
    "not compressed": (MANY, "Accept-Encoding: br, gzip;q=0"),
    "a compressed array": (MANY, "Accept-Encoding: gzip", "Accept: application/x-npy"),
    "no events": ({"instances": [[1, 2]]}, "Accept: text/event-stream;q=0, application/json"),
    "a decoupled model": ({"instances": ["one two"], "parameters": {"model": "talk"}},),
    "its failure": ({"instances": ["fail"], "parameters": {"model": "talk"}},),
    "events in a list": ({"instances": [["a", 1]], "parameters": {"model": "telling"}},),
    "what cannot be said": ({"instances": [["unsayable"]], "parameters": {"model": "telling"}},),
}
COMPARED = (
    *("content-type", "content-length", "content-encoding", "vary", "x-request-id", "retry-after"),
    "inference-header-content-length",
)


async def answer(caller: Caller, served: Served, request: bytes) -> tuple[int, dict[str, str | None], bytes]:
    await caller.send(request)
    body = await caller.reader.readexactly(int(caller.headers["content-length"]))
    return caller.status, {name: caller.headers.get(name) for name in COMPARED}, body


async def both(served: Served, request: bytes) -> tuple[int, dict[str, str | None], bytes]:
    async with calling(served.port) as fast, calling(served.port) as slow:
        ours = await answer(fast, served, request)
        assert "server" not in fast.headers
        # a connection with one request that is not plain is aiohttp's for good
        await answer(slow, served, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        theirs = await answer(slow, served, request)
        assert "server" in slow.headers
    assert ours == theirs
    return ours


@pytest.fixture
async def compressing(serve: Serve) -> Any:
    async with serve(compress_from=1000) as served:
        yield served


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answer_is_the_same_on_both_ways(compressing: Served, name: str) -> None:
    document, *headers = REQUESTS[name]
    accept = next((line.removeprefix("Accept: ") for line in headers if line.startswith("Accept: ")), "*/*")
    lines = [line for line in headers if not line.startswith("Accept: ")]
    request = post("/predict", document, "X-Request-Id: me", *lines, accept=accept)
    status, head, body = await both(compressing, request)
    assert head["x-request-id"] == "me"
    assert (status == 200) == (b'{"error"' not in body)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_so_is_a_refusal_of_tritons(compressing: Served, status: int) -> None:
    """As it is for a request of its own protocol; translated for one of ours."""
    compressing.triton.fail_with = status
    got, head, body = await both(compressing, post("/predict", INFER, "X-Request-Id: me", accept="*/*"))
    assert (got, body) == (status, b'{"error":"the fake was told to fail"}')
    assert head["retry-after"] is None
    request = post("/predict", {"instances": [[1, 2]]}, "X-Request-Id: me", accept="*/*")
    got, head, _ = await both(compressing, request)
    assert got == {400: 400, 404: 400, 500: 502, 503: 503}[status]
    assert head["retry-after"] == ("1" if status == 503 else None)


async def test_what_is_compressed_is_what_would_have_come(compressing: Served) -> None:
    for accept in ("*/*", "application/x-npy"):
        request = post("/predict", MANY, "X-Request-Id: me", "Accept-Encoding: gzip", accept=accept)
        _, head, body = await both(compressing, request)
        assert (head["content-encoding"], head["vary"]) == ("gzip", "Accept-Encoding")
        plain = post("/predict", MANY, "X-Request-Id: me", accept=accept)
        assert gzip.decompress(body) == (await both(compressing, plain))[2]


async def test_a_connection_goes_on_whatever_was_answered(compressing: Served) -> None:
    async with calling(compressing.port) as caller:
        for document, *headers in REQUESTS.values():
            accept = next((line.removeprefix("Accept: ") for line in headers if line.startswith("Accept: ")), "*/*")
            lines = [line for line in headers if not line.startswith("Accept: ")]
            await answer(caller, compressing, post("/predict", document, *lines, accept=accept))
            assert "server" not in caller.headers
