"""A client of streams that reads what comes as it comes, and leaves when it likes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

EVENTS = "text/event-stream"
#: In place of an event.
END = object()


def post(path: str, document: Any, *headers: str, version: str = "1.1", accept: str = EVENTS) -> bytes:
    """A request; `document` may be its bytes."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Accept: {accept}", f"Content-Length: {len(body)}", *headers]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Caller:
    """One connection.

    Attributes:
        status: of the last answer.
        headers: of it, names in lower case.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0
        self._pending = b""
        self.headers: dict[str, str] = {}

    async def send(self, request: bytes) -> None:
        """Sends it and reads the head of the answer."""
        self.writer.write(request)
        async with asyncio.timeout(10):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def ask(self, path: str, document: Any, *headers: str, **more: str) -> None:
        await self.send(post(path, document, *headers, **more))

    async def piece(self) -> bytes:
        """The next chunk; empty at the end."""
        async with asyncio.timeout(10):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def event(self) -> Any:
        """What the next event says; END at the end."""
        while b"\n\n" not in self._pending:
            piece = await self.piece()
            if not piece:
                assert self._pending == b""
                return END
            self._pending += piece
        event, _, self._pending = self._pending.partition(b"\n\n")
        assert event.startswith(b"data: "), event
        return orjson.loads(event[6:])

    async def pieces(self) -> bytes:
        """All that is left of a body, without its chunks."""
        found = []
        while piece := await self.piece():
            found.append(piece)
        return b"".join(found)

    async def events(self) -> list[Any]:
        """All that are left."""
        found = []
        while (event := await self.event()) is not END:
            found.append(event)
        return found

    async def rest(self) -> bytes:
        """Everything to the end of the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def body(self) -> Any:
        """That of an answer with a length."""
        async with asyncio.timeout(10):
            return orjson.loads(await self.reader.readexactly(int(self.headers["content-length"])))

    def leave(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def calling(port: int, **options: Any) -> AsyncIterator[Caller]:
    """A connection to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
