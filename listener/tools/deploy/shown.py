"""How far a deployment is: a line that turns at a terminal (by rich, if it is there), lines in the log elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("listener.deploy")

#: Seconds between two lines that say the same.
_PERIOD = 30.0


class Shown(Protocol):
    """What is told."""

    def stage(self, does: str, stage: str) -> None:
        """What is under way, and how far it is; called at each look."""

    def say(self, sentence: str) -> None:
        """Something that stays to be read."""

    def close(self) -> None:
        """No more of it."""


class Lines:
    """In the log: each stage once, and that it goes on every half minute."""

    def __init__(self) -> None:
        self._begin = self._told = time.monotonic()
        self._does = self._last = ""

    def stage(self, does: str, stage: str) -> None:
        now, text = time.monotonic(), f"{does}: {stage or 'under way'}"
        if does != self._does:
            self._does, self._begin = does, now
        if text != self._last or now - self._told >= _PERIOD:
            self._last, self._told = text, now
            log.info("%s, %.0f s", text, now - self._begin)

    def say(self, sentence: str) -> None:
        log.info("%s", sentence)

    def close(self) -> None:
        """Lines are written at once."""


class Spinner:
    """At a terminal: one line with the time, and what was said above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._does = progress, ""
        self._task = progress.add_task("", total=None, visible=False)
        progress.start()

    def stage(self, does: str, stage: str) -> None:
        if does != self._does:
            self._does = does
            self._progress.reset(self._task)
        self._progress.update(self._task, description=f"{does}: {stage}" if stage else does, visible=True)

    def say(self, sentence: str) -> None:
        from rich.text import Text

        self._progress.console.print(Text(sentence), soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def at(stream: TextIO, for_people: bool) -> Shown:
    """What suits a stream.

    Args:
        stream: to which the log goes as well.
        for_people: its lines are text, not JSON.
    """
    if not for_people or not stream.isatty():
        return Lines()
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return Lines()
    columns = (progress.SpinnerColumn(), progress.TextColumn("{task.description}"), progress.TimeElapsedColumn())
    return Spinner(progress.Progress(*columns, console=Console(file=stream), transient=True, redirect_stdout=False))
