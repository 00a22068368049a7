"""Answers as they come over a connection: with a length, in chunks, up to the end; in pieces."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from listener.tools.load.wire import Address, Asked, Connection, connect, header

HEAD = b"HTTP/1.1 200 OK\r\n"


class Owner:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.ended = asyncio.Event()
        self.usable = False

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        self.answers.append((status, body))
        self.usable = connection.is_open

    def lost(self, connection: Connection) -> None:
        self.ended.set()


async def said(answer: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """What comes of an answer that is sent byte by byte; and whether the connection can be used again then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    # closed and not waited for: from Python 3.12 on that lasts until every connection has ended
    with contextlib.closing(await asyncio.start_server(serve, "127.0.0.1", 0)) as server:
        owner = Owner()
        connection = await connect(Address("127.0.0.1", server.sockets[0].getsockname()[1]), owner)
        connection.ask(Asked(0, 0.0, 0.0), b"asks")
        async with asyncio.timeout(5):
            await owner.ended.wait()
        await asyncio.sleep(0.01)  # for the server's end
    return owner.answers, owner.usable


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", (200, b"abc")),
        (HEAD + b"content-length:3\r\n\r\nabc", (200, b"abc")),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", (503, b"")),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n", (200, b"abc")),
        (b"HTTP/1.1 204 No\r\n\r\n", (204, b"")),
        (HEAD + b"\r\nup to the end", (200, b"up to the end")),
    ],
)
async def test_an_answer_is_whole_however_its_end_is_told(answer: bytes, wanted: tuple[int, bytes]) -> None:
    answers, _ = await said(answer)
    assert answers == [wanted]


async def test_half_an_answer_is_none() -> None:
    assert (await said(HEAD + b"Content-Length: 9\r\n\r\nabc"))[0] == []
    assert (await said(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"))[0] == []


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    for more, usable in ((b"", True), (b"Connection: close\r\n", False)):
        assert await said(HEAD + more + b"Content-Length: 1\r\n\r\na") == ([(200, b"a")], usable)


def test_a_header_is_found_whatever_its_case() -> None:
    head = HEAD + b"X-A: 1\r\nRETRY-after:  2 \r\n\r\n"
    assert header(head, b"retry-after") == b"2"
    assert header(head, b"x-b") == b""


def test_chunks_are_joined_once_all_of_them_are_there() -> None:
    whole = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"

    def body(size: int) -> bytes | None:
        owner = Owner()
        Connection(owner).data_received((HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + whole)[:size])
        return owner.answers[0][1] if owner.answers else None

    begin = len(HEAD) + len(b"Transfer-Encoding: chunked\r\n\r\n")
    assert body(begin + len(whole)) == b"abc0123456789"
    assert [body(begin + size) for size in range(len(whole))] == [None] * len(whole)
