"""From grey levels, or from 64 numbers, to the network's input: ink found, cropped, centred and scaled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from handlers.picture import BLANK, Floats
from listener import InstanceError

SIDE = 24
"""Height and width of the network's input, in pixels."""

_INK = 0.42  # ink above this share belongs to the digit when its box is sought
_MARGIN = 0.06  # free space around the digit's longer side, as a share of it
_CLEAR = 0.85  # share of variance that a split into ink and paper explains in an evenly lit picture
_LEVELLING_ROUNDS = 12
_MIN_CONTRAST = 12.0  # grey levels of 255 between ink and paper below which a picture counts as blank


def numbers_ink(numbers: list[Any]) -> Floats:
    """Makes an ink map of a list of 64 numbers.

    Args:
        numbers: An 8x8 picture, row by row, 0 (paper) to 16 (ink).

    Returns:
        Ink in 0..1, shape [32, 32], float32.

    Raises:
        InstanceError: The list has another length, or an entry is no number in 0..16, or all entries are alike.
    """
    if len(numbers) != 64:
        raise InstanceError(f"a picture given as a list has 64 numbers, this list has {len(numbers)} entries")
    for place, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InstanceError(f"entry {place} of the list is not a number")
        if not 0 <= number <= 16:  # also false for NaN
            raise InstanceError(f"entry {place} of the list is not in the range 0 to 16")
    cells = np.array(numbers, dtype=np.float32).reshape(8, 8)
    if float(np.ptp(cells)) < 1.0:
        raise InstanceError(BLANK)
    # Beyond the picture lies paper: without the frame, upscaling would smear the edge outwards and shift the box.
    framed = Image.fromarray(np.pad(cells, 1))
    grown = np.asarray(framed.resize((40, 40), Image.Resampling.BICUBIC))
    return _stretched(grown[2:38, 2:38])


def _stretched(grown: Floats) -> Floats:
    """Scales ink so that the digit's strokes reach 1."""
    inked = grown[grown > 0.4 * float(grown.max())]
    return _clipped(grown / float(np.percentile(inked, 75)))


def _clipped(ink: npt.NDArray[Any]) -> Floats:
    """Limits ink to 0..1."""
    return np.asarray(np.clip(ink, 0.0, 1.0), dtype=np.float32)


def picture_ink(grey: Floats) -> Floats:
    """Separates ink from paper.

    Args:
        grey: Grey levels, shape [height, width], float32, either polarity, possibly unevenly lit.

    Returns:
        Ink in 0..1, same shape, float32.

    Raises:
        InstanceError: Nothing stands out from the paper.
    """
    cut, quality = _otsu(grey)
    if quality < _CLEAR:  # not two clear levels: the light may be uneven
        grey = _levelled(grey, quality)
        cut, _ = _otsu(grey)
    high = grey > cut
    if high.all() or not high.any():
        raise InstanceError(BLANK)
    if _paper_is_high(high):
        grey, high = -grey, ~high
    paper, ink = float(np.median(grey[~high])), float(np.percentile(grey[high], 70))
    if ink - paper < _MIN_CONTRAST:
        raise InstanceError(BLANK)
    return _clipped((grey - paper) / (ink - paper))


def _otsu(grey: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Finds the level that best splits a picture in two (Otsu's method).

    Returns:
        The level, and the share of the variance that the split explains: near 1 for two clean levels.
    """
    low, high = float(grey.min()), float(grey.max())
    if high - low < 1e-3:
        return low, 1.0
    counts, edges = np.histogram(grey, bins=64, range=(low, high))
    share = counts / grey.size
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(share)[:-1]
    moment = np.cumsum(share * middles)[:-1]
    mean = float(np.sum(share * middles))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * below - moment) ** 2 / (below * (1.0 - below)), posinf=0.0)
    best = int(np.argmax(between))
    # Between two clean levels every cut is as good; the middle one is the least sensitive to noise.
    best = (best + int(np.flatnonzero(between >= between[best] * (1 - 1e-6))[-1])) // 2
    total = float(np.sum(share * (middles - mean) ** 2))
    return float(edges[best + 1]), float(between[best]) / max(total, 1e-9)


def _levelled(grey: Floats, quality: float) -> Floats:
    """Subtracts a smooth background, linear or quadratic, if ink and paper separate better without it.

    That condition matters: a surface could also eat a part of a digit that fills the picture.

    Args:
        grey: Grey levels, shape [height, width], float32.
        quality: How well they separate as they are, see ``_otsu``.

    Returns:
        Grey levels, same shape, float32.
    """
    height, width = grey.shape
    ys, xs = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(xs), xs, ys, xs * xs, xs * ys, ys * ys], axis=-1)
    coarse = (slice(None, None, max(1, height // 32)), slice(None, None, max(1, width // 32)))
    best = grey
    for count in (3, 6):
        weights = _background(grey[coarse].astype(np.float64), terms[coarse][..., :count])
        level = (grey - terms[..., :count] @ weights).astype(np.float32)
        _, level_quality = _otsu(level)
        if level_quality > quality + 0.02:
            best, quality = level, level_quality
    return best


def _background(grey: npt.NDArray[np.float64], terms: npt.NDArray[np.float64]) -> npt.NDArray[np.floating[Any]]:
    """Fits a surface to the paper: first with the least absolute deviation from all, then to what is not ink.

    Args:
        grey: Grey levels, shape [height, width].
        terms: The surface's terms at each pixel, shape [height, width, n].

    Returns:
        The terms' weights, shape [n].
    """
    flat, goal = terms.reshape(-1, terms.shape[-1]), grey.reshape(-1)
    trust = np.ones_like(goal)
    found: npt.NDArray[np.floating[Any]] = np.zeros(flat.shape[1])
    for round_ in range(_LEVELLING_ROUNDS):
        weighted = flat * trust[:, np.newaxis]
        # A little ridge keeps pictures of one or two rows solvable.
        found = np.linalg.solve(weighted.T @ flat + 1e-6 * np.eye(flat.shape[1]), weighted.T @ goal)
        rest = goal - flat @ found
        if round_ < _LEVELLING_ROUNDS // 2:
            trust = 1.0 / np.maximum(np.abs(rest), 1.0)
            continue
        high = rest > _otsu(rest)[0]
        paper = ~high if not _paper_is_high(high.reshape(grey.shape)) else high
        trust = np.where(paper.reshape(-1), 1.0 / np.maximum(np.abs(rest), 1.0), 0.0)
    return found


def _paper_is_high(high: npt.NDArray[np.bool_]) -> bool:
    """Decides polarity: paper holds the corners, most of the border and most of the picture."""
    height, width = high.shape
    dy, dx = max(1, height // 10), max(1, width // 10)
    corners = [high[:dy, :dx], high[:dy, -dx:], high[-dy:, :dx], high[-dy:, -dx:]]
    border = np.concatenate([high[0], high[-1], high[:, 0], high[:, -1]])
    votes = float(np.mean([corner.mean() for corner in corners])) + float(border.mean()) + float(high.mean())
    return votes > 1.5


def centred(ink: Floats) -> Floats:
    """Crops an ink map to its digit and brings that to the network's size.

    The aspect ratio is kept, so a '1' stays narrow. The digit's longer side fills the square but for a small margin.

    Args:
        ink: Ink in 0..1, shape [height, width], float32.

    Returns:
        Ink in 0..1, shape [24, 24], float32.

    Raises:
        InstanceError: There is no ink.
    """
    inked = _without_specks(ink > _INK)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if rows.size == 0:
        raise InstanceError(BLANK)
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    half = max(bottom - top, right - left) * (0.5 + _MARGIN)
    pad = math.ceil(half) + 1  # the square may reach beyond the picture
    y, x = (top + bottom) / 2 + pad, (left + right) / 2 + pad
    square = (x - half, y - half, x + half, y + half)
    framed = Image.fromarray(np.pad(ink, pad))
    return np.asarray(framed.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=square), dtype=np.float32)


def _without_specks(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Keeps the pixels that have at least two neighbours, so that noise cannot widen the digit's box."""
    padded = np.pad(mask, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    kept = mask & (around >= 3)
    return kept if kept.any() else mask
