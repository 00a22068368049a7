"""Several calls at once, of which the first failure ends the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def at_once(calls: Sequence[Callable[[], Awaitable[T]]], limit: int | None = None) -> list[T]:
    """Results in order; the first failure cancels the rest and is raised as it is.

    Args:
        calls: begin when they are called.
        limit: of those that run at a time; None = all of them.
    """
    if len(calls) == 1:
        return [await calls[0]()]
    results: dict[int, T] = {}
    remaining = iter(enumerate(calls))

    async def work() -> None:
        for index, call in remaining:
            results[index] = await call()

    tasks = [asyncio.create_task(work()) for _ in range(min(limit or len(calls), len(calls)))]
    try:
        # not gather, which loses a cancellation that comes when one of several calls has just failed
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in filter(done.__contains__, tasks):
            task.result()
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return [results[index] for index in range(len(calls))]
