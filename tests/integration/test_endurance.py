"""What takes longer: many deaths, many starts, many pictures. `make test-long`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.integration.stack import Stack, alive, descendants, left, running
from tests.integration.test_sample import check_hand_drawn, digits, wrapped
from tools.digits_data import load_split, render

pytestmark = [pytest.mark.triton, pytest.mark.long]


def test_ten_deaths_of_triton_in_a_row(tmp_path: Path) -> None:
    with running(tmp_path / "log") as stack:
        for _ in range(10):
            stack.until(200)
            regions, pid = stack.regions(), stack.triton_pid()
            os.kill(pid, signal.SIGKILL)
            stack.until(503, 2)
            stack.until(200)
            assert not left(regions)
            assert stack.predict([[0, 16] * 32]).status_code == 200


def test_ten_starts_and_stops_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for n in range(10):
        with running(tmp_path / f"log-{n}", TMPDIR=str(tmp_path / "tmp")) as stack:
            stack.until(200)
            family, regions = descendants(stack.process.pid), stack.regions()
            assert stack.stop([signal.SIGTERM, signal.SIGINT][n % 2]) == 0
        assert not [pid for pid in family if alive(pid)]
        assert not left(regions)
        assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0, 1.5])
def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path, delay: float) -> None:
    """Signals while the workers, Triton or its models are just starting."""
    (tmp_path / "tmp").mkdir()
    with running(tmp_path / "log", TMPDIR=str(tmp_path / "tmp")) as stack:
        stack.until(503)
        threading.Event().wait(delay)
        family = descendants(stack.process.pid)
        assert stack.stop() == 0
        assert not [pid for pid in family if alive(pid)]
        assert "Traceback" not in stack.output()
    assert not list((tmp_path / "tmp").iterdir())


def test_triton_that_never_gets_ready_ends_the_stack(tmp_path: Path) -> None:
    """5 starts in a row that never became ready: exit status other than 0, within about a minute."""
    with running(tmp_path / "log", LISTENER_TRITON_ARGS="--no-such-option", LISTENER_LOG_FORMAT="json") as stack:
        assert stack.process.wait(55) == 1
        assert "at each of its last 5 starts, never ready" in stack.output()
        assert stack.output().count("starting it again") == 4


def test_a_thousand_hand_drawn_digits(sample: Stack) -> None:
    check_hand_drawn(sample, 1000, seed=2026)


def test_every_held_out_picture_in_three_renderings(sample: Stack) -> None:
    split, rng = load_split(), np.random.default_rng(3)
    for _ in range(3):
        pictures = [wrapped(render(row, rng)) for row in split.held_out]
        assert np.mean(np.array(digits(sample, pictures, 64)) == split.held_out_digits) >= 0.95
