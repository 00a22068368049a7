"""A bar at a terminal, and none elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from listener.artifacts import bar
from listener.artifacts.progress import State


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


STATE = State(1, 3, 500_000, 2_000_000, 1.0, 500_000, 25)


def test_it_is_drawn_and_taken_away_and_the_log_stands_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen()
    handler, root = logging.StreamHandler(screen), logging.getLogger()
    root.addHandler(handler)
    try:
        shown = bar.at(screen)
        assert shown
        assert screen.getvalue() == ""
        shown.show(STATE)
        logging.getLogger("anything").warning("meanwhile")
        shown.show(STATE)
        shown.close()
        logging.getLogger("anything").warning("afterwards")
    finally:
        root.removeHandler(handler)
    text = screen.getvalue()
    assert "25 %" in text and "1/3 files" in text and "0.5/2.0 MB" in text
    assert "meanwhile\n" in text
    assert text.endswith("afterwards\n")


def test_none_is_drawn_where_nobody_looks() -> None:
    assert bar.at(io.StringIO()) is None


def test_none_is_drawn_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert bar.at(Screen()) is None


def test_a_bar_that_never_appeared_is_taken_away_without_a_trace() -> None:
    screen = Screen()
    shown = bar.at(screen)
    assert shown
    shown.close()
    assert screen.getvalue() == ""
