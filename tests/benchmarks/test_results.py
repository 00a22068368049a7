from __future__ import annotations

from benchmarks.results import Key, Results, spread
from tests.benchmarks.figures import measured, results

OURS, DIRECT = Key("W1", 8, "listener"), Key("W1", 8, "triton")


def test_a_ratio_is_made_within_each_round() -> None:
    # the second round was slow for both, which changes no ratio
    found = results(triton=[100, 10, 100], listener=[120, 15, 110]).ratio(OURS, DIRECT, lambda one: one.rps)
    assert found == (1.2, 1.1, 1.5)


def test_without_an_anchor_there_is_no_ratio() -> None:
    assert results(listener=[120]).ratio(OURS, DIRECT, lambda one: one.rps) is None


def test_each_figure_has_its_own_median() -> None:
    made = Results()
    for rps, cpu in ((1.0, 30.0), (2.0, 10.0), (4.0, 20.0)):
        made.add(OURS, measured(rps, cpu))
    median = made.median(OURS)
    assert median and (median.rps, median.p50_ms, median.server_cpu_us) == (2.0, 500.0, 20.0)


def test_one_failure_spoils_the_cell() -> None:
    made = results(listener=[120, 130], triton=[100, 100])
    made.fail(OURS, "wrong")
    assert (made.median(OURS), made.ratio(OURS, DIRECT, lambda one: one.rps)) == (None, None)
    assert set(made.ordered()) == {OURS, DIRECT}


def test_rows_hold_the_medians_of_each_server_and_cell() -> None:
    made = results(triton=[100, 200], listener=[150, 300])
    made.fail(Key("W3", 1, "listener"), "answered 400")
    assert made.rows() == [
        {
            "load": "W1",
            "connections": 8,
            "server": server,
            "rps": rps,
            "p50_ms": p50,
            "p99_ms": p99,
            "ratio_to_direct": ratio,
            "server_cpu_us": cpu,
            "triton_cpu_us": 100.0,
        }
        for server, rps, p50, p99, ratio, cpu in (
            ("triton", 150.0, 7.5, 22.5, 1.0, 0.0),
            ("listener", 225.0, 5.0, 15.0, 1.5, 40.0),
        )
    ] + [
        {
            "load": "W3",
            "connections": 1,
            "server": "listener",
            **dict.fromkeys(
                ("rps", "p50_ms", "p99_ms", "ratio_to_direct", "server_cpu_us", "triton_cpu_us"),
            ),
            "failed": "answered 400",
        }
    ]


def test_a_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
