"""Digits made of strokes, to learn from: parametric shapes with as much variety as people's writing has.

The digits that the model is *tested* on come from ``draw_digits.py``, which has its own shapes and its own pen; the two
modules share no code and no coordinates.

A shape is a list of strokes, a stroke an array of points [n, 2] (x to the right, y down) in a box of about 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Stroke = npt.NDArray[np.float64]
Shape = list[Stroke]
Rng = np.random.Generator

_OVERSAMPLING = 3


def _between(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _chance(rng: Rng, share: float) -> bool:
    return bool(rng.random() < share)


def _points(*points: tuple[float, float]) -> Stroke:
    return np.array(points, dtype=np.float64)


def _arc(rng: Rng, middle: tuple[float, float], radii: tuple[float, float], start: float, end: float) -> Stroke:
    """An elliptic arc between two angles in degrees (0 is right, 90 is down), of many points or of few."""
    sweep = abs(end - start) / 360
    count = int(rng.integers(5, 9)) if _chance(rng, 0.3) else int(rng.integers(12, 30))
    angles = np.radians(np.linspace(start, end, max(3, round(count * sweep) + 1)))
    # A superellipse: 1 is an ellipse, less is boxier, more is pointed.
    power = _between(rng, 0.6, 1.25)
    cosine, sine = np.cos(angles), np.sin(angles)
    xs = middle[0] + radii[0] * np.sign(cosine) * np.abs(cosine) ** power
    ys = middle[1] + radii[1] * np.sign(sine) * np.abs(sine) ** power
    return np.stack([xs, ys], axis=1)


def _ring(rng: Rng, middle: tuple[float, float], radii: tuple[float, float]) -> Stroke:
    """A closed, nearly closed or overlapping loop, begun anywhere."""
    start = _between(rng, 0, 360)
    return _arc(rng, middle, radii, start, start + _between(rng, 345, 385))


def _curve(rng: Rng, *controls: tuple[float, float]) -> Stroke:
    """A Bezier curve of any degree."""
    steps = np.linspace(0, 1, int(rng.integers(4, 20)))[:, np.newaxis]
    degree = len(controls) - 1
    weights = [math.comb(degree, k) * steps**k * (1 - steps) ** (degree - k) for k in range(degree + 1)]
    return np.asarray(sum(w * np.array(c) for w, c in zip(weights, controls, strict=True)), dtype=np.float64)


def _joined(*strokes: Stroke) -> Stroke:
    return np.concatenate(strokes)


# --- one function a digit, each with several ways to write it ---------------------------------------------------------


def _zero(rng: Rng) -> Shape:
    return [_ring(rng, (0.5, 0.5), (_between(rng, 0.22, 0.48), 0.5))]


def _one(rng: Rng) -> Shape:
    x = 0.5
    strokes = [_points((x + _between(rng, -0.06, 0.06), 0.0), (x, 1.0))]
    if _chance(rng, 0.65):
        reach, drop = _between(rng, 0.1, 0.48), _between(rng, 0.1, 0.4)
        flag = _points((x - reach, drop), (float(strokes[0][0, 0]), 0.0))
        strokes[0] = _joined(flag, strokes[0][1:])
        if _chance(rng, 0.35):
            half = _between(rng, 0.12, 0.38)
            strokes.append(_points((x - half, 1.0), (x + half * _between(rng, 0.7, 1.2), 1.0)))
    elif _chance(rng, 0.12):
        half = _between(rng, 0.12, 0.3)
        strokes.append(_points((x - half, 1.0), (x + half, 1.0)))
    return strokes


def _two(rng: Rng) -> Shape:
    left, right, waist = _between(rng, 0.0, 0.15), _between(rng, 0.8, 1.0), _between(rng, 0.22, 0.36)
    kind = rng.random()
    if kind < 0.15:  # angular: over, down, back, base
        x = _between(rng, 0.0, 0.1)
        top = _points((x, _between(rng, 0.0, 0.2)), (0.5, 0.0), (right, _between(rng, 0.0, 0.25)))
        return [_joined(top, _points((right, _between(rng, 0.3, 0.45)), (x, 1.0), (1.0, 1.0)))]
    if kind < 0.28:  # like a Z with a softened corner
        return [_points((left, 0.05), (0.75, 0.0), (right, 0.15), (left, 1.0), (right, 0.97))]
    middle = ((left + right) / 2, waist)
    head = _arc(rng, middle, ((right - left) / 2, waist), _between(rng, 165, 230), _between(rng, 370, 410))
    if kind < 0.5:  # a loop at the foot
        loop = _ring_from(rng, (0.16, 0.88), (_between(rng, 0.08, 0.16), _between(rng, 0.06, 0.12)))
        return [_joined(head, loop, _points((0.6, 0.97), (1.0, _between(rng, 0.85, 1.0))))]
    foot = _points((_between(rng, -0.05, 0.1), 1.0))
    bend = _curve(rng, (float(head[-1, 0]), float(head[-1, 1])), (0.6, 0.65), (float(foot[0, 0]), 1.0))
    base = _points((_between(rng, 0.8, 1.05), 1.0 + _between(rng, -0.1, 0.04)))
    return [_joined(head, bend[1:], base)]


def _ring_from(rng: Rng, middle: tuple[float, float], radii: tuple[float, float]) -> Stroke:
    """A small loop as written at the foot of a 2: in from the right, around over the left, out to the right."""
    return _arc(rng, middle, radii, 300, -60)


def _three(rng: Rng) -> Shape:
    split = _between(rng, 0.4, 0.54)
    wide_top, wide_foot = _between(rng, 0.32, 0.48), _between(rng, 0.38, 0.52)
    foot_radii = (wide_foot, (1 - split) / 2)
    foot = _arc(rng, (0.4, (1 + split) / 2), foot_radii, -90, _between(rng, 120, 185))
    kind = rng.random()
    if kind < 0.25:  # a flat top
        top = _points((_between(rng, 0.0, 0.2), 0.0), (_between(rng, 0.75, 0.95), 0.0), (0.42, split))
        return [_joined(top, foot)]
    if kind < 0.35:  # of straight lines only
        x = _between(rng, 0.0, 0.2)
        top = _points((x, 0.05), (0.6, 0.0), (0.9, 0.22), (0.45, split))
        return [_joined(top, _points((0.95, 0.75), (0.6, 1.0), (x, 0.93)))]
    top = _arc(rng, (0.4, split / 2), (wide_top, split / 2), _between(rng, 180, 235), 450)
    nick = _points((_between(rng, 0.2, 0.5), split))
    return [_joined(top, nick, foot)] if _chance(rng, 0.6) else [_joined(top, foot)]


def _four(rng: Rng) -> Shape:
    x, y = _between(rng, 0.55, 0.85), _between(rng, 0.5, 0.78)
    bar_end = min(1.1, x + _between(rng, 0.05, 0.35))
    kind = rng.random()
    if kind < 0.4:  # closed: a triangle with a stem
        apex = x + _between(rng, -0.05, 0.04)
        return [_points((apex, 0.0), (0.0, y), (bar_end, y)), _points((apex, 0.0), (x, 1.0))]
    if kind < 0.5:  # closed, the bar ending at the stem
        return [_points((x, 1.0), (x, 0.0), (0.0, y), (bar_end, y))]
    # Open: an angle, then a stem that begins anywhere above the bar.
    lean = _between(rng, 0.0, 0.35)
    corner = (_between(rng, 0.0, 0.08), y)
    first = _points((corner[0] + lean, _between(rng, -0.03, 0.12)), corner, (bar_end, y + _between(rng, -0.06, 0.06)))
    if _chance(rng, 0.25):  # a rounded angle
        first = _curve(rng, (lean, 0.0), (0.0, y * 0.9), (0.05, y * 1.25), (bar_end, y))
    stem_top = _between(rng, -0.05, min(0.42, y - 0.15))
    return [first, _points((x + _between(rng, -0.03, 0.1), stem_top), (x, 1.0))]


def _five(rng: Rng) -> Shape:
    left, shoulder = _between(rng, 0.0, 0.18), _between(rng, 0.36, 0.5)
    right = _between(rng, 0.8, 1.0)
    bar = _points((right, _between(rng, -0.04, 0.05)), (left + _between(rng, 0.0, 0.12), 0.0))
    corner = _points((left, shoulder))
    if _chance(rng, 0.2):  # of straight lines only
        bowl = _points((0.6, shoulder - 0.05), (0.95, 0.68), (0.7, 1.0), (left, 0.95))
        return [_joined(bar, corner, bowl)]
    radius = (1 - shoulder) / 2 + _between(rng, 0.01, 0.06)
    begin = _between(rng, 200, 265)
    bowl = _arc(rng, (0.4, 1 - radius), (_between(rng, 0.38, 0.56), radius), begin, _between(rng, 480, 540))
    if _chance(rng, 0.3):  # the bar as a stroke of its own, perhaps not quite touching
        gap = _between(rng, -0.02, 0.05)
        return [_joined(_points((left + gap, 0.03)), corner, bowl), _points((left + gap, 0.0), (right, -0.02))]
    return [_joined(bar, corner, bowl)]


def _six(rng: Rng) -> Shape:
    radius_y, radius_x = _between(rng, 0.2, 0.33), _between(rng, 0.32, 0.5)
    middle = (0.5, 1 - radius_y)
    loop = _arc(rng, middle, (radius_x, radius_y), 180, 180 - _between(rng, 340, 380))
    left = 0.5 - radius_x
    top = (_between(rng, 0.4, 1.0), _between(rng, -0.02, 0.08))
    kind = rng.random()
    if kind < 0.25:  # a straight back
        return [_joined(_points(top), loop)]
    if kind < 0.35:  # of straight lines only
        y = 1 - 2 * radius_y
        return [_points(top, (left, 0.6), (left + 0.1, 0.95), (0.7, 1.0), (0.95, 0.78), (0.7, y), (left, 0.72))]
    bulge = _between(rng, 0.0, 0.35)
    back = _curve(rng, top, (left + 0.2 - bulge * 0.2, 0.02 + bulge * 0.3), (left, 0.35), (left, 1 - radius_y))
    return [_joined(back, loop)]


def _seven(rng: Rng) -> Shape:
    foot, right = _between(rng, 0.1, 0.6), _between(rng, 0.8, 1.0)
    bar = _points((_between(rng, -0.05, 0.15), _between(rng, -0.03, 0.07)), (right, _between(rng, -0.04, 0.04)))
    if _chance(rng, 0.25):  # a serif at the bar's left end
        bar = _joined(_points((float(bar[0, 0]), _between(rng, 0.1, 0.25))), bar)
    if _chance(rng, 0.35):
        leg = _curve(rng, (right, 0.0), (0.5, 0.45), (foot, 1.0))
    else:
        leg = _points((right, 0.0), (foot, 1.0))
    strokes = [_joined(bar, leg)]
    if _chance(rng, 0.4):
        y, x = _between(rng, 0.42, 0.62), right + (foot - right) * 0.5
        reach = _between(rng, 0.15, 0.34)
        tilt = _between(rng, -0.06, 0.06)
        strokes.append(_points((x - reach, y + tilt), (x + reach * _between(rng, 0.7, 1.1), y - tilt)))
    return strokes


def _eight(rng: Rng) -> Shape:
    split = _between(rng, 0.4, 0.55)
    wide_top, wide_foot = _between(rng, 0.26, 0.42), _between(rng, 0.32, 0.5)
    kind = rng.random()
    if kind < 0.5:  # two rings
        overlap = _between(rng, -0.01, 0.03)
        upper = _ring(rng, (0.5, split / 2), (wide_top, split / 2 + overlap))
        return [upper, _ring(rng, (0.5, (1 + split) / 2), (wide_foot, (1 - split) / 2 + overlap))]
    if kind < 0.62:  # of straight lines only
        top, foot = wide_top, wide_foot
        down = _points((0.5, 0), (0.5 - top, split / 2), (0.5 + foot, 0.75), (0.5, 1))
        return [_joined(down, _points((0.5 - foot, 0.75), (0.5 + top, 0.2), (0.5, 0)))]
    # One stroke that crosses itself.
    turn = np.linspace(0, 2 * np.pi, int(rng.integers(10, 32))) + _between(rng, 0, 6.28)
    ys = 0.5 - 0.5 * np.cos(turn)
    wide = wide_top + (wide_foot - wide_top) * ys
    return [np.stack([0.5 + np.sin(2 * turn) * wide, ys], axis=1)]


def _nine(rng: Rng) -> Shape:
    radius_y, radius_x = _between(rng, 0.2, 0.33), _between(rng, 0.3, 0.48)
    right = 0.5 + radius_x
    loop = _arc(rng, (0.5, radius_y), (radius_x, radius_y), 0, -_between(rng, 335, 380))
    kind = rng.random()
    if kind < 0.4:  # a straight tail, upright or leaning
        return [_joined(loop, _points((right, radius_y), (right - _between(rng, -0.04, 0.5), 1.0)))]
    if kind < 0.5:  # of straight lines only
        head = _points((right, 0.2), (0.6, 0.0), (0.1, 0.1), (0.05, 0.35), (0.4, 0.52), (right, 0.3))
        return [_joined(head, _points((right - _between(rng, 0.0, 0.3), 1.0)))]
    end = (_between(rng, 0.0, 0.5), _between(rng, 0.88, 1.0))
    if kind < 0.75:
        hook = _curve(rng, (right, radius_y), (right, 0.75), (right - 0.05, 1.08), end)
    else:
        hook = _curve(rng, (right, radius_y), (right - 0.02, 0.75), end)
    return [_joined(loop, hook)]


_WRITERS: tuple[Callable[[Rng], Shape], ...] = (
    _zero, _one, _two, _three, _four, _five, _six, _seven, _eight, _nine,
)  # fmt: skip


def _segments(rng: Rng, digit: int) -> Shape:
    """A digit as a seven-segment display shows it, with the variants that displays have."""
    lit = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")[digit]
    drop = {6: "a", 9: "d"}.get(digit, "")
    if drop and _chance(rng, 0.25):
        lit = lit.replace(drop, "")
    if digit == 7 and _chance(rng, 0.2):
        lit += "f"
    wide, gap = _between(rng, 0.45, 0.75), _between(rng, 0.0, 0.05) if _chance(rng, 0.5) else 0.0
    middle = _between(rng, 0.44, 0.56)
    ends = {
        "a": ((0, 0), (wide, 0)),
        "b": ((wide, 0), (wide, middle)),
        "c": ((wide, middle), (wide, 1)),
        "d": ((0, 1), (wide, 1)),
        "e": ((0, middle), (0, 1)),
        "f": ((0, 0), (0, middle)),
        "g": ((0, middle), (wide, middle)),
    }
    strokes = []
    for name in lit:
        start, end = np.array(ends[name][0]), np.array(ends[name][1])
        towards = (end - start) * gap
        strokes.append(np.stack([start + towards, end - towards]))
    return strokes


def written(rng: Rng, digit: int) -> Shape:
    """Writes a digit: one of its shapes, trembling, then stretched, slanted and turned."""
    shape = _segments(rng, digit) if _chance(rng, 0.1) else _WRITERS[digit](rng)
    tremble = _between(rng, 0.0, 0.025)
    wide = _between(rng, 0.42, 1.0) if digit != 1 else _between(rng, 0.6, 1.0)
    slant, turn = float(rng.normal(0.08, 0.17)), math.radians(float(np.clip(rng.normal(0, 9), -22, 22)))
    stretch = np.array([[wide, -slant], [0.0, 1.0]])
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation @ stretch
    return [(stroke + rng.normal(0, tremble, stroke.shape) - 0.5) @ matrix.T for stroke in shape]


def drawn(shape: Shape, rng: Rng, side: int, pen: float, margin: float) -> Image.Image:
    """Draws a shape in white on black.

    Args:
        shape: Strokes in any coordinates; they are scaled to fit.
        rng: Decides between round and butt ends, and whether edges are smooth.
        side: Height and width of the picture, in pixels.
        pen: The stroke's width, as a share of the digit's longer side.
        margin: Free space on each side, as a share of the picture.

    Returns:
        A square picture of mode L.
    """
    scale = _OVERSAMPLING if _chance(rng, 0.8) else 1
    everything = np.concatenate(shape)
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = side * scale * (1 - 2 * margin)
    unit = room / (float((high - low).max()) * (1 + pen))
    placed = [(stroke - (low + high) / 2) * unit + side * scale / 2 for stroke in shape]
    canvas = Image.new("L", (side * scale, side * scale))
    brush = ImageDraw.Draw(canvas)
    width = max(1, round(pen * float((high - low).max()) * unit))
    round_ends = _chance(rng, 0.7)
    for stroke in placed:
        brush.line([(float(x), float(y)) for x, y in stroke], fill=255, width=width, joint="curve")
        if round_ends:
            for x, y in (stroke[0], stroke[-1]):
                brush.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return canvas.reduce(scale) if scale > 1 else canvas
