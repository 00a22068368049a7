"""Arrivals and percentiles."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from listener.tools.load.arrivals import arrivals, percentile


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.001, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (0.999, 100.0), (1, 100.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, wanted: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], share) == wanted


def test_a_percentile_of_one_and_of_none() -> None:
    assert percentile([3.0], 0.5) == percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.5))


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = arrivals(500, 40, seed=1)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 40
    assert len(times) == pytest.approx(500 * 40, rel=0.03)  # 4 standard deviations
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 500, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1 / 500, rel=0.03)  # of an exponential distribution: its mean


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert arrivals(100, 1, 1) == arrivals(100, 1, 1) != arrivals(100, 1, 2)
