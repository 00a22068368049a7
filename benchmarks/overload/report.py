"""What is printed, and what is written as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.overload.rounds import AT_10, AT_90, BEST, TWICE, Case, Key, Results
from benchmarks.overload.stack import Row
from benchmarks.report import table
from benchmarks.results import Spread

_HEAD = (
    "permits", "load", "offered/s", "goodput/s", "of best", "refused/s", "p50 ms", "p99 ms", "max ms",
    "p99 of that at 90 %", "p99 of refusals ms", "workers' MB: before, peak, after", "workers' CPU", "lag p99 ms",
)  # fmt: skip
#: What the issue asks for: https://sre.google/sre-book/handling-overload/ has the reasons.
GOODPUT, LATENCY = 0.90, 2.0
#: Loads that tell what a refusal costs, the first that has any.
_FULL = (AT_10, TWICE)


def tables(results: Results, cases: Sequence[Case]) -> str:
    """A table for each service, what a refusal costs, and the goals."""
    parts = [_goals(results, cases)]
    for case in cases:
        if why := results.failed.get(case.service):
            parts.append(f"{case.service} was not measured: {why}")
            continue
        known = results.known[case.service]
        parts += [
            f"{case.service}: {case.what}. Before the rounds: {known.capacity:,.0f}/s at most, "
            f"p99 {known.p99_ms:.0f} ms at 90 % of it or with 64 busy connections.",
            table(_HEAD, [_cells(results, key) for key in results.rows if key.service == case.service]),
            _costs(results, case.service),
        ]
    averages = [row.load_average for rows in results.rows.values() for row in rows]
    if averages:
        parts.append(f"Load average of the machine: {min(averages):.1f} to {max(averages):.1f}.")
    return "\n\n".join(part for part in parts if part)


def rows(results: Results) -> list[dict[str, Any]]:
    """Everything, one row for each load, listener and round."""
    return [
        {**asdict(key), "round": number, **row.figures.as_json(), **_rest(row)}
        for key, found in results.rows.items()
        for number, row in enumerate(found)
    ]


def ratio(results: Results, key: Key, other: Key, of: Callable[[Row], float]) -> Spread | None:
    """Made within each round."""
    mine, others = results.rows.get(key, []), results.rows.get(other, [])
    quotients = [of(a) / of(b) for a, b in zip(mine, others, strict=False) if of(b)]
    return Spread(statistics.median(quotients), min(quotients), max(quotients)) if quotients else None


def costs(answers: Row, refusals: Row) -> tuple[float, float]:
    """CPU microseconds of an answer, from a load that had nothing else, and of a refusal, from one that had both."""
    answer = answers.worker_cpu / answers.figures.right_in_all
    rest = refusals.worker_cpu - answer * refusals.figures.right_in_all
    return answer * 1e6, rest / refusals.figures.refused_in_all * 1e6


def _rest(row: Row) -> dict[str, Any]:
    before, peak, after = row.memory
    memory = {"memory_before_mb": before, "memory_peak_mb": peak, "memory_after_mb": after}
    return {
        **memory,
        "worker_cpu_s": row.worker_cpu,
        "worker_share": row.worker_share,
        "load_average": row.load_average,
    }


def _at_90(key: Key) -> Key:
    return Key(key.service, key.permits, AT_90)


def _best(key: Key) -> Key:
    return Key(key.service, None, BEST)


def _goals(results: Results, cases: Sequence[Case]) -> str:
    judged, lines = {case.service: case.judged for case in cases}, []
    for key in results.rows:
        if key.permits is None or key.load not in judged[key.service]:
            continue
        good = ratio(results, key, _best(key), lambda row: row.figures.goodput)
        late = ratio(results, key, _at_90(key), lambda row: row.figures.p99)
        name = f"{key.service}, {key.permits} permits, {key.load}"
        lines.append((f"{name}: goodput of best", f">= {GOODPUT:g}", _spread(good), _verdict(good, True)))
        lines.append((f"{name}: p99 of that at 90 %", f"<= {LATENCY:g}", _spread(late), _verdict(late, False)))
    return table(("goal", "wanted", "median [min, max]", "verdict"), lines)


def _verdict(found: Spread | None, at_least: bool) -> str:
    if found is None:
        return "not measured"
    return "met" if (found.median >= GOODPUT if at_least else found.median <= LATENCY) else "**missed**"


def _cells(results: Results, key: Key) -> Sequence[str]:
    found = results.rows[key]

    def median(of: Callable[[Row], float]) -> float:
        return statistics.median(of(row) for row in found)

    # before the first round and after the last: a median would hide what grows
    memory = (found[0].memory[0], max(row.memory[1] for row in found), found[-1].memory[2])

    good = ratio(results, key, _best(key), lambda row: row.figures.goodput)
    late = ratio(results, key, _at_90(key), lambda row: row.figures.p99) if key.load != AT_90 else None
    slow = " (the generator was slow)" if any(row.figures.generator_was_slow for row in found) else ""
    wrong = sum(sum(row.figures.wrong.values()) for row in found)
    return (
        f"{key.permits:,}" if key.permits else "2,048 (default)",
        key.load + slow,
        f"{median(lambda row: row.figures.offered):,.0f}",
        f"{median(lambda row: row.figures.goodput):,.0f}" + (f", {wrong} **wrong**" if wrong else ""),
        _spread(good) if key.load != BEST else "1",
        _refused([row.figures.refused for row in found]),
        *(_number(median(of)) for of in (lambda row: row.figures.p50, lambda row: row.figures.p99)),
        _number(median(lambda row: row.figures.longest)),
        _spread(late),
        _number(median(lambda row: row.figures.refusal_p99)),
        ", ".join(f"{mb:.0f}" for mb in memory),
        f"{median(lambda row: row.worker_share):.0%}",
        _number(median(lambda row: row.figures.lag_p99)),
    )


def _refused(found: Sequence[Mapping[str, float]]) -> str:
    """Medians by status; a round without one counts as none."""
    statuses = sorted({status for one in found for status in one})
    medians = {status: statistics.median(one.get(status, 0.0) for one in found) for status in statuses}
    return ", ".join(f"{rate:,.0f} x {status}" for status, rate in medians.items()) or "-"


def _costs(results: Results, service: str) -> str:
    ordered = sorted(results.rows.items(), key=lambda one: one[0].load != AT_10)
    for key, found in ordered:
        at_90 = results.rows.get(_at_90(key), [])
        if key.service == service and key.permits and key.load in _FULL:
            pairs = zip(at_90, found, strict=False)
            # where refusals are few, what answers leave is noise
            both = [costs(a, b) for a, b in pairs if b.figures.refused_in_all > b.figures.right_in_all > 0]
            if not both:
                continue
            answer, refusal = (statistics.median(one[at] for one in both) for at in range(2))
            return f"CPU of the workers: {answer:.0f} us for an answer, {refusal:.0f} us for a refusal ({key.load})."
    return ""


def _number(value: float) -> str:
    return "-" if value != value else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _spread(found: Spread | None) -> str:
    if found is None:
        return "-"
    if found.low == found.high:
        return f"{found.median:.2f}"
    return f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"
