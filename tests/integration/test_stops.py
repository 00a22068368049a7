"""Stops under load: no request that the listener has is lost, and nothing is left. STOPS=50 for as many in a row."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from chaos import stops
from chaos.load import Seen
from chaos.stops import Stop

pytestmark = pytest.mark.triton

TIMES = int(os.environ.get("STOPS", "3"))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(TIMES))
def test_a_stop_under_load_loses_no_request_and_leaves_nothing(tmp_path: Path, seed: int) -> None:
    found = asyncio.run(stops.stopped(tmp_path, 1000 + seed))
    assert not found.mistakes
    assert found.seen.right > 0
    assert found.seen.refused["503"] > 0  # clients asked on while it stopped
    assert found.seconds < 15


def test_what_a_stop_may_not_do() -> None:
    seen = Seen(right=9, hung=1, wrong=["200: x"])
    seen.refuse("503")
    seen.refuse("500")
    found = Stop(seen, crossed=2, lost=["a request"], status=1, left=["a file"])
    assert found.mistakes == [
        "200: x",
        "500 is no refusal of a stop",
        "a request hung",
        "a request",
        "exit status 1",
        "left: a file",
    ]
    assert Stop(Seen(right=9), crossed=2).mistakes == []
