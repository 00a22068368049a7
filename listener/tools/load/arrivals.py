"""When requests come, and percentiles of how long they took."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests come, in seconds from the start: a Poisson process, the same for the same seed.

    Args:
        rate: requests per second, above 0.
        seconds: that it lasts.
        seed: of the random numbers.
    """
    chance, at, times = random.Random(seed), 0.0, list[float]()
    while (at := at + chance.expovariate(rate)) < seconds:
        times.append(at)
    return times


def percentile(values: Sequence[float] | np.ndarray[Any, Any], share: float) -> float:
    """The smallest value that so much of them does not exceed (nearest rank); NaN of none.

    Args:
        values: sorted.
        share: above 0, at most 1.
    """
    return values[max(0, math.ceil(share * len(values)) - 1)] if len(values) else math.nan
