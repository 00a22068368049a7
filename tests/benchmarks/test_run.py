"""Parts of a run that need no server, and one cell with real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from benchmarks import cpu, foreign, goals, rounds, servers, wrk
from benchmarks.processes import ROOT, CellFailed, environment
from benchmarks.results import Measured
from benchmarks.rounds import Plan, turned
from benchmarks.servers import Server


def plan(*names: str) -> Plan:
    return Plan({"W1": (1,)}, names, rounds=1, seconds=1, warm_up=1, alone=False, work=Path("unused"))


def test_every_round_begins_with_another_server() -> None:
    assert [turned(["a", "b", "c"], turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert turned([], 1) == []


def test_one_instance_per_core_is_measured_where_there_is_a_goal_for_it() -> None:
    made = plan("triton", "triton-per-core", "listener")
    assert made.names("W1") == ["triton", "listener"]
    assert made.names("W2") == ["triton", "triton-per-core", "listener"]


def test_both_runs_measure_every_cell_that_has_a_goal() -> None:
    wanted = {*goals.RATIO, *goals.RATIO_PER_CORE, *goals.CPU}
    for cells in (rounds.QUICK, rounds.FULL):
        assert wanted <= {(load, connections) for load, all_of_them in cells.items() for connections in all_of_them}
    assert {goals.FEW, goals.MANY} <= set(rounds.FULL["W1"])


@pytest.mark.parametrize(
    ("name", "known"), [("triton", True), ("listener-2-workers", True), ("listener-x-workers", False), ("nginx", False)]
)
def test_servers_are_known_by_name(name: str, known: bool) -> None:
    assert servers.exists(name) == known


def test_a_repository_is_laid_out_with_as_many_instances_as_asked(tmp_path: Path) -> None:
    servers.lay_out("jpeg", 4, tmp_path)
    assert "count: 4" in (tmp_path / "jpeg" / "config.pbtxt").read_text()
    assert (tmp_path / "jpeg" / "1" / "model.py").is_file()


def test_servers_run_with_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTENER_WORKERS", "7")
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    env = environment(AIP_HTTP_PORT="1")
    assert "LISTENER_WORKERS" not in env and "AIP_MODE" not in env
    assert (env["AIP_HTTP_PORT"], env["PYTHONPATH"]) == ("1", str(ROOT))


def test_a_server_without_its_folder_is_left_out_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(foreign.LeftOut, match=r"^new: .*requirements\.txt is not there$"):
        foreign.install("new", tmp_path)


def test_cpu_time_is_read_behind_a_name_with_brackets() -> None:
    assert cpu.ticks("42 (a ) b) S 1 42 42 0 -1 0 0 0 0 0 17 5 0 0 20 0 1 0 0") == 22


def test_cpu_time_of_a_process_grows() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: sum(range(10_000))"]) as busy:
        try:
            before = cpu.measure(busy.pid)
            while cpu.measure(busy.pid).since(before).server < 0.05:
                pass
            assert cpu.measure(busy.pid).triton == 0
            assert cpu.rss_mb(busy.pid) > 5
        finally:
            busy.kill()


class Scripted:
    """A server whose runs are given, in place of one that wrk loads."""

    def __init__(self, *runs: wrk.Run) -> None:
        self.runs, self.checks, self.used = list(runs), 0, 0.0

    def check(self) -> None:
        self.checks += 1

    def drive(self, connections: int, seconds: float) -> wrk.Run:
        self.used += 1.0
        return self.runs.pop(0)

    def cpu(self) -> cpu.Cpu:
        return cpu.Cpu(self.used, 2 * self.used)


def test_a_turn_is_checked_twice_and_leaves_the_warm_up_out() -> None:
    server = Scripted(wrk.Run(0, 1.0, 0, 0), wrk.Run(1000, 2.0, 1.5, 3.0))
    found = rounds.measure(cast(Server, server), connections=8, seconds=2, warm_up=1)
    assert found == Measured(rps=500.0, p50_ms=1.5, p99_ms=3.0, server_cpu_us=1000.0, triton_cpu_us=2000.0)
    assert server.checks == 2


def test_a_measurement_without_an_answer_fails_the_cell() -> None:
    server = Scripted(wrk.Run(5, 1.0, 1, 1), wrk.Run(0, 2.0, 0, 0))
    with pytest.raises(CellFailed, match="no answer at all"):
        rounds.measure(cast(Server, server), connections=8, seconds=2, warm_up=1)


@pytest.mark.triton
@pytest.mark.long
def test_one_cell_is_measured_with_real_servers(tmp_path: Path) -> None:
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    narrow = ["--only", "W1", "--connections", "2", "--rounds", "1", "--seconds", "1"]
    argv = [sys.executable, "-m", "benchmarks", "quick", *narrow, "--servers", "triton,listener,obvious"]
    env = {**os.environ, "BENCH_JSON": str(figures)}
    done = subprocess.run(
        [*argv, "--results", str(page)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())
    assert [row["server"] for row in rows] == ["triton", "listener", "obvious"], done.stderr
    for row in rows:
        assert row["rps"] > 1 and row["triton_cpu_us"] > 1, done.stderr
    assert rows[0]["ratio_to_direct"] == 1.0 and rows[0]["server_cpu_us"] == 0
    assert rows[1]["server_cpu_us"] > 1
    assert "| W1 " in page.read_text() and page.with_suffix(".svg").is_file()
