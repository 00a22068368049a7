"""The goals, in one place, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import Key, Results, Spread, spread

DIRECT, PER_CORE, LISTENER = "triton", "triton-per-core", "listener"

UNKNOWN = "not measured"
#: Throughput relative to direct Triton, by load and connections: at least.
RATIO = {
    ("W1", 1): 0.65,
    ("W1", 8): 0.9,
    ("W1", 32): 1.3,
    ("W1", 128): 1.5,
    ("W2", 8): 2.0,
    ("W3", 1): 1.8,
    ("W3", 8): 1.4,
    ("W4", 8): 1.0,
    ("W4", 32): 1.0,
}
#: The same, relative to a direct Triton with one instance of the model per core: at least.
RATIO_PER_CORE = {("W2", 8): 1.1}
#: CPU per request of listener and Triton together, relative to direct Triton: at most.
CPU = {("W1", 32): 0.85, ("W2", 8): 0.85, ("W3", 8): 0.6, ("W4", 8): 1.0}
#: Throughput of W1 at 1,024 connections relative to 64: at least.
MANY, FEW, MANY_RATIO = 1024, 64, 0.9

IDLE_CPU, WORKER_RSS, IMPORT, FIRST_HEALTH = "idle CPU", "RSS of a worker", "import", "first health"
#: Of the listener alone, at most: percent of a core, megabytes, seconds.
IDLE_CPU_PERCENT, WORKER_RSS_MB, START_S = 1.0, 120.0, 0.7


@dataclass(frozen=True)
class Judged:
    """One goal and what was measured.

    Attributes:
        name: what was measured, for people.
        wanted: the bound.
        at_least: the figure has to reach the bound; else it must not pass it.
        unit: behind the figures.
        found: None where it was not measured.
        why: the reason why it was not, or a remark.
    """

    name: str
    wanted: float
    at_least: bool
    unit: str
    found: Spread | None
    why: str = ""

    @property
    def met(self) -> bool | None:
        """By the median; None where nothing was measured."""
        if self.found is None:
            return None
        return self.found.median >= self.wanted if self.at_least else self.found.median <= self.wanted

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "**failed**" if self.why else UNKNOWN
        return "met" if self.met else "**missed**"


def judge(results: Results) -> list[Judged]:
    """Every goal, in the order of this file."""
    return [*_ratios(results), *_cpu(results), _many(results), *_alone(results)]


def _ratios(results: Results) -> Iterator[Judged]:
    for anchor, table, suffix in (
        (DIRECT, RATIO, ""),
        (PER_CORE, RATIO_PER_CORE, ", direct with one instance per core"),
    ):
        for (load, connections), wanted in table.items():
            ours, theirs = Key(load, connections, LISTENER), Key(load, connections, anchor)
            found = results.ratio(ours, theirs, lambda one: one.rps)
            name = f"{load} at {connections}{suffix}"
            yield Judged(name, wanted, True, "", found, _why(results, ours, theirs))


def _cpu(results: Results) -> Iterator[Judged]:
    for (load, connections), wanted in CPU.items():
        ours, theirs = Key(load, connections, LISTENER), Key(load, connections, DIRECT)
        found = results.ratio(ours, theirs, lambda one: one.cpu_us)
        yield Judged(f"{load} at {connections}, CPU per request", wanted, False, "", found, _why(results, ours, theirs))


def _many(results: Results) -> Judged:
    many, few = Key("W1", MANY, LISTENER), Key("W1", FEW, LISTENER)
    found = results.ratio(many, few, lambda one: one.rps)
    median = results.median(many)
    why = f"p99 {median.p99_ms:.0f} ms" if median else _why(results, many, few)
    return Judged(f"W1 at {MANY:,} relative to {FEW}", MANY_RATIO, True, "", found, why)


def _alone(results: Results) -> Iterator[Judged]:
    figures = results.figures
    yield Judged("idle CPU of the listener", IDLE_CPU_PERCENT, False, " %", spread(figures.get(IDLE_CPU, [])))
    rss = figures.get(WORKER_RSS, [])
    # the largest: a worker that has served large bodies counts
    by_load = f"by load: {', '.join(f'{one:.0f}' for one in rss)}" if rss else ""
    yield Judged("RSS of a worker after load", WORKER_RSS_MB, False, " MB", spread(sorted(rss)[-1:]), by_load)
    start = [a + b for a, b in zip(figures.get(IMPORT, []), figures.get(FIRST_HEALTH, []), strict=False)]
    yield Judged("import listener, and first health answer", START_S, False, " s", spread(start))


def _why(results: Results, *keys: Key) -> str:
    return "; ".join(f"{key.server}: {results.failed[key]}" for key in keys if key in results.failed)
