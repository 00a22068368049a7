"""What was measured: by load, connections, server and round; and medians of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ANCHOR = "triton"


class Key(NamedTuple):
    """One server in one cell."""

    load: str
    connections: int
    server: str


@dataclass(frozen=True)
class Measured:
    """One round of one server in one cell; CPU in microseconds per request."""

    rps: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    triton_cpu_us: float

    @property
    def cpu_us(self) -> float:
        return self.server_cpu_us + self.triton_cpu_us


class Spread(NamedTuple):
    """Median, smallest and largest of some figures."""

    median: float
    low: float
    high: float


def spread(figures: Iterable[float]) -> Spread | None:
    """None where there is no figure."""
    values = list(figures)
    return Spread(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Results:
    """Everything of one run.

    Attributes:
        rounds: by server and cell, in order; a failed cell has none.
        failed: why, by server and cell.
        left_out: servers that could not take part, and why.
        figures: others by name, such as idle CPU; several of a name are repetitions.
    """

    rounds: dict[Key, list[Measured]] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, key: Key, measured: Measured) -> None:
        self.rounds.setdefault(key, []).append(measured)

    def fail(self, key: Key, reason: str) -> None:
        """One failure spoils the cell: a median of what went well would hide it."""
        self.failed[key] = reason
        self.rounds.pop(key, None)

    def ordered(self) -> list[Key]:
        """By load and connections; within a cell in the order of measuring, failures included."""
        order = {key: place for place, key in enumerate([*self.rounds, *self.failed])}
        return sorted(order, key=lambda key: (key.load, key.connections, order[key]))

    def ratio(self, over: Key, under: Key, of: Callable[[Measured], float]) -> Spread | None:
        """Round by round, because both were measured under the same circumstances only within one."""
        return spread(ratios(self.rounds.get(over, []), self.rounds.get(under, []), of))

    def median(self, key: Key) -> Measured | None:
        """Each figure's own median."""
        rounds = self.rounds.get(key)
        if not rounds:
            return None
        names = ("rps", "p50_ms", "p99_ms", "server_cpu_us", "triton_cpu_us")
        return Measured(*(statistics.median(getattr(one, name) for one in rounds) for name in names))

    def rows(self) -> list[dict[str, Any]]:
        """One for each server and cell, for BENCH_JSON; a failed one has nulls and says why."""
        return [self._row(key) for key in self.ordered()]

    def _row(self, key: Key) -> dict[str, Any]:
        median = self.median(key)
        ratio = self.ratio(key, key._replace(server=ANCHOR), lambda one: one.rps)
        row: dict[str, Any] = {
            **key._asdict(),
            "rps": median and round(median.rps, 2),
            "p50_ms": median and round(median.p50_ms, 3),
            "p99_ms": median and round(median.p99_ms, 3),
            "ratio_to_direct": ratio and round(ratio.median, 3),
            "server_cpu_us": median and round(median.server_cpu_us, 1),
            "triton_cpu_us": median and round(median.triton_cpu_us, 1),
        }
        return row if median else {**row, "failed": self.failed[key]}


def ratios(over: Sequence[Measured], under: Sequence[Measured], of: Callable[[Measured], float]) -> list[float]:
    """Figure by figure; rounds that only one of the two has count nothing, nor does a division by zero."""
    return [of(a) / of(b) for a, b in zip(over, under, strict=False) if of(b)]
