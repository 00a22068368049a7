"""Which steps keep the objective, and the search, against servers that are functions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from listener.tools.load import running, search
from listener.tools.load.figures import Figures
from listener.tools.load.outcome import Step
from listener.tools.load.search import Objective, Tried, bracket, next_rate

KEPT = Figures(2.0, 2000, 1000.0, 1000.0, 6.0, 5.0, 10.0, 49.0, 60.0, 70.0, lag_p99=1.0, cpu=0.3)
OBJECTIVE = Objective(50.0)


# The objective


@pytest.mark.parametrize(
    ("change", "misses"),
    [
        ({}, []),
        ({"p99": 50.0}, []),
        ({"p99": 50.1}, ["p99 50.1 ms"]),
        ({"p99": math.nan, "errors": {"status 503": 2000}}, ["100.00% errors", "no answers"]),
        ({"errors": {"timeout": 1}}, []),  # 1 of 2000
        ({"errors": {"timeout": 1, "status 503": 1}}, ["0.10% errors"]),
        ({"achieved": 955.0}, []),  # 50 requests short of 98 %: as many as are under way if each takes 50 ms
        ({"achieved": 954.0}, ["954/s answered"]),
        ({"requests": 40, "offered": 20.0, "achieved": 17.2}, []),  # 5 short
        ({"requests": 40, "offered": 20.0, "achieved": 17.0}, ["17/s answered"]),
    ],
)
def test_what_a_step_does_not_keep(change: dict[str, object], misses: list[str]) -> None:
    assert OBJECTIVE.misses(replace(KEPT, **change)) == misses  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lag", "cpu", "p99", "slow"),
    [
        (1.0, 0.3, 60.0, False),
        (11.0, 0.3, 60.0, True),  # 60 would have been 49
        (11.0, 0.3, 70.0, False),  # it was too late without the lag, too
        (11.0, 0.3, 49.0, False),  # it is kept in spite of the lag
        (9.0, 0.3, 55.0, False),
        (1.0, 0.91, 40.0, True),
        (math.nan, math.nan, 60.0, False),
    ],
)
def test_when_the_generator_was_what_was_slow(lag: float, cpu: float, p99: float, slow: bool) -> None:
    assert OBJECTIVE.generator_was_slow(replace(KEPT, lag_p99=lag, cpu=cpu, p99=p99)) is slow


def test_with_a_long_objective_a_short_step_has_to_be_answered_as_well() -> None:
    """A queue that grows is late only after a while."""
    queue = replace(KEPT, p99=900.0, achieved=870.0)
    assert Objective(5000.0).misses(queue) == ["870/s answered"]
    assert Objective(5000.0).misses(replace(queue, achieved=890.0)) == []


# Where to look next


def test_a_bracket_is_of_the_last_tries() -> None:
    tried = [Tried(100, True), Tried(200, False), Tried(200, True), Tried(400, False), Tried(300, True)]
    assert bracket(tried) == (300, 400)
    assert bracket([*tried, Tried(300, False)]) == (200, 300)
    assert bracket([]) == (0, math.inf)
    assert bracket([Tried(100, False)]) == (0, 100)


def test_it_doubles_then_takes_the_middle_until_that_is_close() -> None:
    assert next_rate([], 100) == 100
    assert next_rate([Tried(100, True)], 100) == 200
    assert next_rate([Tried(100, True), Tried(200, False)], 100) == 141
    assert next_rate([Tried(100, True), Tried(103, False)], 100) is None


def test_the_first_rate_may_be_too_much() -> None:
    assert next_rate([Tried(100, False)], 100) == 50
    assert next_rate([Tried(0.6, False)], 100) is None


def test_a_narrow_miss_at_the_end_of_the_ramp_is_looked_at_again_once() -> None:
    ramp = [Tried(100, True), Tried(200, False, narrow=True)]
    assert next_rate(ramp, 100) == 200
    assert next_rate([*ramp, Tried(200, True)], 100) == 400
    assert next_rate([*ramp, Tried(200, False, narrow=True)], 100) == 141


# The whole search


def served(rate: float, capacity: float) -> Figures:
    """A queue with one server by chance (M/M/1): the p99 of its times is ln(100) / (capacity - rate)."""
    if rate >= capacity:
        return Figures(1.0, int(rate), rate, capacity, 900.0, 900.0, 950.0, 999.0, 999.0, 1000.0, cut=True)
    p99 = math.log(100) / (capacity - rate) * 1e3
    return Figures(1.0, int(rate), rate, rate, p99 / 4, p99 / 6, p99 / 2, p99, p99 * 1.5, p99 * 2)


def found(serve: Callable[[float], Figures], duration: float = 30.0, first: float = 50.0) -> tuple[float, list[float]]:
    """The rate that is kept in the end, and all that were tried; a step takes the time that it is to take."""
    left, steps = duration, list[Step]()
    while order := running.plan(left, duration, OBJECTIVE, steps, first):
        figures = replace(serve(order.rate), seconds=order.seconds)
        steps.append(Step(order.rate, figures))
        left -= order.warm_up + order.seconds + 0.1
        assert left > -0.1
    tried = [Tried(one.rate, not OBJECTIVE.misses(one.figures)) for one in steps]
    return bracket(tried)[0], [one.rate for one in steps]


@pytest.mark.parametrize("capacity", [130.0, 200.0, 777.0, 1300.0, 4000.0])
@pytest.mark.parametrize("duration", [20.0, 30.0, 120.0])
def test_it_finds_the_highest_rate(capacity: float, duration: float) -> None:
    wanted = capacity - math.log(100) / 0.050
    rate, tried = found(lambda rate: served(rate, capacity), duration)
    assert wanted * 0.9 <= rate <= wanted
    assert tried.count(rate) == 2  # it was looked at again


def test_a_server_that_never_keeps_it_is_told_with_few_requests() -> None:
    rate, tried = found(lambda rate: replace(KEPT, p99=200.0))
    assert rate == 0
    assert tried == sorted(tried, reverse=True)
    assert tried[-1] < 1


def test_a_server_without_limits_ends_with_the_time() -> None:
    rate, tried = found(lambda rate: KEPT if rate < 1e5 else replace(KEPT, offered=rate, achieved=rate))
    assert rate == max(tried)
    assert rate > 50 * 2**8


def test_a_hiccup_at_one_step_does_not_end_the_ramp() -> None:
    hiccups = [200.0]

    def serve(rate: float) -> Figures:
        if rate in hiccups:
            hiccups.remove(rate)
            return replace(KEPT, p99=70.0)
        return served(rate, 1000)

    rate, _ = found(serve)
    assert rate > 800


def test_a_rate_that_is_not_kept_when_it_is_looked_at_again_is_not_the_answer() -> None:
    chance = random.Random(1)
    kept: list[float] = []

    def serve(rate: float) -> Figures:
        if rate in kept:
            return served(1000, 500)
        figures = served(rate, 500 + chance.random())
        if not OBJECTIVE.misses(figures):
            kept.append(rate)
        return figures

    rate, tried = found(serve)
    assert tried.count(rate) == 1
    assert rate < max(rate for rate in tried if tried.count(rate) == 2)


def test_steps_of_a_search_are_cut_when_answers_are_late() -> None:
    order = running.plan(30, 30, OBJECTIVE, [], 100)
    assert order
    assert (order.late, order.patience) == (0.5, 0.5)
    longer = running.plan(30, 30, Objective(1000.0), [], 100)
    assert longer
    assert longer.late == 4.0
    assert order.warm_up / (order.warm_up + order.seconds) == pytest.approx(search.LAG)  # a fifth
