"""A time of its own for a node, and further attempts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from listener.call import Call, Reply
from listener.decoupled import Piece
from listener.errors import DeadlineExceeded, Unavailable
from listener.graph.node import Node
from listener.graph.streaming import stream

#: Seconds before the second attempt; each further one waits twice as long, less up to a half by chance.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
#: In the place of a piece, after the last one.
_END = object()


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
        call = self._shared(call)
        if self._timeout is None:
            return await self._tried(call)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._tried(_until(call, self._timeout))
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name!r} took longer than its {self._timeout:g} s") from None

    def _shared(self, call: Call) -> Call:
        return call._replace(shared=True) if self._retry else call

    async def _tried(self, call: Call) -> Reply:
        for attempt in range(self._retry):
            try:
                return await self._node(call)
            except Unavailable:
                if not await _paused(attempt, call):
                    raise
        return await self._node(call)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """As pieces: the time is until the first one, then between two; after the first one nothing is tried again."""
        call = self._shared(call)
        clock = asyncio.get_running_loop().time
        until = None if self._timeout is None else clock() + self._timeout
        for attempt in range(self._retry + 1):
            begun = False
            try:
                asked = call if self._timeout is None else _until(call, self._timeout)
                async with aclosing(stream(self._node, asked)) as pieces:
                    while True:
                        async with asyncio.timeout_at(until):
                            piece = await anext(pieces, _END)
                        if piece is _END:
                            return
                        begun = True
                        yield piece
                        until = None if self._timeout is None else clock() + self._timeout
            except Unavailable:
                if begun or attempt == self._retry or not await _paused(attempt, call):
                    raise
            except TimeoutError:
                raise DeadlineExceeded(f"{self._name!r} took longer than its {self._timeout:g} s") from None


def _until(call: Call, seconds: float) -> Call:
    """The call with so much time from now on, if it had more."""
    deadline = min(call.context.deadline, time.monotonic() + seconds)
    return call._replace(context=call.context._replace(deadline=deadline))


async def _paused(attempt: int, call: Call) -> bool:
    """Waits before the next attempt; False = the request has no time left for that."""
    pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1)
    if pause > call.context.remaining():
        return False
    await asyncio.sleep(pause)
    return True
