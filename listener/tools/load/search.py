"""Which steps keep the objective, and at which rate to try next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from listener.tools.load.figures import Figures

#: Share of requests that may fail, and of those offered that have to be answered while the step lasts.
ERRORS, ANSWERED = 0.001, 0.98
#: But for what is under way at its end: as many as there are if each takes as long as it may, at least so many requests
#: and at most such a part of them.
FEW, MANY = 5, 0.1
#: Of the generator: its lag as a part of the objective, but for a millisecond, and its share of a CPU.
LAG, LEAST_LAG, BUSY = 0.2, 1.0, 0.9
#: A step that misses by less than this, without an error, may have met a hiccup, and is tried again.
_NARROW = 2.0
#: The knee is known well enough when the rates that kept and missed are that close; a ramp goes by this factor.
CLOSE, RAMP = 1.04, 2.0
#: Requests per second below which nobody looks.
LEAST = 0.5


@dataclass(frozen=True)
class Objective:
    """What answers have to keep.

    Attributes:
        p99: milliseconds, from when a request was to leave.
    """

    p99: float

    def misses(self, figures: Figures) -> list[str]:
        """What a step does not keep, in words; none = it keeps all of it."""
        late = not figures.p99 <= self.p99  # NaN is none either
        short = (figures.offered * ANSWERED - figures.achieved) * figures.seconds
        under_way = max(FEW, min(figures.offered * self.p99 / 1e3, MANY * figures.requests))
        return [
            *([f"p99 {figures.p99:,.1f} ms"] if late and not math.isnan(figures.p99) else []),
            *([f"{figures.error_rate:.2%} errors"] if figures.error_rate >= ERRORS else []),
            *(["no answers"] if math.isnan(figures.p99) else []),
            *([f"{figures.achieved:,.0f}/s answered"] if short > under_way else []),
        ]

    def is_narrow(self, figures: Figures) -> bool:
        """Whether a step that misses may have met a hiccup of the machine."""
        return figures.p99 < self.p99 * _NARROW and not figures.failed

    def generator_was_slow(self, figures: Figures) -> bool:
        """Whether a step says more of the generator than of the server: no CPU was left, or its lag alone missed."""
        missed_by_lag = self.p99 < figures.p99 <= self.p99 + figures.lag_p99
        return figures.cpu > BUSY or (self.generator_was_late(figures) and missed_by_lag)

    def generator_was_late(self, figures: Figures) -> bool:
        """Whether requests left so late that this is a good part of their times."""
        return figures.lag_p99 > max(LAG * self.p99, LEAST_LAG)


@dataclass(frozen=True)
class Tried:
    """A step, for the search.

    Attributes:
        rate: that was offered.
        kept: whether it kept the objective.
        narrow: it missed, and may keep it at another try.
    """

    rate: float
    kept: bool
    narrow: bool = False


def bracket(tried: Sequence[Tried]) -> tuple[float, float]:
    """The highest rate that kept the objective below the lowest one that did not; 0 and infinity where there is none.

    The last try at a rate counts.
    """
    last = {one.rate: one.kept for one in tried}
    high = min((rate for rate, kept in last.items() if not kept), default=math.inf)
    return max((rate for rate, kept in last.items() if kept and rate < high), default=0.0), high


def next_rate(tried: Sequence[Tried], first: float) -> float | None:
    """Twice as much while the objective is kept, then the geometric middle; None: it is known well enough.

    Args:
        tried: the steps so far.
        first: the rate to begin with.
    """
    if not tried:
        return first
    low, high = bracket(tried)
    if math.isinf(high):
        return rounded(low * RAMP)
    if tried[-1].narrow and sum(one.rate == high for one in tried) == 1 == sum(not one.kept for one in tried):
        return high  # the end of the ramp is looked at twice, as all that follows lies below it
    if low == 0:
        return rounded(high / RAMP) if high / RAMP >= LEAST else None
    return rounded(math.sqrt(low * high)) if high / low > CLOSE else None


def rounded(rate: float) -> float:
    """To three digits, as nobody remembers more."""
    return float(f"{rate:.3g}")
