"""Waiting awake for an answer that is about to come.

A thread that sleeps in the kernel is woken some 50 us after its data are there, and longer on a virtual machine. For a
call that takes 200 us that is much. So while a single call is under way, and calls have been short of late, the event
loop does not go to sleep; it still serves everything that comes. Slow models, several calls at a time and an idle
listener cost nothing. docs/adr/0009-hot-path.md has the figures.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

#: Weight of the newest call in the mean.
_NEWEST = 0.2


class Vigil:
    """Keeps the loop awake for one answer at a time.

    Args:
        longest: seconds; calls that take longer on average are slept through. 0 = always sleep.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._usual = 0.0  # seconds that calls take

    def watch(self, answer: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Keeps the loop awake until the answer is there, or for `longest`.

        To be called when a single call has just been sent; each one's time counts for the next.
        """
        if not self._longest:
            return
        begun = time.monotonic()
        awake = self._usual <= self._longest

        def look() -> None:
            if not answer.done() and time.monotonic() - begun < self._longest:
                loop.call_soon(look)

        def learn(_: object) -> None:
            self._usual += _NEWEST * (time.monotonic() - begun - self._usual)

        answer.add_done_callback(learn)
        if awake:
            look()
