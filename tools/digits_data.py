"""scikit-learn's handwritten digits: the fixed split, and pictures made of them.

Training and tests take the split from here, so that they cannot disagree about what was held out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SPLIT_SEED = 1797
HELD_OUT = 0.2

INTERPOLATIONS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)


@dataclass(frozen=True)
class Split:
    """The data set in two parts.

    Attributes:
        train: Pictures to learn from, shape [1437, 64], float32, 0 (paper) to 16 (ink).
        train_digits: Their digits, shape [1437], int64.
        held_out: Pictures that the model never saw, in any form, shape [360, 64], float32.
        held_out_digits: Their digits, shape [360], int64.
    """

    train: npt.NDArray[np.float32]
    train_digits: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.float32]
    held_out_digits: npt.NDArray[np.int64]


def load_split() -> Split:
    """Loads the data set, bundled with scikit-learn, and splits it the same way every time, stratified by digit."""
    pictures, digits = load_digits(return_X_y=True)
    train, held_out, train_digits, held_out_digits = train_test_split(
        pictures.astype(np.float32),
        digits.astype(np.int64),
        test_size=HELD_OUT,
        stratify=digits,
        random_state=SPLIT_SEED,
    )
    return Split(train, train_digits, held_out, held_out_digits)


def scaled_up(
    numbers: npt.NDArray[np.float32],
    size: int,
    interpolation: Image.Resampling = Image.Resampling.BICUBIC,
    dark_on_light: bool = False,
) -> Image.Image:
    """Makes a square grey picture of 64 numbers.

    Args:
        numbers: Shape [64], 0 (paper) to 16 (ink).
        size: Height and width of the picture, in pixels.
        interpolation: How to scale up.
        dark_on_light: Black ink on white, instead of white on black.

    Returns:
        A picture of mode L.
    """
    cells = np.clip(np.rint(np.asarray(numbers).reshape(8, 8) * (255 / 16)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(cells).resize((size, size), interpolation)
    return ImageOps.invert(picture) if dark_on_light else picture


def encoded(picture: Image.Image, jpeg_quality: int | None = None) -> bytes:
    """Encodes a picture as PNG or, with a quality given, as JPEG."""
    file = io.BytesIO()
    if jpeg_quality is None:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue()


def render(numbers: npt.NDArray[np.float32], rng: np.random.Generator) -> bytes:
    """Makes a picture file of 64 numbers: 32 to 400 px, any interpolation and polarity, PNG or JPEG.

    Args:
        numbers: Shape [64], 0 (paper) to 16 (ink).
        rng: Decides everything that is left open.

    Returns:
        The content of a PNG file or of a JPEG file of quality 70 to 95.
    """
    interpolation = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
    picture = scaled_up(numbers, int(rng.integers(32, 401)), interpolation, bool(rng.integers(2)))
    return encoded(picture, int(rng.integers(70, 96)) if rng.integers(2) else None)
