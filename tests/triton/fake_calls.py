"""Calls to Triton that come back when a test says so, and the callers that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from listener.triton.coalesce import Coalescer
from listener.triton.flight import Flight


class Steady(Flight):
    """A limit that stays; remembers what it was told: rows, calls under way, whether something waits."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.told: list[tuple[int, int, bool]] = []

    def returned(self, now: float, rows: int, under_way: int, waiting: bool) -> None:
        self.told.append((rows, under_way, waiting))


class Triton:
    """Calls that come back when the test says so; `bad` items spoil theirs."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.open = asyncio.Event()
        self.bad: dict[str, Callable[[], Exception]] = {}

    async def run(self, items: Sequence[str]) -> list[str]:
        self.calls.append(list(items))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(items))
            raise
        for item in items:
            if item in self.bad:
                raise self.bad[item]()
        return [item.upper() for item in items]


def made(limit: int = 1, max_rows: int = 4) -> tuple[Coalescer[str, str], Triton, Steady]:
    triton, flight = Triton(), Steady(limit)
    return Coalescer(triton.run, max_rows, flight), triton, flight


def sent(coalescer: Coalescer[str, str], items: str, key: str = "k", rows: int = 1) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(coalescer.infer(key, item, rows)) for item in items]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes(tasks: Sequence[asyncio.Task[str]]) -> list[str | BaseException]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def queued_behind_one(items: str, limit: int = 1) -> tuple[Coalescer[str, str], Triton, list[asyncio.Task[str]]]:
    """A call of '0' under way and `items` in the queue."""
    coalescer, triton, _ = made(limit)
    tasks = sent(coalescer, "0")
    await turns()
    tasks += sent(coalescer, items)
    await turns()
    return coalescer, triton, tasks
