"""How far a fetch is: counted, told in the log, and written for others, who do not believe what is old."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import ANY

import orjson
import pytest

from listener import observe
from listener.artifacts import progress
from listener.artifacts.bucket import Bucket, Contents, Item, contents
from listener.artifacts.progress import Progress, State, last, under_way


@pytest.fixture
def two() -> Contents:
    return contents(Bucket("b", ""), [Item("a", 4_000_000, 1), Item("b", 1_000_000, 1)])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_it_is_told_every_few_seconds(two: Contents, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.artifacts")
    counted = Progress(two)
    for second in range(12):
        clock.now = float(second)
        counted.add(400_000)
        counted.tell()
    assert caplog.messages == [
        "so far: 0 of 2 files, 2.4 MB of 5.0 MB in 5.0 s, 0.5 MB/s",
        "so far: 0 of 2 files, 4.4 MB of 5.0 MB in 10.0 s, 0.4 MB/s",
    ]
    line = json.loads(observe.JsonFormatter().format(caplog.records[0]))
    assert {key: line[key] for key in ("files_done", "files", "bytes_done", "bytes", "rate", "percent")} == {
        "files_done": 0,
        "files": 2,
        "bytes_done": 2_400_000,
        "bytes": 5_000_000,
        "rate": 480_000,
        "percent": 48,
    }
    assert "percent" not in observe.HumanFormatter(colours=False).format(caplog.records[0])


def test_what_is_shown_to_people_is_not_told_twice(two: Contents, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.artifacts")
    shown = list[State | None]()

    class Screen:
        def show(self, state: State) -> None:
            shown.append(state)

        def close(self) -> None:
            shown.append(None)

    with Progress(two, shown=Screen()) as counted:
        counted.add(1_000_000)
        counted.tell()
        counted.done(two.files["b"])
    assert shown[0] is not None and (shown[0].bytes_done, shown[0].percent) == (1_000_000, 20)
    assert shown[-1] is None
    assert [message.partition(":")[0] for message in caplog.messages] == ["fetched"]


def test_a_hundred_percent_are_for_the_end_alone(two: Contents) -> None:
    counted = Progress(two)
    counted.add(5_500_000)  # what is stored compressed comes with more
    assert counted.state.percent == 99
    counted.add(-5_500_000)  # and what was damaged comes again
    assert counted.state.percent == 0
    counted.done(two.files["a"])
    counted.done(two.files["b"])
    assert counted.state.percent == 100


def test_files_of_no_bytes_count_by_their_number() -> None:
    counted = Progress(contents(Bucket("b", ""), [Item("a", 0, 1), Item("b", 0, 1)]))
    assert counted.state.percent == 0
    counted.done(Item("a", 0, 1))
    assert counted.state.percent == 50


def percent(file: Path) -> int | None:
    state = under_way(file)
    return state.percent if state else None


def test_others_see_it_while_it_lasts_and_how_it_ended(two: Contents, tmp_path: Path) -> None:
    file = tmp_path / "progress"
    assert percent(file) is None
    with Progress(two, file) as counted:
        assert percent(file) == 0
        counted.add(2_150_000)
        end = time.monotonic() + 5
        while percent(file) != 43 and time.monotonic() < end:  # written by a thread, without being asked
            time.sleep(0.02)
        assert percent(file) == 43
        counted.add(2_850_000)
        counted.done(two.files["a"])
        counted.done(two.files["b"])
    assert list(tmp_path.iterdir()) == [file]
    assert under_way(file) is None, "it is over"
    assert last(file) == replace(counted.state, seconds=ANY, rate=ANY)


def test_a_failure_takes_it_away_and_says_nothing_of_an_end(
    two: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "listener.artifacts")
    with pytest.raises(KeyError), Progress(two, tmp_path / "progress"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    assert caplog.messages == []


HALF = State(files_done=1, files=2, bytes_done=43, bytes=100, seconds=1.0, rate=43, percent=43)


def test_what_a_killed_process_left_does_not_count_as_under_way(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    file.write_bytes(orjson.dumps(HALF))
    assert percent(file) == 43
    os.utime(file, (time.time() - 11, time.time() - 11))
    assert percent(file) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"percent": 1}', orjson.dumps({**asdict(HALF), "percent": None}).decode()]
    + [orjson.dumps({**asdict(HALF), name: value}).decode() for name, value in (("percent", "x"), ("more", 1))],
)
def test_what_says_nothing_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress").write_text(text)
    assert under_way(tmp_path / "progress") is last(tmp_path / "progress") is None


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "real").write_bytes(orjson.dumps(HALF))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert [last(tmp_path / name) for name in ("pipe", "link", "real")] == [None, None, HALF]


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 bytes"), (49_999, "49999 bytes"), (50_000, "0.1 MB"), (5_368_709_120, "5368.7 MB")]
)
def test_sizes_for_people(nbytes: int, text: str) -> None:
    assert progress.megabytes(nbytes) == text
