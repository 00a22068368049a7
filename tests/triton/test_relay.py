"""Triton's own answers, handed on: whole ones and streams, over sockets that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from listener.errors import TritonFailed, Unavailable
from listener.triton.relay import Relay

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Server:
    """Answers every request on a port as it is told, and remembers what it got.

    Attributes:
        answer: writes; the connection is closed behind it if it says so.
        requests: head and body of each.
        left: set when a client closes its connection.
    """

    answer: Answer
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.answer_all(reader, writer)
        finally:
            self.left.set()
            writer.transport.abort()

    async def answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or 0)))
                await self.answer(writer)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks)


@contextlib.asynccontextmanager
async def relaying(answer: Answer) -> AsyncIterator[tuple[Relay, Server]]:
    made = Server(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    relay = Relay(url, url)
    await relay.open()
    try:
        async with asyncio.timeout(20):
            yield relay, made
    finally:
        await relay.close()
        await made.stop()
        server.close()
        await server.wait_closed()


def saying(*pieces: bytes, pause: float = 0, close: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return answer


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# Whole answers


async def test_a_question_is_asked_with_what_is_ours_alone() -> None:
    async with relaying(saying(WHOLE)) as (relay, server):
        answer = await relay.get("/v2/models/a%20b/ready")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/plain", b"hi")
        await relay.post("/v2/models/m/infer", b"{}", {"Content-Type": "application/json"})
        await relay.metrics()
        host = server.requests[0].partition(b"Host: ")[2].partition(b"\r\n")[0]
        assert server.requests == [
            b"GET /v2/models/a%20b/ready HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: "
            + host
            + b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
        ]


async def test_an_empty_body_has_its_length_too() -> None:
    async with relaying(saying(WHOLE)) as (relay, server):
        await relay.post("/v2/repository/index", b"", {})
        assert server.requests[0].endswith(b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_a_refusal_is_an_answer(status: int) -> None:
    async with relaying(saying(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)) as (relay, _):
        assert (await relay.get("/v2"))[::2] == (status, b"no")


async def test_a_triton_that_is_not_there_is_unavailable() -> None:
    relay = Relay("http://127.0.0.1:1", "http://127.0.0.1:1")
    await relay.open()
    for question in (relay.get("/v2"), relay.metrics(), relay.post("/v2", b"", {})):
        with pytest.raises(Unavailable, match=r"^Triton cannot be reached$"):
            await question
    with pytest.raises(Unavailable, match=r"^Triton cannot be reached$"):
        async with relay.stream("/v2", b""):
            pytest.fail("there is nothing to read")
    await relay.close()


async def test_nothing_is_posted_to_a_triton_that_is_known_to_be_away() -> None:
    async with relaying(saying(WHOLE)) as (relay, server):
        relay._refusal = lambda: "Triton is not ready"
        with pytest.raises(Unavailable, match=r"^Triton is not ready$"):
            await relay.post("/v2/models/m/infer", b"{}", {})
        with pytest.raises(Unavailable, match=r"^Triton is not ready$"):
            async with relay.stream("/v2/models/m/generate_stream", b"{}"):
                pytest.fail("there is nothing to read")
        assert server.requests == []
        assert (await relay.get("/v2")).status == 200  # which asks, and does not wait long


@pytest.mark.parametrize("half", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"], ids=["none", "half of one"])
async def test_a_connection_that_ends_before_the_answer_is_unavailable(half: bytes) -> None:
    async with relaying(saying(half, close=True)) as (relay, _):
        with pytest.raises(Unavailable, match=r"^Triton cannot be reached$"):
            await relay.get("/v2")


async def test_what_is_no_http_is_tritons_failure() -> None:
    async with relaying(saying(b"220 mail.example.org\r\n\r\n")) as (relay, _):
        with pytest.raises(TritonFailed, match=r"^Triton's answer is none of HTTP$"):
            await relay.get("/v2")


async def test_whoever_gives_up_closes_the_connection() -> None:
    async with relaying(saying(pause=9)) as (relay, server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await relay.get("/v2")
        assert server.requests


# Streams


async def test_pieces_come_as_they_are_written() -> None:
    pieces = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]
    async with relaying(saying(STREAM, *map(chunk, pieces), b"0\r\n\r\n", pause=0.05)) as (relay, server):
        async with relay.stream("/v2/models/m/generate_stream", b'{"x": 1}') as stream:
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert [piece async for piece in stream.pieces] == pieces
        (request,) = server.requests
        assert request.startswith(b"POST /v2/models/m/generate_stream HTTP/1.1\r\n")
        assert request.endswith(b'\r\n\r\n{"x": 1}')
        assert b"Content-Type: application/json\r\n" in request
        assert b"Accept-Encoding" not in request


async def test_a_path_is_sent_as_it_is_written() -> None:
    """Percent signs and all: it was made of checked names."""
    async with relaying(saying(WHOLE)) as (relay, server):
        async with relay.stream("/v2/models/a%2Fb%20c%FF/generate_stream", b""):
            pass
        assert server.requests[0].startswith(b"POST /v2/models/a%2Fb%20c%FF/generate_stream HTTP/1.1\r\n")


async def test_a_stream_may_be_a_refusal() -> None:
    refusing = saying(b'HTTP/1.1 400 No\r\nContent-Length: 14\r\n\r\n{"error":"no"}')
    async with relaying(refusing) as (relay, _), relay.stream("/v2", b"") as stream:
        assert stream.status == 400
        assert b"".join([piece async for piece in stream.pieces]) == b'{"error":"no"}'


async def test_leaving_early_closes_the_connection_which_ends_the_call() -> None:
    async with relaying(saying(STREAM, *[chunk(b"data: 1\n\n")] * 1000, pause=0.05)) as (relay, server):
        async with relay.stream("/v2", b"") as stream:
            async for _ in stream.pieces:
                break
        await asyncio.wait_for(server.left.wait(), 5)


async def test_a_triton_that_goes_away_in_between_is_unavailable() -> None:
    pieces: list[bytes] = []
    async with relaying(saying(STREAM, chunk(b"data: 1\n\n"), close=True)) as (relay, _):
        with pytest.raises(Unavailable, match=r"^Triton went away in the middle of its answer$"):
            async with relay.stream("/v2", b"") as stream:
                async for piece in stream.pieces:
                    pieces.append(piece)
    assert pieces == [b"data: 1\n\n"]


async def test_a_large_stream_is_not_read_ahead_of_its_reader() -> None:
    """Who reads slowly holds up who writes: at most what fits into the buffers between the two is on its way."""
    written, piece = 0, b"x" * 100_000

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(STREAM)
        for _ in range(2000):  # 200 MB
            writer.write(chunk(piece))
            await writer.drain()
            written += len(piece)

    async with relaying(endless) as (relay, _), relay.stream("/v2", b"") as stream:
        async for _ in stream.pieces:
            break
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
    assert 0 < written < 100_000_000


async def test_streams_do_not_wait_for_one_another() -> None:
    async with (
        relaying(saying(STREAM, chunk(b"1"), pause=0.3)) as (relay, server),
        contextlib.AsyncExitStack() as stack,
    ):
        streams = [await stack.enter_async_context(relay.stream("/v2", b"")) for _ in range(200)]
        assert len(server.requests) == len(streams) == 200
