"""The clock of the chaos suite jumps for running processes, and what counts seconds does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import clock
from chaos.clock import Clock

SAY = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"


def test_a_running_process_sees_the_jump(tmp_path: Path) -> None:
    try:
        own = Clock(tmp_path / "clock")
    except LookupError as missing:
        pytest.skip(str(missing))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", SAY], stdin=pipe, stdout=pipe, text=True, env=os.environ | own.env
    ) as process:
        assert process.stdin and process.stdout

        def off() -> tuple[float, float]:
            """Seconds from the true time, and from what is counted."""
            assert process.stdin and process.stdout
            print("?", file=process.stdin, flush=True)
            told, counted = map(float, process.stdout.readline().split())
            return told - time.time(), counted - time.monotonic()

        assert off() == pytest.approx((0, 0), abs=1.5)
        for jump in (3600, -3600, 0):
            own.set(jump)
            until = time.monotonic() + 5
            while abs(off()[0] - jump) > 1.5 and time.monotonic() < until:
                time.sleep(0.05)
            assert off() == pytest.approx((jump, 0), abs=1.5)
        print(file=process.stdin, flush=True)


def test_without_the_library_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_FOUND", (str(tmp_path), "nothing"))
    with pytest.raises(LookupError, match="apt-get install faketime"):
        Clock(tmp_path / "clock")
