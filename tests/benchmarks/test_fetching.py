from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import report as pages
from benchmarks.fetching import fetchers, places, report
from benchmarks.fetching.fetchers import Failed, Fetcher, Taken
from benchmarks.fetching.places import Place
from benchmarks.fetching.report import Load
from benchmarks.processes import ROOT

NOTHING = Place("http://127.0.0.1:1", "gs://bench/big", {"m/1/model.onnx": (2_000_000, 0)})


def load(**seconds: tuple[float, ...]) -> Load:
    takes = {name.replace("_", " "): [Taken(one, 0.5, 60) for one in each] for name, each in seconds.items()}
    names = {"listener": "listener", "threads": "transfer_manager, threads", "chunks": "transfer_manager, chunks"}
    named = {names.get(name, name): taken for name, taken in takes.items()}
    return Load("title", NOTHING, [Fetcher(name, lambda place, folder: []) for name in named], taken=named)


@pytest.fixture
def slow() -> Iterator[Place]:
    with places.paced(3 << 20, 1e9) as place:
        yield place


def test_ratios_are_to_the_best_setting_round_by_round() -> None:
    found = load(listener=(1.0, 2.0, 4.0), threads=(2.0, 2.0, 2.0), chunks=(9.0, 1.0, 9.0))
    assert found.best == "transfer_manager, threads"
    assert found.ratio("listener") == (1.0, 0.5, 2.0)


@pytest.mark.parametrize(("seconds", "verdict"), [(2.2, "0.91, met"), (2.3, "0.87, **missed**")])
def test_a_missed_goal_is_shown_as_missed(seconds: float, verdict: str) -> None:
    assert f"best transfer_manager: {verdict}" in report.tables(load(listener=(seconds,), threads=(2.0,)))


def test_the_section_is_the_last_part_of_the_page_and_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tmp_path / "fetching.md"
    monkeypatch.setattr(pages, "FETCHING", measured)
    assert pages.with_fetching("# Results\n") == "# Results\n"
    measured.write_text("first\n")
    once = pages.with_fetching("# Results\n")
    measured.write_text("second\n")
    assert pages.with_fetching(once) == once.replace("first", "second")
    assert once.endswith("first\n")


FETCHERS = [fetchers.listener(), fetchers.listener_in_parts(1), fetchers.manager("threads", 2)]
FETCHERS += [fetchers.manager("chunks", 2, 1), fetchers.curl(1)]


@pytest.mark.parametrize("fetcher", FETCHERS, ids=lambda one: one.name)
def test_each_fetches_from_the_slow_server(slow: Place, fetcher: Fetcher, tmp_path: Path) -> None:
    taken = fetchers.run(fetcher, slow, tmp_path / "turn/models")
    assert 0 < taken.seconds < 30
    assert taken.peak_mb < 200
    assert taken.peak_mb > 5 or taken.seconds < 0.1  # of which nobody had a look


def test_wrong_bytes_are_a_failure_and_no_figure(slow: Place, tmp_path: Path) -> None:
    (size, crc) = slow.files["large/1/model.onnx"]
    wrong = Place(slow.url, slow.uri, {"large/1/model.onnx": (size, crc ^ 1)})
    with pytest.raises(Failed, match=r"^listener: large/1/model\.onnx is missing or wrong$"):
        fetchers.run(fetchers.listener(), wrong, tmp_path / "turn/models")


def test_the_command_prints_what_it_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.fetching", "--share", "0.01", "--rounds", "1", "--only", "small"]
    done = subprocess.run([*command, "--print"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "30 objects of 2 KB, through the emulator\n" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| listener", "| transfer", "| curl"))]
    assert len(rows) == 7
    assert "Traceback" not in done.stderr
