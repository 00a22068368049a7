"""How far a run is: a picture that moves at a terminal (by rich, if it is there), a line for each step elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from listener.tools.load.outcome import Step, milliseconds, number

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

_BARS = "▁▂▃▄▅▆▇█"


class Shown(Protocol):
    """What is told."""

    def step(self, count: int, rate: float, left: float) -> None:
        """A step begins, at so many requests per second; so many seconds are left."""

    def now(self, p50: float, p99: float, left: float) -> None:
        """How long the answers of the last second took, in milliseconds."""

    def done(self, step: Step, misses: Sequence[str]) -> None:
        """A step is over."""

    def close(self) -> None:
        """No more of it."""


class Lines:
    """One for each step."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._count = stream, 0

    def step(self, count: int, rate: float, left: float) -> None:
        self._count = count

    def now(self, p50: float, p99: float, left: float) -> None:
        """Nobody reads that in a log."""

    def done(self, step: Step, misses: Sequence[str]) -> None:
        found = step.figures
        verdict = f"missed: {', '.join(misses)}" if misses else "kept"
        print(
            f"step {self._count}: {number(step.rate)}/s, p50 {milliseconds(found.p50)}, "
            f"p99 {milliseconds(found.p99)}, {verdict}",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        """Lines are written at once."""


class Moving:
    """At a terminal: steps that are over, the one that runs, and how it goes."""

    def __init__(self, console: Console, live: Live, slo: float) -> None:
        self._console, self._live, self._slo = console, live, slo
        self._steps: list[tuple[str, ...]] = []
        self._p99s: list[float] = []
        self._count, self._rate = 0, 0.0
        live.start()

    def step(self, count: int, rate: float, left: float) -> None:
        self._count, self._rate, self._p99s = count, rate, []
        self.now(math.nan, math.nan, left)

    def now(self, p50: float, p99: float, left: float) -> None:
        if not math.isnan(p99):
            self._p99s.append(p99)
        self._live.update(self._table((p50, p99), max(0.0, left)), refresh=True)

    def done(self, step: Step, misses: Sequence[str]) -> None:
        found = step.figures
        verdict = f"[red]missed[/]: {', '.join(misses)}" if misses else "[green]kept[/]"
        self._steps.append((number(step.rate), milliseconds(found.p50), milliseconds(found.p99), verdict))

    def close(self) -> None:
        self._live.update(self._table(None, 0.0), refresh=True)
        self._live.stop()

    def _table(self, now: tuple[float, float] | None, left: float) -> Group:
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("requests/s", "p50", "p99"):
            table.add_column(name, justify="right")
        table.add_column("")
        for row in self._steps:
            table.add_row(*row)
        if now:
            p50, p99 = (milliseconds(value) if not math.isnan(value) else "" for value in now)
            table.add_row(f"[bold]{number(self._rate)}[/]", p50, p99, self._bars())
        caption = f"step {self._count}, {left:.0f} s left; the objective is p99 under {self._slo:g} ms"
        return Group(table, caption) if now else Group(table)

    def _bars(self) -> str:
        """The p99 of the last seconds, full where it is the objective or more."""
        heights = [min(1.0, value / self._slo) for value in self._p99s[-24:]]
        return "".join(_BARS[min(7, int(height * 7.99))] for height in heights) or "..."


def at(stream: TextIO, slo: float) -> Shown:
    """What fits a stream: its terminal, or its file."""
    if not stream.isatty():
        return Lines(stream)
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return Lines(stream)
    console = Console(file=stream)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    return Moving(console, live, slo)
