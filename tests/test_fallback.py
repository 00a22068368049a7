"""What is not HTTP, or not quite: its refusals in our one form, and no trace of a client's fault in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from listener import app, settings
from listener.gate import Phase


class Echo(app.Listener):
    """Ready at once; there is no service behind it."""

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        self.gate.phase = Phase.READY
        yield


@pytest.fixture
async def port() -> AsyncIterator[int]:
    configured = settings.read({}, service=Path("."), host="127.0.0.1", max_body=2000, timeout=2)
    bound = socket.create_server(("127.0.0.1", 0))
    async with app.serving(Echo(configured), bound):
        yield bound.getsockname()[1]


async def said(port: int, *parts: bytes) -> bytes:
    """All that comes until the listener closes, or for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.01)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.5):
            while more := await reader.read(65536):
                found += more
            found += b"<closed>"
    writer.transport.abort()
    return found


def refused(answer: bytes, closed: bool = True) -> tuple[int, Any]:
    """Status and body of an answer that is the last on its connection, at once or when the body has come."""
    assert answer.endswith(b"<closed>") or not closed, answer
    head, _, body = answer.removesuffix(b"<closed>").partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/json" in lines
    assert any(line.startswith(b"x-request-id: ") for line in lines)
    assert b"content-length: %d" % len(body) in lines
    return int(head.split(b" ")[1]), orjson.loads(body)


NO_HTTP = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "no method": b" /predict HTTP/1.1\r\n\r\n",
    "another method": b"WHATEVER /predict HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"GET / SIP/2.0\r\n\r\n",
    "no header": b"GET /health HTTP/1.1\r\nnothing\r\n\r\n",
    "two lengths": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "no length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\nx",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "a long line": b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http_gets_one_sentence_and_the_end(
    port: int, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    status, body = refused(await said(port, request_))
    assert (status, body.keys()) == (400, {"error"})
    assert body["error"].startswith("the request is not HTTP/1.1: ")
    assert "\n" not in body["error"]
    (record,) = [
        record for record in caplog.records if record.levelno >= logging.INFO and record.name != "listener.app"
    ]
    assert (record.name, record.levelname, record.exc_info) == ("listener.http", "INFO", None)
    assert record.getMessage() == body["error"]


async def test_a_request_before_it_on_the_same_connection_is_answered(port: int) -> None:
    answer = await said(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n")
    first, _, last = answer.partition(b"openapi.json\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert refused(last)[0] == 400


@pytest.mark.parametrize("expect", ["a miracle", "100-continue, x", "200-ok"])
async def test_an_expectation_that_is_not_known_is_400_before_the_body(port: int, expect: str) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"
    status, body = refused(await said(port, head.encode()), closed=False)
    assert (status, body) == (400, {"error": "the header Expect can only say 100-continue"})


@pytest.mark.parametrize("path", ["/predict", "/v1/models/m:predict", "/v2/models/m/infer"])
async def test_a_body_that_is_too_long_is_refused_before_it_is_sent(port: int, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2001\r\n\r\n"
    status, body = refused(await said(port, head.encode()), closed=False)
    assert (status, body) == (413, {"error": "the body is larger than 2000 bytes (LISTENER_MAX_BODY)"})


async def test_one_that_is_not_is_asked_for(port: int) -> None:
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
    )
    answer = await said(port, head, b"{")
    first, _, last = answer.partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 100 Continue"
    assert refused(last)[0] == 400


async def test_http_1_0_cannot_expect(port: int) -> None:
    """RFC 9110, section 10.1.1: it is ignored there."""
    head = b"POST /predict HTTP/1.0\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n{"
    status, body = refused(await said(port, head))
    assert status == 400
    assert body["error"].startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    "body",
    [b"5\r\nabc", b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"fffffffffffffffff\r\n"],
)
async def test_damaged_chunks_are_the_callers_fault(port: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + body)
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"504")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_client_that_only_connects_is_none_to_speak_of(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.http")
    for sent in (b"", b"P", b"GET /health HTTP/1.1\r\nHo"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await asyncio.sleep(0.02)
        writer.transport.abort()
    await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.name in ("listener.http", "aiohttp.server")] == []
