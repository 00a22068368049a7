"""What a worker counts, and the times that become histograms."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from listener.errors import DeadlineExceeded, Overloaded
from listener.gate import Gate, Limits, Phase
from listener.metrics import exposition, meter
from listener.metrics.meter import BUCKETS, Meter
from listener.metrics.segment import Segment
from listener.metrics.times import CURRENT, PHASES, Times


def made() -> tuple[Segment, Meter]:
    segment = Segment()
    seat = segment.take()
    assert seat is not None
    return segment, Meter(seat)


def samples(segment: Segment) -> dict[str, float]:
    """Each line of the exposition without `# ` and zeros."""
    lines = exposition.text(segment, 0).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs if float(value)}


def test_requests_are_counted_by_what_became_of_them() -> None:
    segment, counting = made()
    for status in (200, 200, 429):
        counting.request("r", "b", "m", status)
    name = "listener_requests_total"
    assert samples(segment) == {
        name + '{branch="b",model="m",route="r",status="200"}': 2,
        name + '{branch="b",model="m",route="r",status="429"}': 1,
    }


def test_times_fall_into_their_buckets_with_their_weight() -> None:
    segment, counting = made()
    now = time.monotonic()
    times = Times(3)
    times.read, times.called, times.replied = now - 2.0, now - 1.9, now - 0.1
    times.call(now - 1.9, now - 1.4, now - 0.4)
    counting.measured(times, "r", now - 2.3, now - 2.2)
    counting.flush()
    found = samples(segment)
    sums = {phase: found[f'listener_phase_seconds_sum{{phase="{phase}",route="r"}}'] / 3 for phase in PHASES}
    assert sums == pytest.approx(
        {"queue": 0.1, "preprocess": 0.1, "coalesce": 0.5, "triton": 1.0, "postprocess": 0.3, "encode": 0.1}, abs=0.05
    )
    assert found['listener_request_seconds_sum{route="r"}'] / 3 == pytest.approx(2.3, abs=0.05)
    bucket = 'listener_phase_seconds_bucket{{le="{}",phase="coalesce",route="r"}}'
    assert found.get(bucket.format("0.25"), 0) == 0
    assert (found[bucket.format("1")], found[bucket.format("+Inf")]) == (3, 3)
    assert found['listener_phase_seconds_count{phase="coalesce",route="r"}'] == 3


def test_phases_that_a_request_had_not_are_not_counted() -> None:
    segment, counting = made()
    times, now = Times(), time.monotonic()
    times.read = times.replied = now
    counting.measured(times, "r", now, now)
    counting.flush()
    found = samples(segment)
    assert found['listener_phase_seconds_count{phase="preprocess",route="r"}'] == 1
    assert not [name for name in found if 'phase="triton"' in name or 'phase="coalesce"' in name]


def test_the_calls_of_one_request_add_up() -> None:
    times = Times()
    times.call(1.0, 1.5, 2.0)
    times.call(3.0, 3.25, 4.0)
    assert (times.called, times.waited, times.triton, times.answered) == (1.0, 0.75, 1.25, 4.0)


def test_few_requests_are_all_measured_and_of_many_each_stands_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_MANY", math.inf)
    _, counting = made()
    assert all(counting.times() for _ in range(100))
    counting._stride = 10
    counting.times()  # whose successor is drawn with the new stride
    weights = [times.weight for times in (counting.times() for _ in range(50_000)) if times]
    assert 50_000 - 20 <= sum(weights) <= 50_000
    assert 4_000 < len(weights) < 6_500
    assert {1, 2, 10, 18, 19} <= set(weights) <= set(range(1, 20))


def test_a_load_that_has_just_begun_is_measured_more_and_more_rarely() -> None:
    _, counting = made()
    weights = [times.weight for times in (counting.times() for _ in range(10_000)) if times]
    assert weights[:49] == [1] * 49
    assert len(weights) < 500
    assert 10_000 - 256 <= sum(weights) <= 10_000


def test_a_measured_request_without_an_answer_leaves_its_weight_to_the_next() -> None:
    _, counting = made()
    counting._stride = 5
    times = [counting.times() for _ in range(30)]
    lost = [each for each in times if each][-1]
    since = len(times) - 1 - times.index(lost)
    counting.measured(lost, "r", 0.0, 0.0)
    following = next(each for each in iter(counting.times, 0) if each)
    assert following.weight >= lost.weight + since + 1 or following.weight > lost.weight


def test_requests_without_an_answer_count_once_in_what_tells_how_many_come() -> None:
    _, counting = made()
    for _ in range(1000):
        if times := counting.times():
            counting.measured(times, "r", 0.0, 0.0)
    assert counting._came + counting._untimed == 1000


async def test_a_busy_loop_is_late() -> None:
    segment, counting = made()
    counting.start()
    await asyncio.sleep(meter.PERIOD * 1.2)
    time.sleep(0.6)  # noqa: ASYNC251 - a handler that blocks
    await asyncio.sleep(meter.PERIOD * 1.2)
    counting.stop()
    found = samples(segment)
    assert found["listener_loop_lag_max_seconds"] > 0.3
    assert found['listener_loop_lag_seconds_bucket{le="+Inf"}'] >= 2


async def test_gauges_are_looked_at_and_are_nothing_after_the_stop() -> None:
    segment, counting = made()
    counting.gauge("listener_in_flight", lambda: 4)
    counting.look()
    assert samples(segment)["listener_in_flight"] == 4
    counting.stop()
    assert "listener_in_flight" not in samples(segment)


def test_the_caller_is_told_where_the_time_went() -> None:
    times = Times()
    times.read, times.replied = 1.0, 1.25
    assert times.header(0.5, 1.5) == "queue;dur=500.000, preprocess;dur=250.000, encode;dur=250.000"
    times.call(1.125, 1.125, 1.1875)
    assert times.header(0.0, 1.25) == (
        "queue;dur=0.000, preprocess;dur=125.000, coalesce;dur=0.000, triton;dur=62.500, postprocess;dur=62.500, "
        "encode;dur=0.000"
    )


# What the gate tells


async def test_every_way_out_of_the_gate_is_counted_once() -> None:
    segment, counting = made()
    gate = Gate(Limits(1), 60.0, counting)
    gate.phase = Phase.READY

    async def stay(error: Exception | None = None, seconds: float = 0.0) -> None:
        async with gate.enter() as permit:
            permit.route = "r"
            permit.took("step", "m")
            await asyncio.sleep(seconds)
            if error:
                raise error

    await stay()
    for error in (Overloaded("full"), ValueError("a bug")):
        with pytest.raises(type(error)):
            await stay(error)
    leaving = asyncio.create_task(stay(seconds=9))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):  # has no route yet
        await stay()
    leaving.cancel()
    late = asyncio.create_task(stay(seconds=9))
    await asyncio.sleep(0.01)
    next(iter(gate._permits)).end(DeadlineExceeded("late"))
    await asyncio.gather(leaving, late, return_exceptions=True)
    found = {name: value for name, value in samples(segment).items() if name.startswith("listener_requests_total")}
    named = 'listener_requests_total{{branch="step",model="m",route="r",status="{}"}}'
    assert found == {
        **{named.format(status): 1 for status in (200, 429, 500, 499, 504)},
        'listener_requests_total{branch="",model="",route="",status="429"}': 1,
    }


async def test_several_steps_are_several_branches() -> None:
    gate = Gate(Limits(1), 60.0)
    gate.phase = Phase.READY
    async with gate.enter() as permit:
        permit.took("a", "m")
        permit.took("a", "m")
        assert (permit.branch, permit.model) == ("a", "m")
        permit.took("b", "m")
        assert (permit.branch, permit.model) == ("several", "several")


async def test_the_times_of_a_request_are_those_of_its_task() -> None:
    _, counting = made()
    gate = Gate(Limits(2), 60.0, counting)
    gate.phase = Phase.READY

    async def stay() -> bool:
        async with gate.enter() as permit:
            await asyncio.sleep(0)
            return CURRENT.get() is permit.times is not None

    assert list(await asyncio.gather(stay(), stay())) == [True, True]


def test_buckets_reach_from_microseconds_to_minutes() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert (BUCKETS[0], BUCKETS[-1]) == (0.00005, 600.0)
