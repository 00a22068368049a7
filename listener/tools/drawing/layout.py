"""Places for boxes in columns, left to right, and the ways of the edges between them, after Sugiyama.

Columns by the longest way from a root; few crossings by barycentres; heights as near to those of the neighbours as the
boxes allow. An edge over several columns has a place in each of them, a joint. All numbers are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

#: Between two boxes above one another.
_GAP = 22.0
#: Between two edges at the same box.
_PORT = 19.0
#: For the bend of an edge between two columns.
_BEND, _WIDEST_BEND = 60.0, 150.0
_JOINT, _JOINT_GAP = 4.0, 12.0
_SWEEPS, _SETTLINGS = 8, 40


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """An edge to be placed.

    Attributes:
        source: name of a box.
        target: name of a box.
        label: the width of what stands at its beginning.
    """

    source: str
    target: str
    label: float


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Bend:
    """A part of a way: straight from `start` to `straight`, both at height `y`, then bent to `end` at `end_y`."""

    start: float
    straight: float
    y: float
    end: float
    end_y: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything goes; the upper left corner is 0, 0.

    Attributes:
        boxes: by name.
        ways: of each line, in its order, the parts from the source to the target.
        width: of everything.
        height: of everything.
    """

    boxes: Mapping[str, Rect]
    ways: Sequence[Sequence[Bend]]
    width: float
    height: float


def place(sizes: Mapping[str, tuple[float, float]], lines: Sequence[Line]) -> Layout:
    """Places boxes and lines.

    Args:
        sizes: width and height of each box; those without lines come last, in rows.
        lines: between them, without cycles.
    """
    boxes: dict[str, Rect] = {}
    ways: dict[int, list[Bend]] = {}
    graphs = [_Graph(sizes, part) for part in _parts(sizes, lines)]
    across = _across(graphs)
    top = 0.0
    for graph in graphs:
        found, made = graph.drawn(top, across)
        boxes |= found
        ways |= {id(line): way for line, way in made}
        top += graph.height + 1.5 * _GAP
    alone = {name: size for name, size in sizes.items() if name not in boxes}
    boxes |= _rows(alone, top, _most(rect.right for rect in boxes.values()))
    right, bottom = (_most(getattr(rect, side) for rect in boxes.values()) for side in ("right", "bottom"))
    height = bottom if alone else max(bottom, top - 1.5 * _GAP)  # edges may run below the last box
    return Layout({name: boxes[name] for name in sizes}, [ways[id(line)] for line in lines], right, height)


def _parts(names: Iterable[str], lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of each part of the graph that hangs together, in the order of the boxes."""
    part = {name: name for name in names}

    def first(name: str) -> str:
        while part[name] != name:
            name = part[name]
        return name

    for line in lines:
        part[first(line.target)] = first(line.source)
    found: dict[str, list[Line]] = {first(name): [] for name in part}
    for line in lines:
        found[first(line.source)].append(line)
    return [part for part in found.values() if part]


def _rows(sizes: Mapping[str, tuple[float, float]], top: float, width: float) -> dict[str, Rect]:
    """Boxes side by side in rows, of one size, no wider than the rest or than four of them."""
    if not sizes:
        return {}
    wide, high = (max(size[side] for size in sizes.values()) for side in (0, 1))
    fit = int((width + _GAP) // (wide + _GAP)) if width else 4
    across = max(1, min(fit, max(4, math.isqrt(len(sizes)))))
    return {
        name: Rect(index % across * (wide + _GAP), top + index // across * (high + _GAP), wide, high)
        for index, name in enumerate(sizes)
    }


@dataclass(slots=True)
class _Spot:
    """A box, or a joint of an edge over several columns.

    Attributes:
        layer: number of the column.
        height: of the box.
        before: where it is asked from, and after: what it asks, in the order of the lines.
        middle: the height of its middle.
    """

    layer: int
    height: float
    before: list[_Link] = field(default_factory=list)
    after: list[_Link] = field(default_factory=list)
    middle: float = 0.0


@dataclass(slots=True, eq=False)
class _Link:
    """A part of an edge, from one column to the next."""

    source: str
    target: str
    #: distance from the middle of the source and the target
    leaves: float = 0.0
    enters: float = 0.0


class _Graph:
    """A part that hangs together, with its boxes in order and at their heights."""

    def __init__(self, sizes: Mapping[str, tuple[float, float]], lines: Sequence[Line]) -> None:
        tied = {name for line in lines for name in (line.source, line.target)}
        self._sizes, self._lines = {name: size for name, size in sizes.items() if name in tied}, lines
        layers = _layers(self._sizes, lines)
        self._spots: dict[str, _Spot] = {}
        for name in self._sizes:
            ends = max(*(sum(1 for line in lines if getattr(line, end) == name) for end in ("source", "target")), 1)
            self._spots[name] = _Spot(layers[name], max(sizes[name][1], (ends + 0.3) * _PORT))
        self._chains = [self._chain(number, line) for number, line in enumerate(lines)]
        self._columns = self._first_order()
        self._order()
        self._straighten()

    def _chain(self, number: int, line: Line) -> list[_Link]:
        """The links of a line, with a joint in every column between its ends."""
        layers = range(self._spots[line.source].layer + 1, self._spots[line.target].layer)
        stops = [line.source, *(f"\0{number}:{layer}" for layer in layers), line.target]
        for layer, joint in zip(layers, stops[1:-1], strict=True):
            self._spots[joint] = _Spot(layer, _JOINT)
        chain = [_Link(a, b) for a, b in pairwise(stops)]
        for link in chain:
            self._spots[link.source].after.append(link)
            self._spots[link.target].before.append(link)
        return chain

    def _first_order(self) -> list[list[str]]:
        """Depth first, as one reads."""
        columns: list[list[str]] = [[] for _ in range(1 + max(spot.layer for spot in self._spots.values()))]
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name not in seen:
                seen.add(name)
                columns[self._spots[name].layer].append(name)
                for link in self._spots[name].after:
                    visit(link.target)

        for name in self._spots:
            if not self._spots[name].before:
                visit(name)
        return columns

    def _order(self) -> None:
        """Fewer crossings: each box to the mean place of its neighbours, forth and back; the best found is kept.

        The first column stays as it is given, for readers who look for the first one at the top.
        """
        self._swap()
        best, fewest = [list(column) for column in self._columns], self._crossings()
        for sweep in range(_SWEEPS):
            if not fewest:
                break
            forth = sweep % 2 == 0
            for column in self._columns[1:] if forth else self._columns[-2:0:-1]:
                wanted = self._wanted_ranks(column, forth)
                column.sort(key=wanted.__getitem__)
            self._swap()
            if (found := self._crossings()) < fewest:
                best, fewest = [list(column) for column in self._columns], found
        self._columns = best

    def _swap(self) -> None:
        """Changes neighbours of a column where that saves crossings."""
        for _ in range(_SWEEPS):
            swapped, rank = False, self._ranks()
            for column in self._columns[1:]:
                for index in range(len(column) - 1):
                    above, below = column[index : index + 2]
                    if self._crossed(above, below, rank) > self._crossed(below, above, rank):
                        column[index : index + 2] = below, above
                        rank[above], rank[below] = rank[below], rank[above]
                        swapped = True
            if not swapped:
                return

    def _crossed(self, above: str, below: str, rank: Mapping[str, int]) -> int:
        """Crossings between the links of two boxes of a column."""
        crossings = 0
        for ends in (self._sources, self._targets):
            lower = ends(below, rank)
            crossings += sum(1 for end in ends(above, rank) for other in lower if end > other)
        return crossings

    def _sources(self, name: str, rank: Mapping[str, int]) -> list[tuple[int, int]]:
        links = self._spots[name].before
        return [(rank[link.source], self._spots[link.source].after.index(link)) for link in links]

    def _targets(self, name: str, rank: Mapping[str, int]) -> list[tuple[int, int]]:
        return [(rank[link.target], 0) for link in self._spots[name].after]

    def _ranks(self) -> dict[str, int]:
        return {name: index for column in self._columns for index, name in enumerate(column)}

    def _wanted_ranks(self, column: Sequence[str], forth: bool) -> dict[str, float]:
        rank, wanted = self._ranks(), {}
        for name in column:
            spot = self._spots[name]
            beside = (
                [rank[link.source] for link in spot.before] if forth else [rank[link.target] for link in spot.after]
            )
            wanted[name] = sum(beside) / len(beside) if beside else float(rank[name])
        return wanted

    def _crossings(self) -> int:
        rank, crossings = self._ranks(), 0
        for column in self._columns:
            ends = [
                (rank[name], index, rank[link.target])
                for name in column
                for index, link in enumerate(self._spots[name].after)
            ]
            crossings += sum(1 for i, a in enumerate(ends) for b in ends[:i] if b[:2] < a[:2] and b[2] > a[2])
        return crossings

    def _straighten(self) -> None:
        """Heights: at first one below the other, then each towards its neighbours."""
        self._ports()
        for column in self._columns:
            self._settle(column, [0.0] * len(column))
        for sweep in range(_SETTLINGS):
            forth = sweep % 2 == 0
            for column in self._columns if forth else self._columns[::-1]:
                self._settle(column, [self._wanted(name, forth) for name in column])
        for column in self._columns:
            self._settle(column, [(self._wanted(name, True) + self._wanted(name, False)) / 2 for name in column])

    def _ports(self) -> None:
        """Where lines leave and enter, beside the middle: leaving ones in their order, entering ones as they come."""
        rank = self._ranks()
        for spot in self._spots.values():
            for index, link in enumerate(spot.after):
                link.leaves = (index - (len(spot.after) - 1) / 2) * _PORT
            entering = sorted(spot.before, key=lambda link: (rank[link.source], link.leaves))
            for index, link in enumerate(entering):
                link.enters = (index - (len(entering) - 1) / 2) * min(_PORT, 12.0)

    def _wanted(self, name: str, forth: bool) -> float:
        spot = self._spots[name]
        if forth:
            wanted = [self._spots[link.source].middle + link.leaves - link.enters for link in spot.before]
        else:
            wanted = [self._spots[link.target].middle + link.enters - link.leaves for link in spot.after]
        return sum(wanted) / len(wanted) if wanted else spot.middle

    def _settle(self, column: Sequence[str], wanted: Sequence[float]) -> None:
        """As near to what is wanted as the order and the gaps allow: least squares, by pooling neighbours."""
        spots = [self._spots[name] for name in column]
        offsets = [0.0]
        for above, below in pairwise(spots):
            gap = _JOINT_GAP if above.height == below.height == _JOINT else _GAP
            offsets.append(offsets[-1] + (above.height + below.height) / 2 + gap)
        pools: list[tuple[float, int]] = []
        for value in (want - offset for want, offset in zip(wanted, offsets, strict=True)):
            mean, size = value, 1
            while pools and pools[-1][0] >= mean:
                other, count = pools.pop()
                mean, size = (other * count + mean * size) / (count + size), count + size
            pools.append((mean, size))
        means = [mean for mean, size in pools for _ in range(size)]
        for spot, mean, offset in zip(spots, means, offsets, strict=True):
            spot.middle = mean + offset

    def column(self, layer: int) -> tuple[float, float, float]:
        """The room that a column wants: for its boxes, the labels behind them, and the bends behind those."""
        if layer >= len(self._columns):
            return 0.0, 0.0, 0.0
        links = [link for name in self._columns[layer] for link in self._spots[name].after]
        rise = _most(abs(self._end(link) - self._start(link)) for link in links)
        return (
            _most(self._sizes[name][0] for name in self._columns[layer] if name in self._sizes),
            _most(line.label for line in self._lines if self._spots[line.source].layer == layer),
            min(max(_BEND, 0.45 * rise), _WIDEST_BEND) if links else 0.0,
        )

    @property
    def columns(self) -> int:
        return len(self._columns)

    @property
    def height(self) -> float:
        spots = self._spots.values()
        return max(spot.middle + spot.height / 2 for spot in spots) - self._top()

    def _top(self) -> float:
        return min(spot.middle - spot.height / 2 for spot in self._spots.values())

    def _start(self, link: _Link) -> float:
        return self._spots[link.source].middle + link.leaves

    def _end(self, link: _Link) -> float:
        return self._spots[link.target].middle + link.enters

    def drawn(self, top: float, across: _Across) -> tuple[dict[str, Rect], list[tuple[Line, list[Bend]]]]:
        """Boxes, and the way of each line, below a height."""
        down = top - self._top()
        boxes, ways = {}, []
        for name in self._sizes:
            spot = self._spots[name]
            left, right, _ = across[spot.layer]
            boxes[name] = Rect(left, spot.middle - spot.height / 2 + down, right - left, spot.height)
        for line, chain in zip(self._lines, self._chains, strict=True):
            way, start = [], boxes[line.source].right
            for link in chain:
                layer = self._spots[link.source].layer
                end = across[layer + 1][0]
                way.append(Bend(start, across[layer][2], self._start(link) + down, end, self._end(link) + down))
                start = end
            ways.append((line, way))
        return boxes, ways


#: Of each column where its boxes begin and end, and where the room for labels ends.
_Across: TypeAlias = Sequence[tuple[float, float, float]]


def _across(graphs: Sequence[_Graph]) -> _Across:
    """All parts share their columns."""
    made, x = [], 0.0
    for layer in range(max((graph.columns for graph in graphs), default=0)):
        wide, label, bend = (max(room) for room in zip(*(graph.column(layer) for graph in graphs), strict=True))
        made.append((x, x + wide, x + wide + label))
        x += wide + label + bend
    return made


def _most(numbers: Iterable[float]) -> float:
    return max(numbers, default=0.0)


def _layers(names: Iterable[str], lines: Sequence[Line]) -> dict[str, int]:
    """The column of each box: the longest way from a root."""
    layers = dict.fromkeys(names, 0)
    for _ in layers:
        moved = False
        for line in lines:
            if layers[line.target] <= layers[line.source]:
                layers[line.target], moved = layers[line.source] + 1, True
        if not moved:
            break
    return layers
