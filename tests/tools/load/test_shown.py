"""How far a run is, at a terminal and elsewhere."""

from __future__ import annotations

import io
import math
import re

from listener.tools.load import shown
from listener.tools.load.figures import Figures
from listener.tools.load.outcome import Step

STEP = Step(1240.0, Figures(2.0, 2480, 1240.0, 1238.0, 6.0, 4.25, 9.0, 31.0, 40.0, 50.0))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_each_step_is_a_line() -> None:
    stream = io.StringIO()
    told = shown.at(stream, 50.0)
    told.step(3, 1240.0, 20.0)
    told.now(1.0, 2.0, 19.0)
    told.done(STEP, [])
    told.done(STEP, ["p99 82.0 ms"])
    told.close()
    assert stream.getvalue().splitlines() == [
        "step 3: 1,240/s, p50 4.2 ms, p99 31.0 ms, kept",
        "step 3: 1,240/s, p50 4.2 ms, p99 31.0 ms, missed: p99 82.0 ms",
    ]


def test_at_a_terminal_it_shows_the_rate_the_times_the_objective_and_what_is_left() -> None:
    stream = Terminal()
    told = shown.at(stream, 50.0)
    told.step(1, 620.0, 30.0)
    told.now(math.nan, math.nan, 29.0)
    told.now(3.0, 12.5, 28.0)
    moving = re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue())
    for said in ("620", "3.0 ms", "12.5 ms", "step 1, 28 s left; the objective is p99 under 50 ms"):
        assert said in moving
    before = len(stream.getvalue())
    told.done(STEP, [])
    told.close()
    rest = re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue()[before:])
    assert re.search(r"1,240 +4\.2 ms +31\.0 ms +kept", rest)
    assert "left" not in rest
