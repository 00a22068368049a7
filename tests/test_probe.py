"""One GET, against a small real server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from listener import probe

#: Starts a server that answers one connection with these bytes (None = never) and gives its port and what it was asked.
Serve: TypeAlias = Callable[[bytes | None], tuple[int, list[bytes]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:
        finished = threading.Event()

        def start(answer: bytes | None) -> tuple[int, list[bytes]]:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            asked: list[bytes] = []

            def run() -> None:
                connection, _ = listening.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    if answer is None:
                        finished.wait(5)
                    else:
                        connection.sendall(answer)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            return listening.getsockname()[1], asked

        yield start
        finished.set()


def http(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(http("200 OK", b'{"status":"ready"}'), (200, '{"status":"ready"}'), id="200"),
        pytest.param(http("503 Service Unavailable", b"missing"), (503, "missing"), id="503"),
        pytest.param(http("404 Not Found", b""), (404, ""), id="404"),
        pytest.param(http("302 Found", b"", "Location: /else\r\n"), (302, ""), id="a redirect is not followed"),
        pytest.param(http("200 OK", b"a\xffb"), (200, "a\ufffdb"), id="no UTF-8"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", (200, "until the end"), id="without length"),
    ],
)
def test_an_answer(serve: Serve, answer: bytes, expected: tuple[int, str]) -> None:
    port, _ = serve(answer)
    assert probe.get(f"http://127.0.0.1:{port}/health", 5) == expected


@pytest.mark.parametrize(
    ("path", "asked_for"),
    [("/health", b"/health"), ("", b"/"), ("/v1/models/m:predict", b"/v1/models/m:predict")],
    ids=["path", "no path", "colon"],
)
def test_what_is_asked(serve: Serve, path: str, asked_for: bytes) -> None:
    port, asked = serve(http("200 OK", b""))
    assert probe.get(f"http://127.0.0.1:{port}{path}", 5)[0] == 200
    (request,) = asked
    assert request.startswith(b"GET " + asked_for + b" HTTP/1.1\r\n")
    assert b"Connection: close" in request


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"HTTP/1.1 ready OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=["nothing", "another protocol", "garbage", "no number", "cut off", "bad chunk", "a long line", "many headers"],
)
def test_what_is_no_answer_is_status_0_with_a_reason(serve: Serve, answer: bytes) -> None:
    port, _ = serve(answer)
    status, reason = probe.get(f"http://127.0.0.1:{port}/health", 5)
    assert status == 0
    assert reason


def test_no_answer_in_time(serve: Serve) -> None:
    port, _ = serve(None)
    assert probe.get(f"http://127.0.0.1:{port}/health", 0.05) == (0, "timed out")


def test_nobody_there() -> None:
    with socket.socket() as bound:  # bound, not listening
        bound.bind(("127.0.0.1", 0))
        status, reason = probe.get(f"http://127.0.0.1:{bound.getsockname()[1]}/health", 5)
    assert status == 0
    assert "refused" in reason.lower()


@pytest.mark.parametrize("path", ["/wähle", "/a b", "/a\x7f"], ids=ascii)
def test_a_path_that_cannot_be_asked_for_is_no_answer(path: str) -> None:
    status, reason = probe.get(f"http://127.0.0.1:9{path}", 5)
    assert status == 0
    assert reason


async def test_a_port_that_opens_is_waited_for() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        waiting = asyncio.create_task(probe.until_open("127.0.0.1", port, 10))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        bound.listen()
        assert await waiting


async def test_a_port_that_does_not_open_is_not_waited_for_for_ever() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not await probe.until_open("127.0.0.1", bound.getsockname()[1], 0.2)
