"""Requests that Triton answers itself, handed on as they are: its status, its body, piece by piece where it streams.

What may be handed on is decided above; here are the connections. They are not those of the predictions, whose calls
must not wait for a stranger's.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import yarl

from listener.errors import TritonFailed, Unavailable
from listener.metrics.times import CURRENT
from listener.triton.wire import Answer, ConnectionLost, ProtocolError, Wire

#: To Triton, for whole answers; further requests wait for one.
_CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that comes in pieces.

    Attributes:
        status: of HTTP.
        content_type: the header's value.
        pieces: of the body, as they come; raises Unavailable where Triton goes away in between.
    """

    status: int
    content_type: str
    pieces: AsyncIterator[bytes]

    async def whole(self) -> bytes:
        """All of the body; raises as `pieces` does."""
        return b"".join([piece async for piece in self.pieces])


class Relay:
    """One Triton's own answers. Use `open` and `close` on the loop of the requests.

    Args:
        url: `http://host:port` of its HTTP frontend.
        metrics_url: likewise of its metrics.
        refusal: says why nothing is posted now, as Triton would not answer; "" = it would.
    """

    def __init__(self, url: str, metrics_url: str, refusal: Callable[[], str] = str) -> None:
        self._url, self._refusal = url, refusal
        self._wire, self._host = _wire(url)
        self._metrics, self._metrics_host = _wire(metrics_url)
        self._session: aiohttp.ClientSession

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=["Accept-Encoding", "User-Agent"],
        )

    async def close(self) -> None:
        """Closes every connection: Triton waits its whole exit timeout for open ones."""
        await self._wire.close()
        await self._metrics.close()
        await self._session.close()

    async def get(self, path: str) -> Answer:
        """Triton's answer to a GET.

        Args:
            path: percent-encoded.

        Raises:
            Unavailable: Triton cannot be reached.
            TritonFailed: its answer is none.
        """
        return await _sent(self._wire, f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def metrics(self) -> Answer:
        """Triton's metrics; raises as `get` does."""
        return await _sent(self._metrics, f"GET /metrics HTTP/1.1\r\nHost: {self._metrics_host}\r\n\r\n".encode())

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Triton's answer to a POST.

        Args:
            path: percent-encoded.
            body: as Triton shall get it.
            headers: ours, nothing that a client wrote.

        Raises:
            Unavailable, TritonFailed: as `get`.
        """
        self._refuse()
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **_trace()}.items())
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()
        return await _sent(self._wire, head, body)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncIterator[Stream]:
        """Triton's answer to a POST of JSON, while it comes. Leaving early closes the connection, which ends the call.

        Raises:
            Unavailable: Triton cannot be reached.
        """
        self._refuse()
        headers = {"Content-Type": "application/json", **_trace()}
        try:
            async with self._session.post(
                yarl.URL(f"{self._url}{path}", encoded=True), data=body, headers=headers
            ) as answer:
                yield Stream(answer.status, answer.headers.get("Content-Type", ""), _pieces(answer))
        except aiohttp.ClientError as error:
            raise Unavailable("Triton cannot be reached") from error

    def _refuse(self) -> None:
        if said := self._refusal():
            raise Unavailable(said)


def _trace() -> dict[str, str]:
    """The header of a request whose trace is recorded."""
    times = CURRENT.get()
    return {"traceparent": times.traceparent} if times and times.traceparent else {}


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except aiohttp.ClientError as error:
        raise Unavailable("Triton went away in the middle of its answer") from error


def _wire(url: str) -> tuple[Wire, str]:
    parts = urllib.parse.urlsplit(url)
    return Wire(parts.hostname or "127.0.0.1", parts.port or 80, _CONNECTIONS), parts.netloc


async def _sent(wire: Wire, head: bytes, body: bytes = b"") -> Answer:
    try:
        return await wire.send(head, [body] if body else ())
    except ConnectionLost as error:
        raise Unavailable("Triton cannot be reached") from error
    except ProtocolError as error:
        raise TritonFailed("Triton's answer is none of HTTP") from error
