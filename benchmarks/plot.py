"""Ratios as bars, one group for each cell."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from benchmarks import goals
from benchmarks.results import Results

_COLOURS = {"listener": "#1f77b4", "obvious": "#9e9e9e", "cpr": "#d98c3f", "kserve": "#7fae5f"}


def can_draw() -> bool:
    """Whether matplotlib (extra `bench`) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def ratios(results: Results) -> dict[str, dict[tuple[str, int], float]]:
    """Median ratios to direct Triton by server and cell."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for key in results.ordered():
        ratio = results.ratio(key, key._replace(server=goals.DIRECT), lambda one: one.rps)
        if ratio and not key.server.startswith(goals.DIRECT):
            found.setdefault(key.server, {})[key.load, key.connections] = ratio.median
    return found


def draw(results: Results, file: Path) -> None:
    """Writes an SVG file whose bytes depend on the figures alone."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    found = ratios(results)
    cells = sorted({cell for bars in found.values() for cell in bars})
    with matplotlib.rc_context({"svg.hashsalt": "listener", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(max(6.0, 0.75 * len(cells) + 2), 3.6), layout="constrained")
        width = 0.8 / max(len(found), 1)
        for place, (server, bars) in enumerate(found.items()):
            heights = [bars.get(cell, 0.0) for cell in cells]
            left = [position - 0.4 + width * (place + 0.5) for position in range(len(cells))]
            axes.bar(left, heights, width, label=server, color=_COLOURS.get(server))
        _mark_goals(axes, cells)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_xticks(range(len(cells)), [f"{load}\n{connections:,}" for load, connections in cells])
        axes.set_xlabel("load and connections")
        axes.set_ylabel("throughput, direct Triton = 1")
        axes.legend(ncols=6, loc="upper left", frameon=False)
        axes.margins(y=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _mark_goals(axes: object, cells: Sequence[tuple[str, int]]) -> None:
    marked = [(place, goals.RATIO[cell]) for place, cell in enumerate(cells) if cell in goals.RATIO]
    for place, wanted in marked:
        label = "goal of the listener" if place == marked[0][0] else None
        axes.hlines(wanted, place - 0.45, place + 0.45, "black", "dotted", label=label)  # type: ignore[attr-defined]
