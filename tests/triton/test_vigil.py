"""When the loop stays awake for an answer, and when it sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from listener.triton.vigil import Vigil


class Loop:
    """Remembers what is to be called in its next turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)

    def turn(self) -> bool:
        """Whether there was something to do."""
        due, self.soon = self.soon, []
        for function in due:
            function()
        return bool(due)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


async def call(watcher: Vigil, clock: list[float], seconds: float, turns: int = 10) -> int:
    """A call of so many seconds; in how many of the loop's turns it was waited for awake."""
    loop: Any = Loop()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watcher.watch(answer, loop)
    awake = 0
    for _ in range(turns):
        clock[0] += seconds / turns
        awake += loop.turn()
    answer.set_result(None)
    await asyncio.sleep(0)
    loop.turn()
    assert not loop.turn()
    return awake


async def test_a_short_call_is_waited_for_awake(clock: list[float]) -> None:
    watcher = Vigil(0.0005)
    assert await call(watcher, clock, 0.0002) == 10


async def test_a_long_one_is_until_the_time_is_up(clock: list[float]) -> None:
    watcher = Vigil(0.0005)
    assert await call(watcher, clock, 0.005) == 1


async def test_long_calls_teach_it_to_sleep_and_short_ones_to_wake(clock: list[float]) -> None:
    watcher = Vigil(0.0005)
    for _ in range(20):
        await call(watcher, clock, 0.02)
    assert await call(watcher, clock, 0.02) == 0
    for _ in range(40):
        await call(watcher, clock, 0.0001)
    assert await call(watcher, clock, 0.0001) == 10


async def test_zero_is_never(clock: list[float]) -> None:
    assert await call(Vigil(0), clock, 0.0001) == 0
