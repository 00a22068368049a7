"""A time of its own for a node, and further attempts."""

from __future__ import annotations

import asyncio
import random
import time

from listener.call import Call, Reply
from listener.errors import DeadlineExceeded, Unavailable
from listener.graph.node import Node

#: Seconds before the second attempt; each further one waits twice as long, less up to a half by chance.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


class Limits:
    """Around a node.

    Args:
        name: for messages.
        node: the node.
        timeout: seconds, all attempts together; None = the request's.
        retry: further attempts where Triton cannot be reached or is not ready (503); nothing else is tried again.
    """

    def __init__(self, name: str, node: Node, timeout: float | None = None, retry: int = 0) -> None:
        self._name, self._node, self._timeout, self._retry = name, node, timeout, retry

    async def __call__(self, call: Call) -> Reply:
        if self._timeout is None:
            return await self._tried(call)
        deadline = min(call.context.deadline, time.monotonic() + self._timeout)
        limited = call._replace(context=call.context._replace(deadline=deadline))
        try:
            async with asyncio.timeout(self._timeout):
                return await self._tried(limited)
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name!r} took longer than its {self._timeout:g} s") from None

    async def _tried(self, call: Call) -> Reply:
        for attempt in range(self._retry):
            try:
                return await self._node(call)
            except Unavailable:
                pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1)
                if pause > call.context.remaining():
                    raise
                await asyncio.sleep(pause)
        return await self._node(call)
