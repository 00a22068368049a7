"""A bar for people who wait at a terminal: files, bytes, rate and time left. Drawn by rich.

That comes with the extra `tools`; without it there is no bar, and the lines in the log say it. What is logged meanwhile
is written above the bar.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TextIO

from listener.artifacts.progress import Shown, State

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """Appears with the first state and leaves nothing behind.

    Args:
        progress: rich's.
        stream: the terminal, to which handlers of the log write as well.
    """

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        self._progress, self._stream = progress, stream
        self._task: TaskID | None = None

    def show(self, state: State) -> None:
        """Draws a state."""
        files = f"{state.files_done}/{state.files} files"
        if self._task is None:
            self._task = self._progress.add_task("", total=state.bytes, files=files)
            self._progress.start()
            self._redirect(_Above(self._progress))
        self._progress.update(self._task, completed=state.bytes_done, total=state.bytes, files=files)

    def close(self) -> None:
        """Takes it away."""
        if self._task is not None:
            self._progress.stop()
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, _Above):
                    handler.setStream(self._stream)

    def _redirect(self, above: _Above) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(above)


class _Above:
    """What a handler of the log needs of a stream; writes above the bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> None:
        from rich.text import Text

        self._progress.console.print(Text.from_ansi(text), end="" if text.endswith("\n") else "\n", soft_wrap=True)

    def flush(self) -> None:
        """rich writes at once."""


def at(stream: TextIO) -> Shown | None:
    """A bar on a terminal; None where a stream is none, or rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    columns = (
        progress.TextColumn("fetching"),
        progress.BarColumn(),
        progress.TextColumn("{task.percentage:>3.0f} %"),
        progress.TextColumn("{task.fields[files]}"),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(file=stream)
    return Bar(progress.Progress(*columns, console=console, transient=True, redirect_stdout=False), stream)
