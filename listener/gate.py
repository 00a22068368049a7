"""Says yes to a request, or which refusal: phase, permits, deadline."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable
from types import TracebackType

from listener.errors import DeadlineExceeded, ListenerError, Overloaded, Unavailable

#: What health and refusals say of a service whose own mistakes are for the log: they name paths.
CANNOT_SERVE = "the service cannot be served; the log has the reason"


class Phase(enum.Enum):
    """The life of a worker, in this order; FAILED may follow each."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Permit:
    """A request's stay: `with gate.enter() as deadline:` in the task that works on it.

    Raises (on entry):
        Unavailable: starting, draining or failed.
        Overloaded: no permit is left.

    Raises (on exit, in place of what the request was waiting for):
        DeadlineExceeded: the request's time was up.
        Unavailable: the drain's time was.
    """

    __slots__ = ("_after", "_cancelling", "_gate", "_refusal", "_task", "deadline")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._refusal: ListenerError | None = None
        self._after: list[Callable[[], None]] | None = None

    def after(self, act: Callable[[], None]) -> None:
        """Runs something once the answer is with the connection, which is right after the permit's return."""
        self._after = [*(self._after or ()), act]

    def __enter__(self) -> float:
        task = asyncio.current_task(self._gate.loop)  # without it, asking for the loop is a system call
        if task is None:
            raise RuntimeError("a permit belongs to a task")
        self._task, self._cancelling = task, task.cancelling()
        self.deadline = self._gate.admit(self)
        return self.deadline

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave(self)
        task = self._task
        del self._task  # which may still lead here, by the context of its call: that is a cycle
        if self._after:
            acts, self._after = self._after, None
            for act in acts:
                self._gate.loop.call_soon(act)
        refusal = self._refusal
        # another cancellation, of whoever waits for this task, goes on as one
        if refusal and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise refusal from None

    def renew(self) -> None:
        """The request's time begins anew: another piece of its answer has gone out.

        Raises:
            ListenerError: it has been ended before, and whoever makes the pieces did not heed that.
        """
        if self._refusal:
            raise self._refusal
        self.deadline = self._gate.renew(self)

    def end(self, refusal: ListenerError) -> None:
        """Stops the request where it is; its task goes on with the refusal."""
        if self._refusal is None:
            self._refusal = refusal
            self._task.cancel()


class Gate:
    """Counts the requests inside, lets in no more than `limit`, and ends those whose time is up.

    Make it on the loop of those requests.

    Args:
        limit: permits.
        timeout: seconds that a request has.

    Attributes:
        timeout: as above.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit, self.timeout = limit, timeout
        # in the order of their deadlines, as all have the same time; so one timer, for the first, does for all
        self._permits: dict[Permit, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None  # there while somebody waits for it
        self.loop = asyncio.get_running_loop()
        self.phase = Phase.STARTING

    @property
    def inside(self) -> int:
        return len(self._permits)

    def enter(self) -> Permit:
        """A context manager that holds a permit; it gives the request's deadline as a `time.monotonic()`."""
        return Permit(self)

    def admit(self, permit: Permit) -> float:
        """For `Permit` alone."""
        if self.phase is not Phase.READY:
            raise Unavailable(CANNOT_SERVE if self.phase is Phase.FAILED else f"the listener is {self.phase.value}")
        if len(self._permits) >= self._limit:
            raise Overloaded(f"{self._limit} requests are being worked on already")
        self._permits[permit] = None
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout, self._end_the_late)
        return time.monotonic() + self.timeout

    def renew(self, permit: Permit) -> float:
        """For `Permit` alone."""
        del self._permits[permit]  # to the end of the row
        self._permits[permit] = None
        return time.monotonic() + self.timeout

    def leave(self, permit: Permit) -> None:
        """For `Permit` alone."""
        del self._permits[permit]
        if self._emptied and not self._permits and not self._emptied.done():
            self._emptied.set_result(None)

    def _end_the_late(self) -> None:
        now, self._timer = time.monotonic(), None
        for permit in self._permits:
            # a timer may come a little early; what is as good as late would need another one
            if permit.deadline > now + 0.001:
                self._timer = self.loop.call_later(permit.deadline - now, self._end_the_late)
                break
            permit.end(DeadlineExceeded("the request's time is up (LISTENER_TIMEOUT)"))

    async def drain(self, patience: float) -> bool:
        """Lets nobody in any more and waits for those inside. Returns whether all left within `patience` seconds."""
        self.phase = Phase.DRAINING
        if self._permits:
            self._emptied = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, patience)
        return not self._permits

    def cut_off(self) -> int:
        """Ends every request inside with a refusal. Returns how many there were."""
        for permit in self._permits:
            permit.end(Unavailable("the listener stopped before the answer was there"))
        return len(self._permits)
