"""What the fetches took: a table and a picture for each load, a section of RESULTS.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fetching import fetchers
from benchmarks.fetching.fetchers import Fetcher, Taken
from benchmarks.fetching.places import Place
from benchmarks.report import table
from benchmarks.results import Spread, spread

#: Of the throughput of the transfer manager's best setting.
WANTED = 0.9
#: MB of resident memory.
MOST_MB = 200.0
_HEAD = ("fetcher", "seconds [min, max]", "throughput", "of the best transfer_manager", "CPU s", "memory MB")


@dataclass
class Load:
    """A place, and what each fetch of it took.

    Attributes:
        title: what is fetched.
        place: where it lies.
        fetchers: who takes part.
        judged: whether the goal is one for this load.
        taken: by name, round by round.
    """

    title: str
    place: Place
    fetchers: Sequence[Fetcher]
    judged: bool = True
    taken: dict[str, list[Taken]] = field(default_factory=dict)

    def fetcher(self, name: str) -> Fetcher:
        """The one of that name."""
        return next(one for one in self.fetchers if one.name == name)

    @property
    def best(self) -> str:
        """The transfer manager's setting with the shortest median."""
        names = [one.name for one in self.fetchers if fetchers.is_manager(one)]
        return min(names, key=self.seconds)

    def seconds(self, name: str) -> float:
        """The median."""
        return statistics.median(taken.seconds for taken in self.taken[name])

    def ratio(self, name: str) -> Spread:
        """Throughput relative to the best setting of the transfer manager, round by round."""
        pairs = zip(self.taken[self.best], self.taken[name], strict=True)
        found = spread(best.seconds / own.seconds for best, own in pairs)
        assert found
        return found

    def rate(self, name: str) -> str:
        """Of many small files, files a second; of others, MB/s."""
        count, seconds = len(self.place.files), self.seconds(name)
        return f"{count / seconds:,.0f} files/s" if count > 100 else f"{self.place.nbytes / 1e6 / seconds:,.0f} MB/s"


def section(loads: Sequence[Load], described: Mapping[str, str], picture: str | None) -> str:
    """The text below the heading."""
    parts = [
        "\n".join(f"* {name}: {fact}" for name, fact in described.items() if fact),
        *([f"![Seconds of each fetch]({picture})"] if picture else []),
        *(part for load in loads for part in (f"### {load.title}", tables(load))),
    ]
    return "\n\n".join(parts)


def tables(load: Load) -> str:
    """The table of a load, and the verdict."""
    rows = [_row(load, one.name) for one in load.fetchers]
    return "\n\n".join([table(_HEAD, rows), *([_verdict(load)] if load.judged else [])])


def _row(load: Load, name: str) -> Sequence[str]:
    took, ratio = spread(one.seconds for one in load.taken[name]), load.ratio(name)
    assert took
    return (
        name,
        f"{took.median:.2f} [{took.low:.2f}, {took.high:.2f}]",
        load.rate(name),
        "-" if name == load.best else f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
        f"{statistics.median(one.cpu for one in load.taken[name]):.1f}",
        f"{max(one.peak_mb for one in load.taken[name]):.0f}",
    )


def _verdict(load: Load) -> str:
    name = load.fetchers[0].name
    ratio, peak = load.ratio(name).median, max(one.peak_mb for one in load.taken[name])
    return (
        f"Wanted: at least {WANTED:g} of the best transfer_manager: {ratio:.2f}, {_met(ratio >= WANTED)}. "
        f"Resident memory under {MOST_MB:g} MB: {peak:.0f} MB, {_met(peak < MOST_MB)}."
    )


def _met(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def draw(loads: Sequence[Load], file: Path) -> None:
    """Writes an SVG file: seconds of each, shorter is better."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    heights = [len(load.fetchers) for load in loads]
    with matplotlib.rc_context({"svg.hashsalt": "listener", "font.size": 9}):
        figure, rows = pyplot.subplots(
            len(loads), figsize=(8, 0.28 * sum(heights) + 0.7 * len(loads)), layout="constrained",
            gridspec_kw={"height_ratios": heights}, squeeze=False,
        )  # fmt: skip
        for axes, load in zip(rows[:, 0], loads, strict=True):
            names = [one.name for one in load.fetchers][::-1]
            colours = ["#1f77b4" if name == load.fetchers[0].name else "#b8c4cf" for name in names]
            bars = axes.barh(names, [load.seconds(name) for name in names], color=colours)
            axes.bar_label(bars, fmt="%.1f s", padding=3)
            axes.set_title(load.title, loc="left", fontsize=9, fontweight="bold")
            axes.margins(x=0.1)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
