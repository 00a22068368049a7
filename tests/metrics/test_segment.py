"""The memory in which all workers count."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.metrics import segment
from listener.metrics.segment import Seat, Segment

#: A worker: takes a seat, counts 5 and waits to be killed.
WORKER = """
import sys
from listener.metrics.segment import Segment
seat = Segment(int(sys.argv[1])).take()
seat.numbers[seat.series("f", ("a",))] += 5
print(seat.number, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file() -> Iterator[int]:
    file = segment.new(3)
    yield file
    os.close(file)


def taken(segment: Segment) -> Seat:
    seat = segment.take()
    assert seat is not None
    return seat


def worker(file: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(file)],
        pass_fds=[file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_each_worker_has_a_seat_and_one_that_died_leaves_its_numbers_to_the_next(file: int) -> None:
    (one, first), (two, second) = worker(file), worker(file)
    try:
        assert (first, second) == (0, 1)
        here = Segment(file)
        assert (here.alive(0), here.alive(1), here.alive(2)) == (True, True, False)
        end(one)
        assert here.alive(0) is False
        assert {series.seat: series.numbers for series in here.series()} == {0: (5.0,), 1: (5.0,)}, (
            "kept after its death"
        )
        three, third = worker(file)
        assert third == 0
        assert {series.seat: series.numbers for series in here.series()} == {0: (10.0,), 1: (5.0,)}
        end(three)
    finally:
        end(one)
        end(two)


def test_there_are_no_more_seats_than_there_are(file: int) -> None:
    workers = [worker(file) for _ in range(3)]
    try:
        assert [number for _, number in workers] == [0, 1, 2]
        assert Segment(file).take() is None
    finally:
        for process, _ in workers:
            end(process)


def test_without_a_parent_there_is_one_seat() -> None:
    alone = Segment()
    seat = taken(alone)
    seat.numbers[seat.series("f", ("a", "b"), 2) + 1] = 7
    assert list(alone.series()) == [segment.Series("f", ("a", "b"), 0, (0.0, 7.0))]


def test_labels_that_callers_make_up_end_in_one_series() -> None:
    """Whatever they send, there is room for every family's `other`."""
    alone = Segment()
    seat = taken(alone)
    for number in range(5000):
        seat.numbers[seat.series("requests", (f"route {number}", "200"))] += 1
    for number in range(2000):
        seat.numbers[seat.series("phases", (f"route {number}",), 24)] += 1
    seat.numbers[seat.series("late", ("a",))] += 1
    counted: dict[str, float] = {}
    others = set()
    for series in alone.series():
        counted[series.family] = counted.get(series.family, 0) + series.numbers[0]
        if "other" in series.labels:
            others.add(series.family)
    assert counted == {"requests": 5000, "phases": 2000, "late": 1}
    assert others >= {"requests", "phases"}


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_is_a_label(values: list[str]) -> None:
    alone = Segment()
    seat = taken(alone)
    place = seat.series("f" * 40, tuple(values))
    assert seat.series("f" * 40, tuple(values)) == place
    (series,) = alone.series()
    assert len(series.labels) == len(values)
    assert all(len(label) <= 60 and label.isascii() for label in series.labels)
