"""Says yes to a request, or which refusal: phase, permits, deadline."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from listener.errors import DeadlineExceeded, Overloaded, Unavailable


class Phase(enum.Enum):
    """The life of a worker, in this order; FAILED may follow each."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Gate:
    """Counts the requests inside and lets in no more than `limit`.

    Args:
        limit: permits.
        timeout: seconds that a request has.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit, self._timeout = limit, timeout
        self._inside = 0
        self._limits: set[asyncio.Timeout] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.phase = Phase.STARTING

    @property
    def inside(self) -> int:
        return self._inside

    @contextmanager
    def enter(self) -> Iterator[float]:
        """Holds a permit; gives the request's deadline as a `time.monotonic()`.

        Raises:
            Unavailable: starting, draining or failed.
            Overloaded: no permit is left.
        """
        if self.phase is not Phase.READY:
            raise Unavailable(f"the listener is {self.phase.value}")
        if self._inside >= self._limit:
            raise Overloaded(f"{self._limit} requests are being worked on already")
        self._inside += 1
        self._empty.clear()
        try:
            yield time.monotonic() + self._timeout
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def limit(self, deadline: float) -> AsyncIterator[None]:
        """Ends what is inside when a request's time is up, or when the drain's is.

        Args:
            deadline: as `enter` gave it.

        Raises:
            DeadlineExceeded: the request's time was up.
            Unavailable: the drain's time was.
        """
        try:
            async with asyncio.timeout(deadline - time.monotonic()) as timeout:
                self._limits.add(timeout)
                try:
                    yield
                finally:
                    self._limits.discard(timeout)
        except TimeoutError:
            if time.monotonic() < deadline:
                raise Unavailable("the listener stopped before the answer was there") from None
            raise DeadlineExceeded("the request's time is up (LISTENER_TIMEOUT)") from None

    async def drain(self, patience: float) -> bool:
        """Lets nobody in any more and waits for those inside. Returns whether all left within `patience` seconds."""
        self.phase = Phase.DRAINING
        try:
            await asyncio.wait_for(self._empty.wait(), patience)
        except TimeoutError:  # also of a patience of 0, however empty the gate
            return not self._inside
        return True

    def cut_off(self) -> int:
        """Ends every request inside with a refusal. Returns how many there were."""
        for timeout in self._limits:
            timeout.reschedule(asyncio.get_running_loop().time())
        return self._inside
