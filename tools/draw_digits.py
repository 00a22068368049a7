"""Draws digits as polylines, to test the digit recogniser with pictures unlike those it learned from.

Shared with the training generator (``training_strokes.py``): nothing but the idea of drawing lines with Pillow. The
shapes here are vertex lists typed by hand, the training shapes are computed from arcs and curves, and the pens are
different code too. Both were written with the same ways in mind of writing a digit, though, so a score on these
pictures says more about pens, slants and frames than about handwriting nobody thought of.

    python tools/draw_digits.py out/ --count 20 --seed 7
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

# Each shape is written as strokes separated by "|", each a row of "x,y" on a 10 x 16 grid, y down.
_SHAPES: dict[int, tuple[str, ...]] = {
    0: (
        "5,0 2,2 0,6 0,10 2,14 5,16 8,14 10,10 10,6 8,2 5,0",
        "5,0 1,3 0,8 1,13 5,16 9,13 10,8 9,3 5,0",
        "3,0 7,0 9,3 9,13 7,16 3,16 1,13 1,3 3,0",
        "6,0 3,1 1,5 1,11 3,15 5,16 8,14 9,10 9,5 8,2 5,0",
        "1,0 9,0 9,16 1,16 1,0",
    ),
    1: (
        "5,0 5,16",
        "2,4 5,0 5,16",
        "1,5 6,0 6,16",
        "2,3 5,0 5,16|2,16 8,16",
        "3,3 6,0 5,16",
        "5,0 5,16|3,16 7,16",
    ),
    2: (
        "0,4 2,1 5,0 8,1 10,4 9,7 5,11 0,16 10,16",
        "1,3 3,0 7,0 9,3 8,7 1,16 10,16",
        "1,2 5,0 9,2 9,6 4,11 1,14 0,16 4,15 7,16 10,15",
        "1,4 3,1 7,0 9,3 8,7 4,13 1,15 0,13 2,12 5,14 8,16 10,15",
        "1,0 9,0 9,8 1,8 1,16 9,16",
    ),
    3: (
        "1,2 4,0 8,1 9,4 8,7 4,8 8,9 10,12 8,15 4,16 0,14",
        "1,0 9,0 4,6 8,7 10,11 8,15 4,16 0,14",
        "1,1 5,0 9,3 8,6 5,8 9,10 9,14 5,16 1,15",
        "1,0 9,0 9,16 1,16|3,8 9,8",
    ),
    4: (
        "7,0 0,10 10,10|7,0 7,16",
        "2,0 0,9 9,9|7,4 7,16",
        "7,16 7,0 0,11 10,11",
        "1,0 1,8 9,8|9,0 9,16",
        "4,0 0,10 10,9|8,5 6,16",
        "6,0 1,11 10,11|8,7 8,16",
    ),
    5: (
        "9,0 2,0 1,7 5,6 8,7 10,10 9,14 5,16 1,15",
        "9,0 1,0 1,7 6,6 9,8 9,13 6,16 1,15",
        "1,0 1,7 5,6 9,8 9,13 5,16 0,15|1,0 9,0",
        "9,0 1,0 1,8 9,8 9,16 1,16",
        "8,0 3,0 2,6 7,7 9,11 7,15 3,16 0,14",
    ),
    6: (
        "8,0 4,2 1,7 0,11 2,15 5,16 8,15 9,12 8,9 5,8 2,9 0,12",
        "6,0 2,7 1,11 2,15 5,16 8,15 9,12 8,9 5,8 2,10",
        "9,1 5,0 2,3 0,9 1,14 5,16 9,14 10,11 8,8 4,8 1,10",
        "9,0 1,0 1,16 9,16 9,8 1,8",
        "7,0 1,10 3,16 8,15 9,11 6,8 1,11",
    ),
    7: (
        "0,0 10,0 4,16",
        "1,0 9,0 6,7 4,16",
        "0,0 10,0 4,16|3,8 9,8",
        "0,3 0,0 10,0 5,16",
        "1,1 9,0 7,5 5,10 5,16|3,8 9,7",
        "1,0 9,0 9,16",
    ),
    8: (
        "5,0 2,1 1,4 2,7 5,8 8,7 9,4 8,1 5,0|5,8 1,9 0,12 1,15 5,16 9,15 10,12 9,9 5,8",
        "8,2 5,0 2,2 2,5 8,10 9,13 5,16 1,13 2,10 8,5 8,2",
        "5,0 1,4 5,8 9,4 5,0|5,8 0,12 5,16 10,12 5,8",
        "1,0 9,0 9,16 1,16 1,0|1,8 9,8",
        "3,0 7,0 9,3 7,7 3,7 1,3 3,0|3,7 0,11 3,16 7,16 10,11 7,7",
    ),
    9: (
        "9,4 7,1 4,0 1,2 1,6 4,8 7,7 9,4 9,16",
        "9,3 5,0 1,3 2,7 6,8 9,5 9,3 9,11 7,15 2,16",
        "8,5 5,8 1,6 1,2 4,0 8,1 9,5 5,16",
        "9,8 1,8 1,0 9,0 9,16 1,16",
        "9,5 7,0 3,0 0,3 1,7 5,8 9,5 8,12 5,16 2,15",
    ),
}  # fmt: skip


def _vertices(shape: str) -> list[npt.NDArray[np.float64]]:
    """Reads a shape: strokes of shape [n, 2], centred on 0, one unit high."""
    rows = [[point.split(",") for point in stroke.split()] for stroke in shape.split("|")]
    return [(np.array(row, dtype=np.float64) - (5, 8)) / 16 for row in rows]


def _moved(strokes: list[npt.NDArray[np.float64]], rng: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Shifts every vertex a little, then stretches, slants and turns the whole."""
    turn, slant = math.radians(rng.uniform(-12, 12)), rng.uniform(-0.12, 0.3)
    across, down = rng.uniform(0.8, 1.2), rng.uniform(0.9, 1.1)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation @ np.array([[across, -slant], [0.0, down]])
    return [(stroke + rng.normal(0, 0.012, stroke.shape)) @ matrix.T for stroke in strokes]


def draw(rng: np.random.Generator, digit: int | None = None, size: int | None = None) -> tuple[Image.Image, int]:
    """Draws one digit: any shape, pen, slant, place and polarity.

    Args:
        rng: Decides everything that is left open.
        digit: Which digit, 0 to 9.
        size: Height and width of the picture in pixels, else 48 to 400.

    Returns:
        A grey picture (mode L) with a pen of 6 to 11 % of its width, and the digit it shows.
    """
    digit = int(rng.integers(10)) if digit is None else digit
    side = int(rng.integers(48, 401)) if size is None else size
    shapes = _SHAPES[digit]
    strokes = _moved(_vertices(shapes[int(rng.integers(len(shapes)))]), rng)
    pen = rng.uniform(0.06, 0.11)
    everything = np.concatenate(strokes)
    low, high = everything.min(axis=0), everything.max(axis=0)
    extent = float((high - low).max())
    length = rng.uniform(0.5, 0.95 - pen)  # of the digit's longer side, without the pen's thickness
    free = 1 - pen - (high - low) / extent * length
    corner = free * rng.uniform(0.1, 0.9, 2) + pen / 2  # off-centre, but inside the picture
    placed = [((stroke - low) / extent * length + corner) * side for stroke in strokes]
    return _inked(placed, side, pen * side, rng), digit


def _inked(strokes: list[npt.NDArray[np.float64]], side: int, pen: float, rng: np.random.Generator) -> Image.Image:
    """Draws strokes given in pixels, with round or butt ends, smooth or jagged edges, in either polarity."""
    finer = 4 if rng.random() < 0.7 else 1
    paper, ink = (255, int(rng.integers(0, 90))) if rng.random() < 0.5 else (0, int(rng.integers(165, 256)))
    canvas = Image.new("L", (side * finer, side * finer), paper)
    brush = ImageDraw.Draw(canvas)
    radius = pen * finer / 2
    butt_ends = rng.random() < 0.3
    for stroke in strokes:
        points = [(float(x) * finer, float(y) * finer) for x, y in stroke]
        brush.line(points, fill=ink, width=max(1, round(2 * radius)))
        for x, y in points[1:-1] if butt_ends else points:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return canvas.resize((side, side), Image.Resampling.BOX) if finer > 1 else canvas


def main() -> None:
    """Writes a number of drawn digits as PNG files."""
    parser = argparse.ArgumentParser(description="Draws digits as polylines and writes them as PNG files.")
    parser.add_argument("folder", type=Path, help="where to write digit-<number>-<digit>.png")
    parser.add_argument("--count", type=int, default=20, help="how many pictures (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same pictures (default 0)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(options.seed)
    for number in range(options.count):
        picture, digit = draw(rng, number % 10)
        picture.save(options.folder / f"digit-{number:03d}-{digit}.png")


if __name__ == "__main__":
    main()
