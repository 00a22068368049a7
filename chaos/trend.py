"""Whether a quantity grows: its slope by least squares, without the beginning of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Of a run, the part in which caches and pools get their size.
WARM_UP = 0.25
#: Seconds; over less than these no slope says anything.
LEAST = 300.0


@dataclass(frozen=True)
class Trend:
    """One quantity over a run, in its own unit.

    Attributes:
        first, last, low, high: of the whole run.
        slope: per hour, after the warm-up.
        rise: by that slope, over the time after the warm-up.
        seconds: that time.
    """

    first: float
    last: float
    low: float
    high: float
    slope: float
    rise: float
    seconds: float

    def verdict(self, allowed: float) -> str:
        """`steady` or `grows`; `too short` where nobody can say.

        Args:
            allowed: what it may rise by, as noise.
        """
        if self.seconds < LEAST:
            return "too short"
        return "grows" if self.rise > allowed else "steady"


def trend(seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """Of samples in the order of their times.

    Raises:
        ValueError: there are not two of different times after the warm-up.
    """
    begin = seconds[0] + WARM_UP * (seconds[-1] - seconds[0])
    after = [(second, value) for second, value in zip(seconds, values, strict=True) if second >= begin]
    times, late = [second for second, _ in after], [value for _, value in after]
    if len(after) < 2 or times[0] == times[-1]:
        raise ValueError("a trend needs two samples after the warm-up")
    each_second = statistics.linear_regression(times, late).slope
    lasted = times[-1] - times[0]
    return Trend(values[0], values[-1], min(values), max(values), each_second * 3600, each_second * lasted, lasted)
