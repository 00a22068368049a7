"""Stands between the listener and Triton and spoils some of Triton's answers to `infer`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

#: Of the answers, how many are spoilt.
_PART = 0.3
_LENGTH = re.compile(rb"(?i)^content-length: *(\d+)\r\n", re.MULTILINE)


@dataclass(frozen=True)
class Message:
    """A request or an answer of HTTP.

    Attributes:
        head: with the empty line at its end.
        body: bytes.
    """

    head: bytes
    body: bytes

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Message:
        """The next one; raises IncompleteReadError at the end of the connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return cls(head, await reader.readexactly(int(length[1])) if length else b"")

    def with_length(self, length: int) -> bytes:
        """As bytes, saying that the body has another length."""
        return _LENGTH.sub(b"Content-Length: %d\r\n" % length, self.head) + self.body


#: Writes a spoilt answer. Whether the connection goes on is what it returns.
Spoil = Callable[[Message, asyncio.StreamWriter], Awaitable[bool]]


async def late(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """Half a second later."""
    await asyncio.sleep(0.5)
    writer.write(answer.head + answer.body)
    return True


async def never(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """Not at all, on a connection that stays open."""
    await asyncio.sleep(3600)
    return False


async def failure(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """500, with a body as Triton has it."""
    body = b'{"error":"an error of the fault proxy"}'
    writer.write(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    writer.write(body)
    return True


async def busy(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """503, as Triton has it where a model's queue is full."""
    body = b'{"error":"Exceeds maximum queue size"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    return True


async def gone(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """The connection ends before the first byte."""
    return False


async def cut(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """The connection ends in the middle of the body."""
    writer.write(answer.head + answer.body[: len(answer.body) // 2])
    return False


async def too_short(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """The head says less than there is; what is left would be the beginning of the next answer."""
    writer.write(answer.with_length(max(0, len(answer.body) - 8)))
    return True


async def too_long(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """The head says more than there is."""
    writer.write(answer.with_length(len(answer.body) + 8))
    return True


async def garbage(answer: Message, writer: asyncio.StreamWriter) -> bool:
    """No HTTP."""
    writer.write(b"\x00\xff nothing of HTTP\r\n\r\n")
    return False


class Proxy:
    """In front of one Triton.

    Args:
        port: Triton's, on the loopback.

    Attributes:
        spoil: what becomes of some answers; None = they pass as they are.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.spoil: Spoil | None = None
        self._chance = random.Random(0)
        self._connections = set[asyncio.Task[None]]()

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        """Takes connections on a port of the loopback while inside."""
        server = await asyncio.start_server(self._began, "127.0.0.1", port, limit=1 << 20)
        try:
            yield
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _began(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connection(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, to_triton = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
            try:
                while await self._one(reader, theirs, to_triton, writer):
                    await writer.drain()
            finally:
                to_triton.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one of the two went away, as they may
        finally:
            writer.close()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        theirs: asyncio.StreamReader,
        to_triton: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        request = await Message.read(reader)
        to_triton.write(request.head + request.body)
        answer = await Message.read(theirs)
        is_infer = b"/infer " in request.head.partition(b"\r\n")[0]
        if self.spoil and is_infer and self._chance.random() < _PART:
            return await self.spoil(answer, writer)
        writer.write(answer.head + answer.body)
        return True
