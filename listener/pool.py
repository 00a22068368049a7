"""Threads for work that must not hold the event loop: plain `def` hooks of handlers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Pool:
    """A fixed number of threads behind one `run`.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="handler")

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result, or what it raised, computed in a thread that sees this task's context variables."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, function)

    def close(self) -> None:
        """Takes no more work and drops what has not begun; what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
