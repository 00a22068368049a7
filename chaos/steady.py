"""Requests of all kinds at a fixed rate, some of them bad, some of them left; and connections that only come and go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import numpy as np
import orjson

from chaos.load import CLOSED, HANGS, Seen, expected, judge

#: Requests on their way at a time, at the most.
_CLIENTS = 32
#: Idle connections, and the longest time that one of them lasts, in seconds: longer than the listener's patience.
_IDLE, _LONGEST = 24, 100.0
#: Numbers of a raw body, 160 KiB of FP64: more than what goes to Triton as bytes.
RAW = 20_480
_JSON, _OCTETS = {"Content-Type": "application/json"}, {"Content-Type": "application/octet-stream"}
#: Bodies that are 400, with their media types.
BAD = (
    (b'{"instances": [["x"]]}', _JSON),
    (b'{"instances": [[1.0], [2.0', _JSON),
    (b'{"instances": 7}', _JSON),
    (b'{"instances": [[1.0]], "parameters": {"model": "none"}}', _JSON),
    (bytes(13), _OCTETS),
)

Ask = Callable[[random.Random], Awaitable[None]]


class Steady:
    """Asks one listener at a fixed rate; slower where the listener is.

    Args:
        url: of the listener.
        rate: requests a second.

    Attributes:
        seen: what became of those that waited for an answer; a bad one is right with its 400.
        sent: by kind.
    """

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, rate
        self.seen, self.sent = Seen(), Counter[str]()
        self._session: aiohttp.ClientSession
        self._over = asyncio.Event()
        #: Each kind's part of a thousand requests.
        self._kinds: dict[str, tuple[int, Ask]] = {
            "small": (580, lambda chance: self._json(chance, "triple", 4)),
            "large": (150, lambda chance: self._json(chance, "triple", 400)),
            "offload": (120, lambda chance: self._json(chance, "apart", 4)),
            "raw": (30, self._raw),
            "bad": (70, self._bad),
            "left": (50, self._left),
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks while inside; what is under way at the end is waited for."""
        due = self._due(time.monotonic())
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as self._session:
            asking = [asyncio.create_task(self._client(due, number)) for number in range(_CLIENTS)]
            idling = [asyncio.create_task(self._idle(number)) for number in range(_IDLE)]
            try:
                yield
            finally:
                self._over.set()
                await asyncio.gather(*asking)
                for task in idling:
                    task.cancel()
                await asyncio.gather(*idling, return_exceptions=True)
                await asyncio.sleep(0.1)  # what is closed goes in the loop's next turns

    def _due(self, begin: float) -> Iterator[float]:
        """When each request is due; what was missed by more than a second is not made up for."""
        for number in itertools.count():
            begin = max(begin, time.monotonic() - 1.0 - number / self._rate)
            yield begin + number / self._rate

    async def _client(self, due: Iterator[float], number: int) -> None:
        chance = random.Random(number)
        names, parts = list(self._kinds), [part for part, _ in self._kinds.values()]
        while not self._over.is_set():
            await asyncio.sleep(next(due) - time.monotonic())
            (kind,) = chance.choices(names, parts)
            self.sent[kind] += 1
            await self._kinds[kind][1](chance)

    async def _json(self, chance: random.Random, route: str, size: int) -> None:
        instances = [[chance.randrange(1_000_000) / 8 for _ in range(size)] for _ in range(chance.randint(1, 3))]
        body = orjson.dumps({"instances": instances, "parameters": {"model": route}})
        if answer := await self._post(body, _JSON):
            judge(self.seen, *answer, expected(instances))

    async def _raw(self, chance: random.Random) -> None:
        numbers = np.arange(RAW, dtype=np.float64) + chance.randrange(1_000_000)
        if answer := await self._post(numbers.tobytes(), _OCTETS):
            judge(self.seen, *answer, {"predictions": [(3.0 * numbers + 1.0).tolist()]})

    async def _bad(self, chance: random.Random) -> None:
        body, headers = chance.choice(BAD)
        if answer := await self._post(body, headers):
            status, told = answer
            if status == 400 and list(orjson.loads(told)) == ["error"]:
                self.seen.right += 1
            else:
                judge(self.seen, status, told, None)

    async def _left(self, chance: random.Random) -> None:
        """A client that goes after a part of its request, or of its time."""
        body = bytes(RAW * 8) if chance.random() < 0.2 else orjson.dumps({"instances": [[1.0, 2.0]] * 20})
        media = _OCTETS if len(body) == RAW * 8 else _JSON
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {media['Content-Type']}\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with contextlib.suppress(OSError):
            writer = await self._connected()
            writer.write(request[: chance.randint(0, len(request))] if chance.random() < 0.5 else request)
            await asyncio.sleep(chance.random() * 0.02)
            writer.transport.abort()

    async def _idle(self, number: int) -> None:
        chance = random.Random(-number)
        while True:
            with contextlib.suppress(OSError):
                writer = await self._connected()
                try:
                    await asyncio.sleep(chance.random() * _LONGEST)
                finally:
                    writer.close()
            await asyncio.sleep(chance.random())

    async def _connected(self) -> asyncio.StreamWriter:
        host, _, port = self._url.rpartition("/")[2].partition(":")
        return (await asyncio.open_connection(host, int(port)))[1]

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes] | None:
        try:
            async with asyncio.timeout(HANGS):
                async with self._session.post(f"{self._url}/predict", data=body, headers=headers) as answer:
                    return answer.status, await answer.read()
        except TimeoutError:
            self.seen.hung += 1
        except aiohttp.ClientError:
            self.seen.refuse(CLOSED)
        return None
