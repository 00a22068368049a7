"""The tables, for a terminal and for RESULTS.md."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks import goals, loads
from benchmarks.goals import Judged
from benchmarks.results import Key, Results, Spread

_CELLS = ("load", "connections", "server", "requests/s", "of direct", "p50 ms", "p99 ms", "CPU us", "Triton's CPU us")

#: Why goals are missed, and what was tried; written by people.
_DISTANCES = Path(__file__).with_name("distances.md")
#: What `python -m benchmarks.fetching` measured, the last part of the page.
FETCHING = Path(__file__).with_name("fetching.md")
_FETCHING_TITLE = "## Models out of Cloud Storage"


def tables(results: Results) -> str:
    """Goals, cells, and who was left out."""
    judged = goals.judge(results)
    unknown = [one.name for one in judged if one.verdict == goals.UNKNOWN]
    known = [_goal(one) for one in judged if one.name not in unknown]
    parts = [table(("goal", "wanted", "median [min, max]", "verdict"), known)] if known else []
    if unknown:
        parts.append(f"Goals {goals.UNKNOWN}: {'; '.join(unknown)}.")
    parts.append(table(_CELLS, (_cell(results, key) for key in results.ordered())))
    if results.failed:
        failures = results.failed.items()
        parts.append("\n".join(f"* {k.load} at {k.connections:,}, {k.server} failed: {why}" for k, why in failures))
    if results.left_out:
        parts.append("\n".join(f"* left out: {why}" for why in results.left_out.values()))
    return "\n\n".join(parts)


def page(results: Results, facts: Mapping[str, str], command: str, plot: str | None) -> str:
    """RESULTS.md."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    described = {**facts, "command": f"`{command}`", "date": date}
    titles = [f"* {name}: {loads.by_name(name).title}" for name in sorted({key.load for key in results.ordered()})]
    parts = [
        "# Results",
        "Written by `python -m benchmarks`; [README.md](README.md) says what is measured and how.",
        *([f"![Throughput relative to direct Triton]({plot})"] if plot else []),
        "\n".join(f"* {name}: {fact}" for name, fact in described.items() if fact),
        "\n".join(titles),
        tables(results),
        _DISTANCES.read_text().strip(),
    ]
    return with_fetching("\n\n".join(parts))


def with_fetching(page: str) -> str:
    """A page whose last part is what was measured last of fetching."""
    rest, _, _ = page.partition(_FETCHING_TITLE)
    parts = [rest.strip(), *([_FETCHING_TITLE, FETCHING.read_text().strip()] if FETCHING.exists() else [])]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown whose columns stand below each other on a terminal as well."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def _goal(judged: Judged) -> Sequence[str]:
    bound = f"{'>=' if judged.at_least else '<='} {judged.wanted:g}{judged.unit}"
    found = _spread(judged.found) + judged.unit if judged.found else "-"
    # why a cell failed stands below the tables
    remark = f" ({judged.why})" if judged.found and judged.why else ""
    return judged.name, bound, found + remark, judged.verdict


def _cell(results: Results, key: Key) -> Sequence[str]:
    median = results.median(key)
    name = (key.load, f"{key.connections:,}", key.server)
    if median is None:
        return *name, "**failed**", "-", "-", "-", "-", "-"
    ratio = results.ratio(key, key._replace(server=goals.DIRECT), lambda one: one.rps)
    return (
        *name,
        f"{median.rps:,.0f}",
        _spread(ratio) if ratio and key.server != goals.DIRECT else "-",
        f"{median.p50_ms:.2f}",
        f"{median.p99_ms:.2f}",
        f"{median.server_cpu_us:,.0f}" if median.server_cpu_us else "-",
        f"{median.triton_cpu_us:,.0f}",
    )


def _spread(found: Spread) -> str:
    if found.low == found.high:
        return f"{found.median:.2f}"
    return f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"
