"""Where the time of one request went, by its phases."""

from __future__ import annotations

from contextvars import ContextVar

#: In the order in which a request has them.
PHASES = ("queue", "preprocess", "coalesce", "triton", "postprocess", "encode")
#: Server-Timing's value with all of them, and that of a request that called no model.
_CALLED = ", ".join(f"{phase};dur=%.3f" for phase in PHASES)
_UNCALLED = "queue;dur=%.3f, preprocess;dur=%.3f, encode;dur=%.3f"


class Times:
    """What is known of a request whose time is measured. All are seconds, of `time.monotonic()` where they are moments.

    A request may call models several times, one after the other or side by side: the waits and calls add up, and
    `preprocess` and `postprocess` are what lies before the first call and behind the last one.

    Args:
        weight: requests for which this one stands.

    Attributes:
        read: when its body was there.
        called: when it first wanted to call a model; 0 = it did not.
        answered: when it had its last answer of a model.
        waited: for other calls to come back, before its own could leave.
        triton: that its calls took.
        replied: when the graph was done with it.
        traceparent: with which models are called, where it is recorded; "" = it is not, or is over.
    """

    # no __slots__: what stands here need not be set for each request
    read = called = answered = replied = waited = triton = 0.0
    traceparent = ""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def call(self, begun: float, left: float, back: float) -> None:
        """It called a model: wanted to at `begun`, did so at `left`, and had the answer at `back`."""
        if not self.called:
            self.called = begun
        self.waited += left - begun
        self.triton += back - left
        self.answered = back

    def phases(self, queued: float, now: float) -> tuple[float, ...]:
        """Seconds of each of `PHASES`, for a request that was answered; -1 = it had no such phase.

        Args:
            queued: seconds that it waited for its permit.
            now: when its answer was encoded.
        """
        encode = now - self.replied
        if not self.called:
            return queued, self.replied - self.read, -1.0, -1.0, -1.0, encode
        before, after = self.called - self.read, self.replied - self.answered
        return queued, before, self.waited, self.triton, after, encode

    def header(self, queued: float, now: float) -> str:
        """The value of Server-Timing (https://www.w3.org/TR/server-timing/), in milliseconds; arguments as above."""
        milliseconds = tuple([seconds * 1e3 for seconds in self.phases(queued, now) if seconds != -1.0])
        return (_CALLED if self.called else _UNCALLED) % milliseconds


#: Of the request whose task this is; None where its time is not measured, or nobody is answered, as at a warm-up. A
#: task that is done with one request may have that one's still, which nobody reads any more.
CURRENT: ContextVar[Times | None] = ContextVar("times", default=None)
