"""The proxy of the chaos suite spoils what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from chaos import proxy
from chaos.proxy import Proxy, Spoil
from tests.integration.stack import free_port

BODY = b"0123456789" * 4
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + BODY


@contextlib.asynccontextmanager
async def behind(spoil: Spoil | None) -> AsyncIterator[int]:
    """The port of a proxy that spoils every answer to `infer`."""

    async def triton(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await proxy.Message.read(reader)
                writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(triton, "127.0.0.1", 0)
    between, port = Proxy(server.sockets[0].getsockname()[1]), free_port()
    between.spoil = spoil
    async with between.running(port):
        yield port
    server.close()


async def asked(port: int, path: str = "/v2/models/m/infer", times: int = 1) -> bytes:
    """All that comes for so many requests on one connection, within a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody".encode() * times)
    came = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.8):
            while piece := await reader.read(1 << 16):
                came += piece
    writer.close()
    return came


@pytest.fixture(autouse=True)
def every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_PART", 1.0)


async def test_without_a_fault_all_passes() -> None:
    async with behind(None) as port:
        assert await asked(port, times=3) == ANSWER * 3


async def test_only_infer_is_spoilt() -> None:
    async with behind(proxy.failure) as port:
        assert await asked(port, "/v2/health/ready") == ANSWER


@pytest.mark.parametrize(
    ("spoil", "comes"),
    [
        (proxy.late, ANSWER),
        (proxy.never, b""),
        (proxy.gone, b""),
        (proxy.cut, ANSWER[:-20]),
        (proxy.too_short, ANSWER.replace(b": 40", b": 32")),
        (proxy.too_long, ANSWER.replace(b": 40", b": 48")),
    ],
)
async def test_what_comes(spoil: Spoil, comes: bytes) -> None:
    async with behind(spoil) as port:
        assert await asked(port) == comes


@pytest.mark.parametrize(
    ("spoil", "begin"),
    [(proxy.failure, b"HTTP/1.1 500 "), (proxy.busy, b"HTTP/1.1 503 "), (proxy.garbage, b"\x00\xff")],
)
async def test_how_it_begins(spoil: Spoil, begin: bytes) -> None:
    async with behind(spoil) as port:
        assert (await asked(port)).startswith(begin)
