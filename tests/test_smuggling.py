"""Requests whose end two parsers could see at different places: refused, and nothing after them is read.

RFC 9112, sections 6.1, 6.3 and 11.2 (https://www.rfc-editor.org/rfc/rfc9112). What hides in them is a prediction of its
own, which must never be made.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import pytest

from listener.call import Call, Reply
from tests.test_fastpath import Client, Stub, client, json, post, raw, served

ANSWERS = re.compile(rb"HTTP/1\.[01] (\d{3}) [A-Z]")
#: A whole request, which somebody else would be answered.
HIDDEN = post(json("hidden"))
START = "POST /predict HTTP/1.1\nHost: here\nContent-Type: application/json\n"
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(json(1)), json(1))

ATTACKS: dict[str, bytes] = {
    "length and chunked": raw(START + f"Content-Length: {len(CHUNK)}\nTransfer-Encoding: chunked", CHUNK),
    "chunked and length": raw(START + "Transfer-Encoding: chunked\nContent-Length: 4", CHUNK),
    "two lengths": raw(START + f"Content-Length: {len(json(1))}\nContent-Length: 4", json(1)),
    "a list of lengths": raw(START + f"Content-Length: {len(json(1))}, 4", json(1)),
    "a length with a sign": raw(START + f"Content-Length: +{len(json(1))}", json(1)),
    "a negative length": raw(START + "Content-Length: -1", json(1)),
    "a hexadecimal length": raw(START + f"Content-Length: 0x{len(json(1)):x}", json(1)),
    "a length of two words": raw(START + f"Content-Length: {len(json(1))} 4", json(1)),
    "a length that is too long a number": raw(START + f"Content-Length: {1 << 70}", json(1)),
    "an empty length": raw(START + "Content-Length:", json(1)),
    "a blank before the colon": raw(START + f"Content-Length : {len(json(1))}", json(1)),
    "chunked, and a blank before the colon": raw(START + "Transfer-Encoding : chunked", CHUNK),
    "another coding": raw(START + "Transfer-Encoding: xchunked", CHUNK),
    "chunked, then another coding": raw(START + "Transfer-Encoding: chunked, identity", CHUNK),
    "a coding behind a vertical tab": raw(START + "Transfer-Encoding: \x0bchunked", CHUNK),
    "a folded coding": raw(START + "Transfer-Encoding:\n chunked", CHUNK),
    "a folded length": raw(START + f"X: y\n Content-Length: {len(json(1))}", json(1)),
    "a zero byte in a value": raw(START + f"X: a\0b\nContent-Length: {len(json(1))}", json(1)),
    "a line with a bare CR": raw(START + f"X: a\rContent-Length: 4\nContent-Length: {len(json(1))}", json(1)),
    "no colon": raw(START + f"Content-Length {len(json(1))}", json(1)),
    "a chunk with a sign": raw(START + "Transfer-Encoding: chunked", b"+" + CHUNK),
    "a chunk of no number": raw(START + "Transfer-Encoding: chunked", b"zz\r\n" + CHUNK),
    "a chunk that is too long a number": raw(START + "Transfer-Encoding: chunked", b"1" + b"0" * 17 + b"\r\n" + CHUNK),
    "a chunk longer than it says": raw(START + "Transfer-Encoding: chunked", b"1\r\n" + json(1) + b"\r\n0\r\n\r\n"),
    "chunks of lines with bare LF": raw(START + "Transfer-Encoding: chunked", CHUNK.replace(b"\r\n", b"\n")),
}


async def everything(caller: Client) -> bytes:
    """All that comes until the connection ends; or until nothing comes for a while."""
    came = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(1):
                piece = await caller.reader.read(1 << 16)
            if not piece:
                break
            came += piece
    return came


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The first instance of each prediction that is made."""
    asked, answer = list[Any](), Stub.answer

    async def noting(self: Stub, call: Call) -> Reply:
        asked.append(call.instances[0])
        return await answer(self, call)

    monkeypatch.setattr(Stub, "answer", noting)
    return asked


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("pieces", ["at once", "in two"])
async def test_what_has_two_ends_is_refused_and_nothing_behind_it_is_read(
    attack: bytes, pieces: str, asked: list[Any]
) -> None:
    async with served() as server, client(server) as caller:
        parts = [attack + HIDDEN] if pieces == "at once" else [attack, HIDDEN]
        with contextlib.suppress(ConnectionError):
            await caller.send(*parts)
        came = await everything(caller)
        assert await caller.closed()
    assert "hidden" not in asked
    assert 1 not in asked
    assert ANSWERS.findall(came) in ([b"400"], []), came


@pytest.mark.parametrize("kept", ["", "\nConnection: keep-alive"], ids=["", "keep-alive"])
async def test_chunks_of_http_1_0_end_the_connection(asked: list[Any], kept: str) -> None:
    """Section 6.1: their framing is faulty, even where the connection would stay."""
    async with served() as server, client(server) as caller:
        await caller.send(raw(START.replace("1.1", "1.0") + f"Transfer-Encoding: chunked{kept}", CHUNK), HIDDEN)
        assert ANSWERS.findall(await everything(caller)) == [b"400"]
        assert await caller.closed()
    assert asked == []


async def test_a_line_without_a_version_is_refused(asked: list[Any]) -> None:
    """The parser takes it for HTTP/0.9, which has neither heads nor bodies, and reads both."""
    async with served() as server, client(server) as caller:
        await caller.send(raw(START.replace(" HTTP/1.1", "") + f"Content-Length: {len(json(1))}", json(1)), HIDDEN)
        assert (await everything(caller)).startswith(b"HTTP/0.9 400 ")
        assert await caller.closed()
    assert asked == []


async def test_what_is_hidden_would_be_a_request(asked: list[Any]) -> None:
    async with served() as server, client(server) as caller:
        await caller.send(post(json(1)) + HIDDEN)
        assert ANSWERS.findall(await everything(caller)) == [b"200", b"200"]
    assert asked == [1, "hidden"]
