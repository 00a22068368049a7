"""A child process that is kept: started again whenever it has ended, and replaced when somebody asks for that."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from listener.errors import ConfigError
from listener.process import EX_CONFIG, Backoff, Child

log = logging.getLogger("listener.parent")

#: Starts that fail before a patient keeper waits for a change: one more than the first, as that may be bad luck.
_PATIENT_LIMIT = 2


class GaveUp(Exception):
    """A child cannot be kept running; the text is one sentence, or empty where others say what is wrong."""


@dataclass(eq=False)
class Kept:
    """One child.

    Attributes:
        name: for log lines.
        begin: starts it; a ConfigError means that it cannot be started as things are.
        watch: runs beside each start; calls its second argument when the child is ready.
        retire: stops a child in whose place another one is about to be started. It may leave that to a task.
        patient: what is beyond help waits for `renew` instead of giving up.
        begun: set once it has been started since the last `renew`.
        ready: set once it has been ready since then.
        waiting: it is beyond help until `renew`.
    """

    name: str
    begin: Callable[[], Awaitable[Child]]
    watch: Callable[[Child, Callable[[], None]], Coroutine[None, None, None]]
    retire: Callable[[Child], Awaitable[None]]
    patient: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: bool = False
    _renewed: asyncio.Event = field(default_factory=asyncio.Event)

    def renew(self) -> None:
        """Has another child take the place of the one that runs, or is waited for; from now on it may fail anew."""
        self.begun.clear()
        self.ready.clear()
        self._renewed.set()

    async def run(self) -> None:
        """Starts the child whenever it has ended.

        Raises:
            GaveUp: it is set up wrongly, or ends again and again before it is ready; not if `patient`.
        """
        backoff = self._backoff()
        while True:
            self._renewed.clear()
            try:
                delay: float | None = await self._live(backoff)
            except GaveUp as reason:
                if not self.patient:
                    raise
                for sentence in str(reason).splitlines():
                    log.error("%s", sentence)
                delay = None
            self.waiting = delay is None
            await _within(self._renewed, delay)
            self.waiting = False
            if self._renewed.is_set():
                backoff = self._backoff()

    def _backoff(self) -> Backoff:
        return Backoff(limit=_PATIENT_LIMIT) if self.patient else Backoff()

    async def _live(self, backoff: Backoff) -> float:
        """One start and its end; returns the seconds until the next start."""
        ready = asyncio.Event()

        def is_ready() -> None:
            ready.set()
            if not self._renewed.is_set():
                self.ready.set()

        try:
            child = await self.begin()
        except ConfigError as error:
            raise GaveUp(str(error)) from None
        log.debug("%s started as process %d", self.name, child.pid)
        if not self._renewed.is_set():
            self.begun.set()
        watching = asyncio.create_task(self.watch(child, is_ready))
        try:
            status = await self._status(child)
        finally:
            watching.cancel()
        if status is None:
            await self.retire(child)
            return 0.0
        if status == EX_CONFIG and self.name != "triton":
            raise GaveUp(f"{self.name} cannot start as it is set up; its own message says why")
        delay = backoff.after_exit(ready.is_set())
        if delay is None:
            raise GaveUp(
                f"{self.name} ended with status {status} at each of its last {backoff.limit} starts, never ready; "
                "its log or `listener check` says why"
            )
        log.error("%s ended with status %d; starting it again in %g s", self.name, status, delay)
        return delay

    async def _status(self, child: Child) -> int | None:
        """The exit status of a child that has ended by itself; None for one that is to be replaced."""
        ended, renewed = asyncio.create_task(child.wait()), asyncio.create_task(self._renewed.wait())
        try:
            await asyncio.wait({ended, renewed}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else None
        finally:
            ended.cancel()
            renewed.cancel()


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    """Waits for an event, or until so many seconds have passed; None: as long as it takes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
