"""Requests whose answers are known, one after the other on many connections, and what became of each.

A request's numbers are its own, so that an answer which belongs to another one, or to none, is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

#: What the listener may answer under faults in place of the prediction: docs/reference/contract.md, "Errors".
REFUSALS = frozenset({429, 500, 502, 503, 504})
#: The words of a connection that ended before an answer; a process that is killed cannot say more.
CLOSED = "closed"
#: Seconds after which a request hangs: twice the time that the listener gives it.
HANGS = 6.0
#: Seconds that a client waits after a refusal; Retry-After says 1, which would be too few requests for us.
_PAUSE = 0.02
#: Routes, and how many numbers an instance has: few as text of an RPC, and more than a small answer holds.
_KINDS = (("triple", 4), ("triple", 4), ("triple", 4), ("triple", 400), ("apart", 4))


@dataclass
class Seen:
    """What became of the requests.

    Attributes:
        right: answered with their own prediction.
        refused: by status, or `CLOSED`.
        wrong: what was wrong, in words.
        hung: answered by nobody in time.
        last_refusal: when, as a `time.monotonic()`.
    """

    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hung: int = 0
    last_refusal: float = 0.0

    @property
    def requests(self) -> int:
        return self.right + self.refused.total() + len(self.wrong) + self.hung

    def refuse(self, how: str) -> None:
        self.refused[how] += 1
        self.last_refusal = time.monotonic()


class Load:
    """Asks one listener until it is told to stop.

    Args:
        url: of the listener.
        clients: connections, each with one request at a time.
    """

    def __init__(self, url: str, clients: int) -> None:
        self._url, self._clients = url, clients
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Seen]:
        """Asks while inside; what is under way at the end is waited for."""
        seen = Seen()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            tasks = [asyncio.create_task(self._client(session, seen, number)) for number in range(self._clients)]
            try:
                yield seen
            finally:
                self._stop.set()
                await asyncio.gather(*tasks)

    async def _client(self, session: aiohttp.ClientSession, seen: Seen, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            before = seen.last_refusal
            await self._ask(session, seen, chance)
            if seen.last_refusal != before:
                await asyncio.sleep(_PAUSE)

    async def _ask(self, session: aiohttp.ClientSession, seen: Seen, chance: random.Random) -> None:
        route, size = chance.choice(_KINDS)
        instances = [[chance.randrange(1_000_000) / 8 for _ in range(size)] for _ in range(chance.randint(1, 3))]
        body = orjson.dumps({"instances": instances, "parameters": {"model": route}})
        headers = {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(HANGS):
                async with session.post(f"{self._url}/predict", data=body, headers=headers) as answer:
                    told = await answer.read()
        except TimeoutError:
            seen.hung += 1
        except aiohttp.ClientError:
            seen.refuse(CLOSED)
        else:
            judge(seen, answer.status, told, expected(instances))


def judge(seen: Seen, status: int, body: bytes, right: dict[str, Any] | None) -> None:
    """Counts an answer.

    Args:
        seen: where.
        status, body: the answer.
        right: the body of the right one, as JSON is read; None = no prediction is right.
    """
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        seen.wrong.append(f"{status}, which is no JSON: {body[:80]!r}")
        return
    if status == 200 and told == right:
        seen.right += 1
    elif status in REFUSALS and isinstance(told, dict) and isinstance(told.get("error"), str):
        seen.refuse(str(status))
    else:
        seen.wrong.append(f"{status}: {body[:200]!r}")


def expected(instances: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The body of the right answer, as JSON is read; 3 x + 1 is exact for these numbers."""
    return {"predictions": [[3.0 * number + 1.0 for number in instance] for instance in instances]}
