"""A run that is over: its steps, what they say in a sentence, and its JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from listener.errors import ConfigError
from listener.tools.load import observing, search
from listener.tools.load.figures import Figures
from listener.tools.load.observing import Seen
from listener.tools.load.search import Objective, Tried

_FORM = "listener load 1"
#: Requests in a step below which its p99 is one of the two or three slowest.
_FEW = 200
#: Share of time from which on a CPU or a GPU is said to be what is full.
_FULL = 0.85


@dataclass(frozen=True)
class Step:
    """One rate, for a while.

    Attributes:
        rate: that was wanted; `figures.offered` is what chance made of it.
        figures: what came.
        seen: meanwhile.
    """

    rate: float
    figures: Figures
    seen: Seen = field(default_factory=Seen)


def tried(steps: Sequence[Step], objective: Objective) -> list[Tried]:
    """Steps, for the search."""
    return [Tried(one.rate, not objective.misses(one.figures), objective.is_narrow(one.figures)) for one in steps]


@dataclass(frozen=True)
class Outcome:
    """Everything that a report says.

    Attributes:
        url: without its query.
        bodies: what was sent, in words.
        started: in UTC, as ISO 8601.
        objective: that was to be kept.
        held: whether one rate was given; else the highest one was looked for.
        steps: in their order.
        slices: parts of a rate that was held.
        where: what ran where, by what it is.
        cpu_of, metrics: of `Observer`.
        is_here: whether target and generator share a machine.
        interrupted: by Ctrl-C.
        failed: why it ended before its time; "" = it did not.
    """

    url: str
    bodies: str
    started: str
    objective: Objective
    held: bool
    steps: Sequence[Step]
    slices: Sequence[Figures] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    cpu_of: str = ""
    metrics: str = ""
    is_here: bool = False
    interrupted: bool = False
    failed: str = ""

    @property
    def tried(self) -> list[Tried]:
        return tried(self.steps, self.objective)

    @property
    def best(self) -> Step | None:
        """The last step at the highest rate that kept the objective; None: no rate did."""
        low, _ = search.bracket(self.tried)
        return next((step for step in reversed(self.steps) if step.rate == low), None)

    @property
    def beyond(self) -> Step | None:
        """The last step at the lowest rate that did not; None: every rate did."""
        _, high = search.bracket(self.tried)
        return next((step for step in reversed(self.steps) if step.rate == high), None)

    @property
    def kept(self) -> bool:
        """Whether there is a rate that keeps the objective; with one that was given, whether that did."""
        return self.best is not None

    @property
    def by_rate(self) -> list[Step]:
        """The last step at each rate, from the lowest."""
        return [step for _, step in sorted({step.rate: step for step in self.steps}.items())]

    @property
    def slow_generator(self) -> list[Step]:
        """Steps that say more of the generator than of the target."""
        return [step for step in self.steps if self.objective.generator_was_slow(step.figures)]


def headline(run: Outcome) -> str:
    """The one sentence."""
    limit, best, beyond = f"{run.objective.p99:g} ms", run.best, run.beyond
    if not run.steps:
        return "Nothing was measured"
    if run.held:
        step = run.steps[-1]
        if best:
            return f"Keeps p99 under {limit} at {number(step.rate)} requests/s: {milliseconds(step.figures.p99)}"
        return f"Does not keep p99 under {limit} at {number(step.rate)} requests/s: {_why(run, step)}"
    if best is None:
        lowest = min(run.steps, key=lambda step: step.rate)
        return f"Keeps p99 under {limit} at no rate: {number(lowest.rate)} requests/s came to {_why(run, lowest)}"
    at_least = "at least " if beyond is None or beyond in run.slow_generator else ""
    return f"Keeps p99 under {limit} up to {at_least}{number(best.rate)} requests/s"


def details(run: Outcome) -> list[str]:
    """The sentences below the headline, the most important first."""
    best, beyond = run.best, run.beyond
    said = []
    if run.failed:
        said.append(f"The run ended before its time: {run.failed}.")
    if run.interrupted:
        said.append("The run was interrupted; this is what there was.")
    if not run.held and best and beyond:
        said.append(f"The next rate that was tried, {number(beyond.rate)}/s, came to {_why(run, beyond)}.")
    if best and (full := _full(run, best)):
        said.append(f"At {number(best.rate)}/s {full}.")
    if not run.held and best and beyond is None:
        said.append("No rate that was tried was too much: a longer --duration tries higher ones.")
    if best and best.figures.requests < _FEW:
        said.append(f"That is of {best.figures.requests} requests only; a longer --duration makes it surer.")
    return said


def _full(run: Outcome, step: Step) -> str:
    """What there has to be more of for a higher rate; "" = nothing is full, or nobody knows."""
    busy = {f"{name} was": share for name, share in step.seen.metrics.gpus.items()}
    if math.isnan(step.seen.metrics.processes):
        busy[f"the CPUs ({run.cpu_of}) were"] = step.seen.cpu
    return " and ".join(f"{name} {share:.0%} busy" for name, share in busy.items() if share >= _FULL)


def generator(run: Outcome) -> tuple[bool, str]:
    """Whether the generator was fast enough for the sentence above, and why that is to be believed."""
    if not run.steps:
        return True, ""
    judged = [step for step in (run.best, run.beyond) if step]
    slow = [step for step in judged if step in run.slow_generator]
    lag = max((step.figures.lag_p99 for step in judged if not math.isnan(step.figures.lag_p99)), default=math.nan)
    cpu = max((step.figures.cpu for step in judged if not math.isnan(step.figures.cpu)), default=math.nan)
    figures = f"its requests left up to {milliseconds(lag)} late (p99), and it used {cpu:.0%} of one CPU"
    shared = (
        " It runs on the target's machine and takes CPU from it: from another one the rate is higher." * run.is_here
    )
    if slow:
        rates = " and ".join(f"{number(step.rate)}/s" for step in slow)
        return False, (
            f"The generator was too slow at {rates}: {figures}. So the target may carry more; ask from a machine with "
            "CPUs to spare."
        )
    if any(run.objective.generator_was_late(step.figures) for step in judged):
        return False, (
            f"The generator did not get its CPU in time: {figures}. That is a part of these times, so the target may "
            f"carry more; something else, or the target itself, takes {'this machine' if run.is_here else 'its CPUs'}."
        )
    waited = sum(step.figures.waited for step in judged)
    limit = f" {waited:,} requests waited for one of its connections (--connections)." if waited else ""
    return True, f"The generator was fast enough: {figures}.{limit}{shared}"


def number(rate: float) -> str:
    """A rate for people: three or four digits."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def milliseconds(value: float) -> str:
    """A time for people."""
    if math.isnan(value):
        return "no time"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def _why(run: Outcome, step: Step) -> str:
    at_least = "at least " if step.figures.cut else ""
    return at_least + (", ".join(run.objective.misses(step.figures)) or milliseconds(step.figures.p99))


# Files


def as_json(run: Outcome) -> str:
    """All of it; what is unknown is null."""
    document = {
        "form": _FORM,
        "headline": headline(run),
        "generator_was_fast_enough": generator(run)[0],
        "highest_rate": run.best.rate if run.best else None,
        **{name: getattr(run, name) for name in _PLAIN},
        "slo_p99_ms": run.objective.p99,
        "steps": [
            {
                "rate": step.rate,
                "kept": tried.kept,
                "misses": run.objective.misses(step.figures),
                "generator_was_slow": step in run.slow_generator,
                **asdict(step.figures),
                "seen": observing.as_json(step.seen),
            }
            for step, tried in zip(run.steps, run.tried, strict=True)
        ],
        "slices": [asdict(one) for one in run.slices],
    }
    return json.dumps(_with(document, lambda value: None if value != value else value), indent=1) + "\n"


_PLAIN = ("url", "bodies", "started", "held", "where", "cpu_of", "metrics", "is_here", "interrupted", "failed")
_OF_STEPS = ("rate", "kept", "misses", "generator_was_slow", "seen")


def read(file: Path) -> Outcome:
    """A run from its JSON.

    Raises:
        ConfigError: it is none.
    """
    try:
        document = json.loads(file.read_bytes())
        if document["form"] != _FORM:
            raise ValueError
        document = _with(document, lambda value: math.nan if value is None else value)
        steps = [
            Step(
                one["rate"],
                Figures(**{name: value for name, value in one.items() if name not in _OF_STEPS}),
                observing.of_json(one["seen"]),
            )
            for one in document["steps"]
        ]
        plain = {name: document[name] for name in _PLAIN}
        slices = [Figures(**one) for one in document["slices"]]
        return Outcome(objective=Objective(document["slo_p99_ms"]), steps=steps, slices=slices, **plain)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{file}: is no file of `listener load --json`") from None


_COLUMNS = (
    "rate", "kept", "offered", "achieved", "p50", "p90", "p99", "p999", "longest", "mean", "requests", "failed",
    "errors", "lag_p99", "cpu", "seconds", "at",
)  # fmt: skip


def as_csv(run: Outcome) -> str:
    """A line for each step; times in milliseconds."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for step, tried in zip(run.steps, run.tried, strict=True):
        errors = "; ".join(f"{kind}: {count}" for kind, count in step.figures.errors.items())
        more = {"rate": step.rate, "kept": int(tried.kept), "errors": errors}
        cells = [more[name] if name in more else getattr(step.figures, name) for name in _COLUMNS]
        lines.writerow([round(cell, 4) if isinstance(cell, float) else cell for cell in cells])
    return written.getvalue()


def without_query(url: str) -> str:
    """API keys stand in queries."""
    return url.partition("?")[0]


def _with(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with(inner, change) for inner in value]
    return change(value)
