"""The report: one page of HTML that stands by itself, without scripts; readable on light and on dark."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from listener.metrics.times import PHASES
from listener.tools.load import outcome, plots
from listener.tools.load.outcome import Outcome, Step, milliseconds, number
from listener.tools.load.plots import Axes, Line, Part

_WIDE, _HALF = (920.0, 340.0), (450.0, 270.0)
_RATE = "offered, requests/s"
#: Of phases, in their order, and the part of the highest bar below which one is not drawn.
_OF_PHASES, _LEAST_PART = ("c1", "c0", "c2", "c3", "c5", "c7"), 0.01
#: Of errors by their kind, and of GPUs.
_OF_ERRORS, _OF_GPUS = ("c6", "c3", "c2", "c7", "c0", "c4"), ("c0", "c2", "c5", "c7")
#: What each of the percentiles is drawn as.
_PERCENTILES = {"p50": "c1", "p90": "c2", "p99.9": "c4", "p99": "c0"}
_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f8fa; --ink: #1f2328; --dim: #59636e; --line: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; --kept: #1a7f3714;
  --c0: #0550ae; --c1: #54aeff; --c2: #8250df; --c3: #bf8700; --c4: #a8b1bb; --c5: #1a7f37; --c6: #cf222e;
  --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --card: #161b22; --ink: #e6edf3; --dim: #9198a1;
  --line: #3d444d; --good: #3fb950; --bad: #f85149; --kept: #3fb95018;
  --c0: #79c0ff; --c1: #388bfd; --c2: #bc8cff; --c3: #d29922; --c4: #6e7681; --c5: #3fb950; --c6: #f85149;
  --c7: #9198a1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial,
  "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 20px 60px; }
tr:last-child td { border-bottom: 0; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 4px 0; }
.dim, .legend { color: var(--dim); font-size: 13px; }
.verdict { border-left: 4px solid var(--good); padding: 2px 12px; margin: 14px 0; }
.verdict.slow { border-color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.3; }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.wide { grid-column: 1 / -1; }
@media (max-width: 760px) { .plots { grid-template-columns: minmax(0, 1fr); } }
section { min-width: 0; }
.rows { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 4px 6px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .words { text-align: left; }
.errors { text-align: left; }
th { color: var(--dim); font-weight: 600; }
tr.best td { font-weight: 700; }
.good { color: var(--good); } .bad { color: var(--bad); }
svg { width: 100%; height: auto; display: block; margin-top: 4px; }
svg text { font-size: 11.5px; fill: var(--dim); font-family: inherit; }
svg .at { fill: var(--ink); font-weight: 600; font-size: 12.5px; }
.grid { stroke: var(--line); stroke-width: 1; opacity: .6; } .axis { stroke: var(--dim); }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; }
.knee { stroke: var(--good); stroke-width: 1.5; } .kept { fill: var(--kept); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; } polyline.c0 { stroke-width: 3; }
.dashed { stroke-dasharray: 5 4; }
.legend span { margin-right: 14px; white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 8px 0; font-size: 13.5px; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
""" + "".join(
    f"polyline.c{n} {{ stroke: var(--c{n}); }} circle.c{n}, rect.c{n} {{ fill: var(--c{n}); }} "
    f"i.c{n} {{ background: var(--c{n}); }}\n"
    for n in range(8)
)


def page(run: Outcome, earlier: Outcome | None = None) -> str:
    """The whole page.

    Args:
        run: what is reported.
        earlier: another run to hold it against.
    """
    title = escape(outcome.headline(run))
    parts = [
        f"<h1>{title}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in outcome.details(run)),
        f'<p class="dim">POST {escape(run.url)}, {escape(run.started)}; bodies: {escape(run.bodies)}.</p>',
        _verdict(run),
        _tiles(run),
        *([_side_by_side(run, earlier)] if earlier else []),
        f'<div class="plots">{"".join(_plots(run, earlier))}</div>',
        _table(run),
        _where(run),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<style>{_STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _verdict(run: Outcome) -> str:
    fast, sentence = outcome.generator(run)
    return f'<p class="verdict{"" if fast else " slow"}">{escape(sentence)}</p>'


def _tiles(run: Outcome) -> str:
    step = run.best or (run.steps[-1] if run.held else min(run.steps, key=lambda one: one.rate))
    found = step.figures
    tiles = [
        (number(step.rate), "requests/s" if run.held else "requests/s at most" if run.best else "requests/s, too many"),
        (milliseconds(found.p50), "p50 there: half of the answers came within it"),
        (milliseconds(found.p99), "p99 there: 99 of 100 answers did"),
        (f"{found.error_rate:.2%}" if found.failed else "none", "errors there"),
    ]
    return '<div class="tiles">' + "".join(_tile(value, words) for value, words in tiles) + "</div>"


def _tile(value: str, words: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span class="dim">{escape(words)}</span></div>'


# Plots


@dataclass(frozen=True)
class _Plot:
    """A plot with one sentence of what to look at; without a drawing, the sentence says why there is none."""

    title: str
    note: str
    drawing: str = ""
    is_wide: bool = False


def _plots(run: Outcome, earlier: Outcome | None) -> Iterable[str]:
    first = _over_time(run) if run.held else _latency(run, earlier)
    all_of_them = [first, _answered(run, earlier), _phases(run), _use(run), _batches(run), _errors(run)]
    for one in all_of_them:
        if one.drawing:
            words = f'<h2>{escape(one.title)}</h2><p class="dim">{escape(one.note)}</p>'
            yield f'<section class="{"wide" if one.is_wide else ""}">{words}{one.drawing}</section>'
    if left := [one for one in all_of_them if not one.drawing]:
        items = "".join(f"<dt>{escape(one.title)}</dt><dd>{escape(one.note)}</dd>" for one in left)
        yield f'<section class="wide"><dl>{items}</dl></section>'


def _curve(steps: Sequence[Step], name: str) -> list[tuple[float, float]]:
    field = {"p99.9": "p999"}.get(name, name)
    return [(step.rate, getattr(step.figures, field)) for step in steps]


def _latency(run: Outcome, earlier: Outcome | None) -> _Plot:
    best = run.best
    drawn = [Line(name, _curve(run.by_rate, name), style) for name, style in _PERCENTILES.items()]
    if earlier:
        drawn = [
            Line("p50", _curve(run.by_rate, "p50"), "c1"),
            Line("p50 before", _curve(earlier.by_rate, "p50"), "c7 dashed"),
            Line("p99 before", _curve(earlier.by_rate, "p99"), "c3"),
            Line("p99", _curve(run.by_rate, "p99"), "c0"),
        ]
    axes = Axes(
        _RATE,
        "milliseconds (logarithmic)",
        log=True,
        limit=(run.objective.p99, f"the objective (SLO): p99 under {run.objective.p99:g} ms"),
        knee=(best.rate, f"kept up to {number(best.rate)}/s") if best else None,
    )
    cut = any(step.figures.cut for step in run.steps)
    note = "The thick line is the p99. Where it crosses the red one, more requests are too many."
    note += " Steps far above it were cut short, so their times are at least these." if cut else ""
    return _Plot("How long answers take", note, plots.lines(drawn, axes, _WIDE, "Latency against rate"), True)


def _over_time(run: Outcome) -> _Plot:
    names = {"p50": "c1", "p90": "c2", "p99": "c0"}
    drawn = [Line(name, [(one.at, getattr(one, name)) for one in run.slices], style) for name, style in names.items()]
    axes = Axes(
        "seconds from the start",
        "milliseconds (logarithmic)",
        log=True,
        limit=(run.objective.p99, f"the objective (SLO): p99 under {run.objective.p99:g} ms"),
    )
    note = "The thick line is the p99 of each part of the time. One that rises to the right is a queue that grows."
    return _Plot("How long answers take", note, plots.lines(drawn, axes, _WIDE, "Latency against time"), True)


def _answered(run: Outcome, earlier: Outcome | None) -> _Plot:
    if run.held:
        drawn = [
            Line("offered", [(one.at, one.offered) for one in run.slices], "c4 dashed"),
            Line("answered", [(one.at, one.achieved) for one in run.slices], "c5"),
        ]
        axes, note = Axes("seconds from the start", "requests/s"), "Both go by chance; answers below for long are lost."
        return _Plot("What was answered", note, plots.lines(drawn, axes, _HALF, "Answers against time"))
    rates = [step.rate for step in run.by_rate]
    drawn = [
        Line("all that is offered", [(0.0, 0.0), (max(rates), max(rates))], "c4 dashed"),
        *([Line("answered before", _curve(earlier.by_rate, "achieved"), "c3")] if earlier else []),
        Line("answered", _curve(run.by_rate, "achieved"), "c5"),
    ]
    best = run.best
    axes = Axes(_RATE, "answered, requests/s", knee=(best.rate, "the knee") if best and run.beyond else None)
    note = "Where it leaves the dashed line, more is asked than can be answered."
    return _Plot("What was answered", note, plots.lines(drawn, axes, _HALF, "Answers against rate"))


def _names(steps: Sequence[Step]) -> list[str]:
    return [number(step.rate) for step in steps]


def _errors(run: Outcome) -> _Plot:
    steps = run.by_rate
    kinds = sorted({kind for step in steps for kind in step.figures.errors})
    if not kinds:
        return _Plot("Errors", "There were none: every request got an answer with status 200.")
    parts = {
        kind: [step.figures.errors.get(kind, 0) / max(1, step.figures.requests) for step in steps] for kind in kinds
    }
    note = "Requests without a right answer, as a part of all, in each step."
    axes = Axes(_RATE, "of all requests", percent=True)
    drawn = [Part(kind, parts[kind], colour) for kind, colour in zip(kinds, itertools.cycle(_OF_ERRORS), strict=False)]
    return _Plot("Errors", note, plots.bars(_names(steps), drawn, axes, _HALF, "Errors by kind"))


def _phases(run: Outcome) -> _Plot:
    title, steps = "Where the time goes", run.by_rate
    if any(step.seen.metrics.phases for step in steps):
        known = [phase for phase in PHASES if any(phase in step.seen.metrics.phases for step in steps)]
        parts = {phase: [step.seen.metrics.phases.get(phase, 0.0) for step in steps] for phase in known}
        rest, note = "the rest: network, waiting to be read", "Means of a request, by the listener's own metrics."
    elif any(step.seen.metrics.triton for step in steps):
        known = list(next(step.seen.metrics.triton for step in steps if step.seen.metrics.triton))
        parts = {part: [step.seen.metrics.triton.get(part, 0.0) for step in steps] for part in known}
        rest, note = (
            "outside of Triton",
            "Means, by Triton's metrics: what a request takes, and what of it is Triton's.",
        )
    else:
        return _Plot(title, _without_metrics(run))
    if not run.held and run.best and run.beyond:  # beyond the knee all is waiting, and nothing else can be seen
        places = [place for place, step in enumerate(steps) if step.rate <= max(run.best.rate, run.beyond.rate)]
        steps, parts = [steps[p] for p in places], {name: [row[p] for p in places] for name, row in parts.items()}
    inside = [sum(row[place] for row in parts.values()) for place in range(len(steps))]
    means = [step.figures.mean for step in steps]
    parts[rest] = [max(0.0, (mean if mean == mean else 0.0) - known) for mean, known in zip(means, inside, strict=True)]
    if len(steps) == 1:
        return _Plot(title, f"{note} {_listed({name: milliseconds(row[0]) for name, row in parts.items()})}")
    axes = Axes(_RATE, "milliseconds")
    least = max(map(sum, zip(*parts.values(), strict=True))) * _LEAST_PART
    shown = {name: row for name, row in parts.items() if max(row) >= least}
    note += " Parts below 1 % are left out." if len(shown) < len(parts) else ""
    colours = [*_OF_PHASES[: len(shown) - 1], "c4"]  # the rest is grey
    drawn = [Part(name, row, colour) for (name, row), colour in zip(shown.items(), colours, strict=True)]
    return _Plot(title, note, plots.bars(_names(steps), drawn, axes, _HALF, title))


def _use(run: Outcome) -> _Plot:
    title, steps = "CPU and GPU", run.by_rate
    of_processes = any(not math.isnan(step.seen.metrics.processes) for step in steps)
    drawn = [Line(run.cpu_of, [(step.rate, step.seen.cpu) for step in steps], "c3")] if run.cpu_of else []
    gpus = sorted({name for step in steps for name in step.seen.metrics.gpus})
    drawn += [
        Line(name, [(step.rate, step.seen.metrics.gpus.get(name, math.nan)) for step in steps], colour)
        for name, colour in zip(gpus, itertools.cycle(_OF_GPUS), strict=False)
    ]
    drawn = [line for line in drawn if any(not math.isnan(y) for _, y in line.points)]
    if not drawn:
        return _Plot(title, "Unknown: the target is elsewhere, and has no metrics that tell.")
    if len(steps) == 1:
        form = ".2f" if of_processes else ".0%"
        return _Plot(title, _listed({line.name: format(line.points[0][1], form) for line in drawn}))
    note = "What is near 100 % at the knee is what there has to be more of."
    if not gpus:
        note += " The metrics tell of no GPU." if run.metrics else ""
    if of_processes:
        return _Plot(title, note, plots.lines(drawn, Axes(_RATE, "CPUs, and share of GPUs"), _HALF, title))
    return _Plot(title, note, plots.lines(drawn, Axes(_RATE, "busy", top=1.05, percent=True), _HALF, title))


def _batches(run: Outcome) -> _Plot:
    title, steps = "Rows that share a call", run.by_rate
    drawn = [
        Line("instances in a call of the listener's", [(s.rate, s.seen.metrics.rows_per_call) for s in steps], "c2"),
        Line("rows in an execution of Triton's", [(s.rate, s.seen.metrics.batch) for s in steps], "c0"),
    ]
    drawn = [line for line in drawn if any(not math.isnan(y) for _, y in line.points)]
    if not drawn:
        return _Plot(title, _without_metrics(run))
    if len(steps) == 1:
        return _Plot(title, _listed({line.name: f"{line.points[0][1]:.1f}" for line in drawn}))
    note = "More of them are cheaper: requests that come together are computed together."
    return _Plot(title, note, plots.lines(drawn, Axes(_RATE, "rows, mean"), _HALF, title))


def _listed(values: Mapping[str, str]) -> str:
    """In a sentence, where there is nothing to draw a line between."""
    return ", ".join(f"{name}: {value}" for name, value in values.items()) + "."


def _without_metrics(run: Outcome) -> str:
    if not run.metrics:
        return "Unknown: no metrics were found. `listener up --metrics-port 8003` has some; --metrics URL names others."
    return f"Unknown: {run.metrics} has nothing of it."


# Tables


_COLUMNS = (
    "answered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "requests", "lag p99 ms", "its CPU",
)  # fmt: skip


def _table(run: Outcome) -> str:
    head = '<th>requests/s</th><th class="words"></th>' + "".join(f"<th>{name}</th>" for name in _COLUMNS)
    head += '<th class="errors">errors</th>'
    rows = "".join(_row(run, step) for step in run.steps)
    note = (
        "In the order in which they were tried. Times count from when a request was to leave; warm-ups are left out. "
        "Answered: what came in that time, to requests of the warm-up as well. Lag and CPU are the generator's."
    )
    return (
        f'<section style="margin-top: 16px"><h2>Steps</h2><p class="dim">{note}</p>'
        f'<div class="rows"><table><tr>{head}</tr>{rows}</table></div></section>'
    )


def _row(run: Outcome, step: Step) -> str:
    found, misses = step.figures, run.objective.misses(step.figures)
    errors = "<br/>".join(escape(f"{count:,} {kind}") for kind, count in found.errors.items())
    cells = [
        number(found.achieved),
        *(_plain(value) for value in (found.p50, found.p90, found.p99, found.p999, found.longest)),
        f"{found.requests:,}",
        _plain(found.lag_p99),
        "-" if math.isnan(found.cpu) else f"{found.cpu:.0%}",
    ]
    missed = "cut short" if found.cut else "missed"
    verdict = f'<span class="bad">{missed}</span>' if misses else '<span class="good">kept</span>'
    verdict += ", generator slow" if step in run.slow_generator else ""
    first = f'<td>{number(step.rate)}</td><td class="words">{verdict}</td>'
    marked = ' class="best"' if step is run.best else ""
    last = f'<td class="errors">{errors or "none"}</td>'
    return f"<tr{marked}>{first}{''.join(f'<td>{cell}</td>' for cell in cells)}{last}</tr>"


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _side_by_side(run: Outcome, earlier: Outcome) -> str:
    rows = []
    for name, of in _COMPARED.items():
        before, now = of(earlier), of(run)
        changed = f"{now / before - 1:+.0%}" if before > 0 and now > 0 and name != _OBJECTIVE else ""
        rows.append(f"<tr><td>{name}</td><td>{_plain(before)}</td><td>{_plain(now)}</td><td>{changed}</td></tr>")
    when = "".join(
        f'<th>{name}<br/><span class="dim">{escape(one.started)}<br/>{escape(one.url)}</span></th>'
        for name, one in (("before", earlier), ("this run", run))
    )
    return (
        '<section style="margin-bottom: 16px"><h2>Side by side</h2><div class="rows"><table>'
        f"<tr><th></th>{when}<th>change</th></tr>{''.join(rows)}</table></div></section>"
    )


_OBJECTIVE = "Objective: p99 under, ms"
_COMPARED: dict[str, Callable[[Outcome], float]] = {
    _OBJECTIVE: lambda run: run.objective.p99,
    "Highest rate that keeps it, requests/s": lambda run: run.best.rate if run.best else math.nan,
    "p50 there, ms": lambda run: run.best.figures.p50 if run.best else math.nan,
    "p99 there, ms": lambda run: run.best.figures.p99 if run.best else math.nan,
    "CPU there, %": lambda run: run.best.seen.cpu * 100 if run.best else math.nan,
    "Rows in an execution there": lambda run: run.best.seen.metrics.batch if run.best else math.nan,
}


def _where(run: Outcome) -> str:
    rows = {
        **run.where,
        "CPU use of": run.cpu_of or "unknown",
        "The objective is kept": "p99 under it, errors below 0.1 %, and 98 % of what is offered is answered meanwhile",
        "Requests": "leave by chance (a Poisson process) at their rate, whether others have been answered or not",
    }
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
    return f'<section style="margin-top: 16px"><h2>What ran where</h2><dl>{items}</dl></section>'
