"""`listener load` against a real stack: it counts what Triton counted, and writes a report whatever comes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.stack import ROOT, Stack, free_port, running, wait_for

pytestmark = pytest.mark.triton

#: Requests before a run: the one body that is tried, and five more to see how long one takes.
FIRST = 6


@pytest.fixture(scope="module")
def metrics() -> str:
    return f"http://127.0.0.1:{free_port()}/metrics"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, metrics: str) -> Iterator[Stack]:
    port = metrics.rpartition(":")[2].partition("/")[0]
    with running(tmp_path_factory.mktemp("load") / "log", LISTENER_METRICS_PORT=port) as stack:
        stack.until(200)
        yield stack


def load(stack: Stack, metrics: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "listener", "load", f"{stack.url}/predict", "--metrics", metrics]
    argv += ["--html", str(folder / "report.html"), "--json", str(folder / "run.json"), *more]
    return subprocess.Popen(argv, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def counted(metrics: str, name: str = "nv_inference_count") -> float:
    """By the server, in all."""
    text = requests.get(metrics, timeout=5).text
    return sum(map(float, re.findall(rf"^{name}\{{.*\}} (\S+)$", text, re.M)))


def test_every_request_is_counted_as_the_server_counts_it(stack: Stack, metrics: str, tmp_path: Path) -> None:
    before, answers = counted(metrics), counted(metrics, "listener_requests_total")
    run = load(
        stack, metrics, tmp_path, "--rate", "60", "--duration", "4s", "--slo-p99", "5s", "--csv", str(tmp_path / "c")
    )
    said, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert said.startswith("Keeps p99 under 5000 ms at 60 requests/s: ")
    (step,) = json.loads((tmp_path / "run.json").read_text())["steps"]
    assert step["sent"] == step["right"] > 120
    assert step["errors"] == {}
    wait_for(lambda: counted(metrics) >= before + step["sent"] + FIRST, 10)
    assert counted(metrics) == before + step["sent"] + FIRST
    wait_for(lambda: counted(metrics, "listener_requests_total") >= answers + step["sent"] + FIRST, 10)
    assert counted(metrics, "listener_requests_total") == answers + step["sent"] + FIRST
    assert step["seen"]["triton"]["model"] > 0
    assert step["seen"]["phases"]["triton"] > step["seen"]["triton"]["model"] / 2
    assert step["seen"]["rows_per_call"] >= 1
    assert step["seen"]["batch"] >= 1
    page = (tmp_path / "report.html").read_text()
    assert f"{step['requests']:,}" in page
    assert (tmp_path / "c").read_text().count("\n") == 2


def test_a_search_ends_in_time_and_a_missed_objective_is_told_by_the_status(
    stack: Stack, metrics: str, tmp_path: Path
) -> None:
    begin = time.monotonic()
    run = load(stack, metrics, tmp_path, "--duration", "3s", "--slo-p99", "0.01ms", "--fail-on-slo")
    said, errors = run.communicate(timeout=60)
    assert run.returncode == 1, errors
    assert time.monotonic() - begin < 2 * 3 + 10
    assert said.startswith("Keeps p99 under 0.01 ms at no rate: ")
    assert (tmp_path / "report.html").is_file()
    rates = [step["rate"] for step in json.loads((tmp_path / "run.json").read_text())["steps"]]
    assert rates == sorted(rates, reverse=True)


def test_ctrl_c_leaves_a_report_of_what_there_was(stack: Stack, metrics: str, tmp_path: Path) -> None:
    before = counted(metrics)
    run = load(stack, metrics, tmp_path, "--rate", "50", "--duration", "50s")
    wait_for(lambda: counted(metrics) > before + 50 * 4, 40)  # three seconds of it are the warm-up
    run.send_signal(signal.SIGINT)
    said, errors = run.communicate(timeout=20)
    assert run.returncode == 0, errors
    assert "The run was interrupted; this is what there was." in said
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["interrupted"]
    assert document["steps"][0]["requests"] > 0
    assert document["steps"][0]["sent"] == document["steps"][0]["right"]
