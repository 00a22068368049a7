"""How long is waited."""

from __future__ import annotations

import time

import pytest

from listener.artifacts.patience import Again, Patience, asked_for


def test_waits_grow_and_are_drawn_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(1e9)
    waits = [patience.wait(Again("no")) for _ in range(9)]
    for wait, most in zip(waits, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8, 8, 8], strict=True):
        assert most / 2 <= wait <= most
    patience.progressed()
    assert patience.wait(Again("no")) <= 0.2
    assert len({Patience(60).wait(Again("no")) for _ in range(20)}) > 1


def test_it_waits_as_long_as_it_is_asked_but_not_for_ever() -> None:
    assert Patience(60).wait(Again("no", 7)) == 7
    assert 59 < Patience(60).wait(Again("no", 3600)) <= 60


def test_it_ends_without_progress_and_begins_anew_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = Patience(60)
    now[0] = 59.0
    assert patience.wait(Again("no")) <= 1
    patience.progressed()
    now[0] = 118.0
    assert patience.wait(Again("no")) <= 1
    now[0] = 119.5
    with pytest.raises(Again, match="last"):
        patience.wait(Again("last"))


@pytest.mark.parametrize(("given", "seconds"), [("", 0), ("3", 3), ("soon", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)])
def test_what_the_other_side_asks_for(given: str, seconds: float) -> None:
    assert asked_for(given) == seconds
