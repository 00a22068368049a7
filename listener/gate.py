"""Says yes to a request, or which refusal: phase, permits, deadline.

A request takes its permit whole, before any work: a place among `Limits.requests`, and its body's bytes. Where there is
none it waits in a short row, the one whose time ends first in front; beyond that it is refused. All of it is plain and
fixed by settings: what adapts to the load is how many calls a model has under way (triton/flight.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from listener.errors import BadRequest, DeadlineExceeded, ListenerError, Overloaded, Unavailable
from listener.metrics.meter import Meter
from listener.metrics.times import CURRENT, Times
from listener.shares import Shares
from listener.tracing import End
from listener.waiting import Waiting

if TYPE_CHECKING:  # it needs the extra `otel`
    from listener.spans import Recording, Spans

#: The header with which a caller gives a request less time: seconds. In lower case.
TIME = "x-request-timeout"

#: The status that is counted where nobody is answered: nginx's, as no standard has one.
_CLIENT_LEFT = 499

#: What health and refusals say of a service whose own mistakes are for the log: they name paths.
CANNOT_SERVE = "the service cannot be served; the log has the reason"


class Phase(enum.Enum):
    """The life of a worker: downloading is a part of starting, in front of which and after which it is just that.

    The others come in this order; FAILED may follow each.
    """

    STARTING = "starting"
    DOWNLOADING = "downloading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the requests of one worker may take.

    Attributes:
        requests: permits.
        nbytes: of the bodies of those that hold one.
        waiting: requests that may wait for one.
        route: permits that the requests for one of several routes may hold.
        client: permits that the requests of one address may hold.
    """

    requests: int
    nbytes: int = sys.maxsize
    waiting: int = 0
    route: int = sys.maxsize
    client: int = sys.maxsize


class Permit:
    """A request's stay, in the task that works on it.

    `async with gate.enter() as permit:` is all that is needed. Where a coroutine more is too dear, it is the same as

        with gate.enter() as permit:
            if permit.turn:
                await permit.wait()

    Raises (on entry, `wait` included):
        Unavailable: starting, draining or failed.
        Overloaded: no permit is left, and none to wait for.

    Raises (on exit, in place of what the request was waiting for):
        DeadlineExceeded: the request's time was up.
        Unavailable: the drain's time was.

    Attributes:
        deadline: a `time.monotonic()`; counts from the entry, whether the request waits or not.
        time: seconds that it has.
        nbytes: of its body.
        client: whose it is; "" = nobody asks.
        begun: when the work began; None = with the entry.
        turn: done when the permit is there; None = it was there at once.
        inside: the permit is there.
        route: that it is for; "" = not known yet.
        branch: the step that answers it; "" = none yet, "several" = more than one.
        model: which that one calls.
        times: where its time goes; None = that is not measured.
        recording: of its spans; None = they are not recorded.
        status: of the answer, where no error says it.
    """

    __slots__ = (
        "_after",
        "_cancelling",
        "_gate",
        "_refusal",
        "_shares",
        "_task",
        "_timer",
        "begun",
        "branch",
        "client",
        "deadline",
        "inside",
        "model",
        "nbytes",
        "recording",
        "route",
        "status",
        "time",
        "times",
        "turn",
    )

    def __init__(self, gate: Gate, time: float, nbytes: int, client: str, recording: Recording | None = None) -> None:
        self._gate, self.time, self.nbytes, self.client = gate, time, nbytes, client
        self._timer: asyncio.TimerHandle | None = None  # of one with less time than the others
        self._refusal: ListenerError | None = None
        self._after: list[Callable[[], None]] | None = None
        self._shares: list[tuple[Shares, str]] | None = None
        self.route = self.branch = self.model = ""
        self.times = gate.meter.times() if gate.meter else None
        self.recording = recording
        if recording:
            self.times = self.times or Times(0.0)  # which counts for nothing: the next one stands for it
            self.times.traceparent = recording.traceparent
        self.status = 200
        self.begun: float | None = None
        self.turn: asyncio.Future[None] | None = None
        self.inside = False

    def after(self, act: Callable[[], None]) -> None:
        """Runs something once the answer is with the connection, which is right after the permit's return."""
        self._after = [*(self._after or ()), act]

    def took(self, branch: str, model: str) -> None:
        """A step works on it, or on a part of it."""
        if not self.branch:
            self.branch, self.model = branch, model
        elif self.branch != branch:
            self.branch = self.model = "several"

    def share(self, route: str) -> None:
        """Counts the permit as one of a route's, until it is given back.

        Raises:
            Overloaded: that route has as many as one may have.
        """
        self.hold(self._gate.routes, route)

    def hold(self, shares: Shares, name: str) -> None:
        """As `share`, of any shares."""
        shares.take(name)
        self._shares = [*(self._shares or ()), (shares, name)]

    def __enter__(self) -> Permit:
        task = asyncio.current_task(self._gate.loop)  # without it, asking for the loop is a system call
        if task is None:
            raise RuntimeError("a permit belongs to a task")
        self._task, self._cancelling = task, task.cancelling()
        if self.times:
            CURRENT.set(self.times)
        try:
            self._gate.admit(self)
        except ListenerError as error:
            self._give_shares_back()
            if self._gate.meter:
                self._gate.meter.request("", "", "", error.status)
            if self.recording:
                self._record(self.recording, error.status)
            raise
        if self.time < self._gate.timeout:
            self._end_early()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave(self, kind is None)
        if self._shares:
            self._give_shares_back()
        if self._timer:
            self._timer.cancel()
        task = self._task
        del self._task  # which may still lead here, by the context of its call: that is a cycle
        if self._after:
            acts, self._after = self._after, None
            for act in acts:
                self._gate.loop.call_soon(act)
        refusal = self._refusal
        status = self.status if error is None else self._status(error, refusal)
        if self.recording:
            self._record(self.recording, status)
        if meter := self._gate.meter:
            meter.request(self.route, self.branch, self.model, status)
            if self.times:
                meter.measured(self.times, self.route, *self.began())
        # another cancellation, of whoever waits for this task, goes on as one
        if refusal and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise refusal from None

    def _status(self, error: BaseException, refusal: ListenerError | None) -> int:
        if isinstance(error, asyncio.CancelledError):
            return refusal.status if refusal else _CLIENT_LEFT
        return int(getattr(error, "status", 500))

    def _record(self, recording: Recording, status: int) -> None:
        now, times = time.monotonic(), self.times
        assert times is not None
        times.traceparent = ""  # what goes on behind the answer is no part of it
        begun = recording.entered if self.turn is None else self.begun or now
        recording.ended(times, End(begun, now, status, self.route, self.branch, self.model))

    def began(self) -> tuple[float, float]:
        """When it came, and when it got its permit."""
        entered = self.deadline - self.time
        return entered, entered if self.begun is None else self.begun

    async def wait(self) -> None:
        """Waits for the permit, after an entry that left a `turn`."""
        if self.turn:
            await self.turn

    async def __aenter__(self) -> Permit:
        self.__enter__()
        try:
            await self.wait()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def renew(self) -> None:
        """The request's time begins anew: another piece of its answer has gone out.

        Raises:
            ListenerError: it has been ended before, and whoever makes the pieces did not heed that.
        """
        if self._refusal:
            raise self._refusal
        self.deadline = self._gate.renew(self)
        if self.time < self._gate.timeout:
            self._end_early()

    def _give_shares_back(self) -> None:
        held, self._shares = self._shares or (), None
        for shares, name in held:
            shares.give(name)

    def _end_early(self) -> None:
        """At the deadline. The gate's own timer is that of requests with all of the time."""
        if self._timer:
            self._timer.cancel()
        late = DeadlineExceeded("the request's time is up (X-Request-Timeout)")
        self._timer = self._gate.loop.call_later(self.time, self.end, late)

    def end(self, refusal: ListenerError) -> None:
        """Stops the request where it is; its task goes on with the refusal."""
        if self._refusal is None:
            self._refusal = refusal
            self._task.cancel()


class Gate:
    """Counts the requests inside, lets in no more than the limits allow, and ends those whose time is up.

    Make it on the loop of those requests.

    Args:
        limits: of requests and bytes.
        timeout: seconds that a request has.
        meter: counts requests; None = nobody does.

    Attributes:
        timeout, meter: as above.
        spans: says which requests are recorded; None = none is.
        inside: requests that hold a permit.
        routes: their permits by route.
    """

    def __init__(self, limits: Limits, timeout: float, meter: Meter | None = None) -> None:
        self.timeout, self.meter = timeout, meter
        self.spans: Spans | None = None
        self._most, self._most_bytes = limits.requests, limits.nbytes
        self._counts_clients = limits.client < limits.requests
        # Those inside and those who wait, in the order of their deadlines, as all have the same time; so one timer, for
        # the first, does for all. Those with less time stand among them and have timers of their own.
        self._permits: dict[Permit, None] = {}
        self.inside = self._bytes = 0
        self._waiting: Waiting[Permit] = Waiting(limits.waiting)
        self.routes = Shares(limits.route, "route", "LISTENER_ROUTE_SHARE")
        self._clients = Shares(limits.client, "the client", "LISTENER_CLIENT_SHARE")
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None  # there while somebody waits for it
        self.loop = asyncio.get_running_loop()
        self.phase = Phase.STARTING

    @property
    def waiting(self) -> int:
        """Requests that wait for a permit."""
        return len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of the bodies of those inside."""
        return self._bytes

    def enter(
        self, asked: str | None = None, nbytes: int = 0, client: str = "", recording: Recording | None = None
    ) -> Permit:
        """A context manager that holds a permit.

        Args:
            asked: the value of the header `TIME`; None = there is none.
            nbytes: of the request's body, at most.
            client: its address; counts where one may not have all permits.
            recording: of its spans; None = they are not recorded.

        Raises:
            BadRequest: `asked` is no number of seconds.
        """
        seconds = self.timeout if asked is None else min(_seconds(asked), self.timeout)
        return Permit(self, seconds, nbytes, client, recording)

    def admit(self, permit: Permit) -> None:
        """For `Permit` alone."""
        if self.phase is not Phase.READY:
            raise Unavailable(CANNOT_SERVE if self.phase is Phase.FAILED else f"the listener is {self.phase.value}")
        if self._counts_clients:
            permit.hold(self._clients, permit.client)
        permit.deadline = time.monotonic() + permit.time
        nbytes = self._bytes + permit.nbytes
        if self.inside < self._most and nbytes <= self._most_bytes and not self._waiting.row:
            self.inside += 1  # as `_let_in`, which would be a call for each request
            self._bytes = nbytes
            permit.inside = True
        else:
            self._let_wait(permit)
        self._permits[permit] = None
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout, self._end_the_late)

    def renew(self, permit: Permit) -> float:
        """For `Permit` alone."""
        del self._permits[permit]  # to the end of the row
        self._permits[permit] = None
        return time.monotonic() + permit.time

    def leave(self, permit: Permit, answered: bool) -> None:
        """For `Permit` alone."""
        del self._permits[permit]
        if permit.inside:
            self.inside -= 1
            self._bytes -= permit.nbytes
        else:
            self._waiting.remove(permit)
        if self._waiting.row:
            self._next(permit, answered)
        if self._emptied and not self._permits and not self._emptied.done():
            self._emptied.set_result(None)

    def _let_in(self, permit: Permit) -> None:
        self.inside += 1
        self._bytes += permit.nbytes
        permit.inside = True

    def _let_wait(self, permit: Permit) -> None:
        self._end_hopeless()
        if self._waiting.is_full:
            raise Overloaded(self._why())
        permit.turn = self.loop.create_future()
        self._waiting.add(permit)

    def _why(self) -> str:
        full = self.inside >= self._most
        # of one wording, so that the log can count them
        held = f"{self.inside} requests" if full else f"requests of {self._most_bytes >> 20} MiB"
        setting = "LISTENER_MAX_REQUESTS" if full else "LISTENER_MAX_BYTES"
        waiting = f", and {len(self._waiting)} wait (LISTENER_QUEUE)" if self._waiting else ""
        return f"{held} are being worked on already ({setting}){waiting}"

    def _next(self, left: Permit, answered: bool) -> None:
        """Gives what has been given back to those who wait, in their order: one with a large body keeps its place."""
        if answered and left.inside:
            self._waiting.learn(time.monotonic() - left.began()[1])
        self._end_hopeless()
        while (first := self._waiting.first) is not None:
            if self.inside >= self._most or self._bytes + first.nbytes > self._most_bytes:
                return
            self._waiting.remove(first)
            self._let_in(first)
            first.begun = time.monotonic()
            assert first.turn is not None
            if not first.turn.done():  # it is where it has just been ended; its exit gives the permit back
                first.turn.set_result(None)

    def _end_hopeless(self) -> None:
        for permit in self._waiting.hopeless(time.monotonic()):
            permit.end(DeadlineExceeded("the request's time would be up before its answer was there"))

    def _end_the_late(self) -> None:
        now, self._timer = time.monotonic(), None
        for permit in self._permits:
            # a timer may come a little early; what is as good as late would need another one
            if permit.deadline > now + 0.001:
                self._timer = self.loop.call_later(permit.deadline - now, self._end_the_late)
                break
            permit.end(DeadlineExceeded("the request's time is up (LISTENER_TIMEOUT)"))

    async def drain(self, patience: float) -> bool:
        """Lets no new ones in any more and waits for those that are here, with a permit or not.

        Returns:
            Whether all left within `patience` seconds.
        """
        self.phase = Phase.DRAINING
        if self._permits:
            self._emptied = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, patience)
        return not self._permits

    def cut_off(self) -> int:
        """Ends every request that is here with a refusal. Returns how many there were."""
        for permit in self._permits:
            permit.end(Unavailable("the listener stopped before the answer was there"))
        return len(self._permits)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:  # neither is NaN
        raise BadRequest(f"X-Request-Timeout: {text[:40]!r} is not a number of seconds above 0")
    return seconds
