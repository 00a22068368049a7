"""Plots as SVG within a page: lines against a number, stacked bars for each step. Colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 16.0, 12.0, 42.0
#: Pixels that a letter takes, about.
_LETTER = 6.4


@dataclass(frozen=True)
class Line:
    """Points that are joined.

    Attributes:
        name: for the legend.
        points: x and y; those with a NaN are left out.
        style: a class of the page's, such as `c2` or `c2 dashed`.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Axes:
    """What stands at the axes, and how far they go.

    Attributes:
        x, y: in words, with units.
        log: whether y is logarithmic.
        limit: a horizontal line, and what stands at it.
        knee: a vertical one, and what stands at it.
        top: the largest y; 0 = that of the points.
        percent: y is a share.
    """

    x: str
    y: str
    log: bool = False
    limit: tuple[float, str] | None = None
    knee: tuple[float, str] | None = None
    top: float = 0.0
    percent: bool = False


class _Frame:
    """From values to places."""

    def __init__(self, size: tuple[float, float], axes: Axes, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self.width, self.height = size
        self._axes, self._xs, self._ys = axes, xs, ys
        self.right, self.bottom = self.width - _RIGHT, self.height - _BOTTOM

    def x(self, value: float) -> float:
        low, high = self._xs
        return _LEFT + (value - low) / (high - low) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        low, high = self._ys
        if self._axes.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.bottom - (value - low) / (high - low) * (self.bottom - _TOP)

    def grid(self) -> Iterable[str]:
        """Lines and numbers of the y axis, the frame's words, and the x axis itself."""
        low, high = self._ys
        for value in _decades(low, high) if self._axes.log else _ticks(high):
            y = self.y(value)
            shown = f"{value:.0%}" if self._axes.percent else _number(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{self.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>'
        middle = (_TOP + self.bottom) / 2
        yield f'<line class="axis" x1="{_LEFT}" x2="{self.right:.1f}" y1="{self.bottom:.1f}" y2="{self.bottom:.1f}"/>'
        yield (
            f'<text class="name" transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self._axes.y)}</text>"
        )
        yield (
            f'<text class="name" x="{(_LEFT + self.right) / 2:.1f}" y="{self.height - 6:.1f}" text-anchor="middle">'
            f"{escape(self._axes.x)}</text>"
        )

    def below(self, x: float, text: str) -> str:
        return f'<text class="tick" x="{x:.1f}" y="{self.bottom + 17:.1f}" text-anchor="middle">{escape(text)}</text>'


def lines(drawn: Sequence[Line], axes: Axes, size: tuple[float, float], title: str) -> str:
    """An SVG with lines, and its legend above it; empty where there is no point.

    Args:
        drawn: the lines, the most important last, as it lies on top.
        axes: their words.
        size: width and height.
        title: for those who hear it.
    """
    points = [point for line in drawn for point in line.points if not math.isnan(point[1])]
    if not points:
        return ""
    ys = [y for _, y in points] + ([axes.limit[0]] if axes.limit else [])
    low, high = (min(y for y in ys if y > 0) * 0.8, max(ys) * 1.25) if axes.log else (0.0, max(ys) * 1.08 or 1.0)
    far = max(x for x, _ in points) * 1.04 or 1.0
    frame = _Frame(size, axes, (0.0, far), (low, axes.top or high))
    parts = [*_knee(frame, axes), *frame.grid()]
    parts += [frame.below(frame.x(value), _number(value)) for value in _ticks(far)]
    parts += [part for line in drawn for part in _line(frame, line)]
    parts += _limit(frame, axes)
    return _legend([(line.name, line.style) for line in drawn]) + _svg(size, parts, title)


@dataclass(frozen=True)
class Part:
    """What each bar has, as a part of it.

    Attributes:
        name: for the legend.
        values: one for each bar.
        style: as of a line.
    """

    name: str
    values: Sequence[float]
    style: str


def bars(names: Sequence[str], parts: Sequence[Part], axes: Axes, size: tuple[float, float], title: str) -> str:
    """An SVG with stacked bars, and its legend above it.

    Args:
        names: of the bars, which stand below them.
        parts: of each bar, from its foot.
        axes: their words.
        size: width and height.
        title: for those who hear it.
    """
    sums = [sum(part.values[place] for part in parts) for place in range(len(names))]
    frame = _Frame(size, axes, (0.0, float(len(names))), (0.0, (max(sums, default=0.0) * 1.08) or 1.0))
    wide = min(44.0, (frame.x(1) - frame.x(0)) * 0.7)
    drawn = list(frame.grid())
    last = -math.inf
    for place, name in enumerate(names):
        middle, foot = frame.x(place + 0.5), 0.0
        for part in parts:
            top, bottom = frame.y(foot + part.values[place]), frame.y(foot)
            foot += part.values[place]
            drawn.append(
                f'<rect class="{part.style}" x="{middle - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                f'height="{bottom - top:.1f}"/>'
            )
        if middle - last > len(name) * _LETTER + 4:
            drawn.append(frame.below(middle, name))
            last = middle
    return _legend([(part.name, part.style) for part in parts]) + _svg(size, drawn, title)


def _line(frame: _Frame, line: Line) -> Iterable[str]:
    points = [(frame.x(x), frame.y(y)) for x, y in line.points if not math.isnan(y)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline class="{line.style}" points="{path}"/>'
    if "dashed" not in line.style:
        yield from (f'<circle class="{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)


def _limit(frame: _Frame, axes: Axes) -> Iterable[str]:
    if axes.limit:
        value, words = axes.limit
        y = frame.y(value)
        yield f'<line class="limit" x1="{_LEFT}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="at" x="{_LEFT + 6}" y="{y - 6:.1f}">{escape(words)}</text>'


def _knee(frame: _Frame, axes: Axes) -> Iterable[str]:
    """What is kept lies to its left."""
    if axes.knee:
        value, words = axes.knee
        x = frame.x(value)
        tall = frame.bottom - _TOP
        yield f'<rect class="kept" x="{_LEFT}" y="{_TOP}" width="{x - _LEFT:.1f}" height="{tall:.1f}"/>'
        yield f'<line class="knee" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{frame.bottom:.1f}"/>'
        yield f'<text class="at" x="{x - 6:.1f}" y="{_TOP + 14}" text-anchor="end">{escape(words)}</text>'


def _legend(names: Iterable[tuple[str, str]]) -> str:
    items = (f'<span><i class="{style}"></i>{escape(name)}</span>' for name, style in names)
    return f'<p class="legend">{"".join(items)}</p>'


def _svg(size: tuple[float, float], parts: Iterable[str], title: str) -> str:
    width, height = size
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _ticks(high: float) -> list[float]:
    """Round numbers from 0 to at most that, about five of them."""
    rough = high / 5
    step = 10 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= rough)
    return [step * count for count in range(int(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten; 1 alone where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 3.5 else (1,)
    return [value for power in powers for factor in factors if low <= (value := factor * 10.0**power) <= high]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"
