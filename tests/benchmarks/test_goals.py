from __future__ import annotations

import pytest

from benchmarks import goals
from benchmarks.goals import Judged
from benchmarks.results import Key, Results
from tests.benchmarks.figures import measured, results


def judged(made: Results, name: str) -> Judged:
    return next(one for one in goals.judge(made) if one.name == name)


@pytest.mark.parametrize(("ours", "verdict"), [(89.0, "**missed**"), (90.0, "met"), (300.0, "met")])
def test_a_ratio_is_met_from_its_bound_on(ours: float, verdict: str) -> None:
    assert judged(results(triton=[100], listener=[ours]), "W1 at 8").verdict == verdict


def test_the_median_decides() -> None:
    assert judged(results(triton=[100] * 3, listener=[10, 95, 95]), "W1 at 8").verdict == "met"


@pytest.mark.parametrize(("server_cpu", "verdict"), [(-20.0, "met"), (0.0, "**missed**")])
def test_cpu_counts_the_server_and_its_triton(server_cpu: float, verdict: str) -> None:
    made = Results()
    made.add(Key("W1", 32, "triton"), measured(100))
    made.add(Key("W1", 32, "listener"), measured(100, server_cpu))
    assert judged(made, "W1 at 32, CPU per request").verdict == verdict


def test_a_failed_cell_is_a_failed_goal() -> None:
    made = results(triton=[100])
    made.fail(Key("W1", 8, "listener"), "answered 400")
    found = judged(made, "W1 at 8")
    assert (found.verdict, found.why) == ("**failed**", "listener: answered 400")


def test_pictures_are_also_compared_with_one_instance_per_core() -> None:
    made = Results()
    for server, rps in (("triton", 50), ("triton-per-core", 100), ("listener", 111)):
        made.add(Key("W2", 8, server), measured(rps))
    found = judged(made, "W2 at 8, direct with one instance per core")
    assert (found.verdict, found.found) == ("met", (1.11, 1.11, 1.11))


def test_many_connections_are_compared_with_few_of_the_same_server() -> None:
    made = Results()
    made.add(Key("W1", 64, "listener"), measured(100))
    made.add(Key("W1", 1024, "listener"), measured(80))
    found = judged(made, "W1 at 1,024 relative to 64")
    assert (found.verdict, found.why) == ("**missed**", "p99 38 ms")


def test_the_listener_alone_is_held_to_its_goals() -> None:
    figures = {
        goals.IDLE_CPU: [0.4],
        goals.WORKER_RSS: [60.0, 130.0],
        goals.IMPORT: [0.1, 0.1],
        goals.FIRST_HEALTH: [0.5, 0.4],
    }
    found = {one.name: one for one in goals.judge(Results(figures=figures))}
    assert found["idle CPU of the listener"].verdict == "met"
    assert found["RSS of a worker after load"].verdict == "**missed**"  # the largest worker counts
    assert found["import listener, and first health answer"].verdict == "met"


def test_nothing_measured_is_nothing_judged() -> None:
    assert {one.verdict for one in goals.judge(Results())} == {goals.UNKNOWN}
