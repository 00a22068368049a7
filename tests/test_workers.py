"""What the parent process decides before it starts anything."""

from __future__ import annotations

import logging

import pytest

from listener import cpus, workers
from listener.cpus import Cpus
from listener.settings import Settings


@pytest.mark.parametrize(
    ("number", "count", "line"),
    [
        (8.0, 2, "2 workers: LISTENER_WORKERS=auto, 8 CPUs of the cgroup"),
        (1.5, 1, "1 worker: LISTENER_WORKERS=auto, 1.5 CPUs of the cgroup"),
    ],
)
def test_auto_becomes_a_number_and_a_line_in_the_log(
    number: float, count: int, line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(cpus, "available", lambda: Cpus(number, "the cgroup"))
    assert workers.how_many(Settings(workers="auto")) == count
    assert caplog.messages == [line]


def test_a_number_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert workers.how_many(Settings(workers=5)) == 5
    assert caplog.messages == []
