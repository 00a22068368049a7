"""From a picture file to grey levels: whatever a caller sends, decoded safely and cheaply."""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from listener import InstanceError

Floats = npt.NDArray[np.float32]

BLANK = "the picture is blank, there is no digit to read"
_CUT_OFF = "the picture is damaged or cut off and cannot be decoded"
_WORK_SIDE = 112  # pictures are worked on at about this many pixels a side; a digit needs some 30 of them
_LONGEST_SIDE = 1024  # after reduction, so that a sliver of a picture stays cheap too

# What Pillow raises for files that are cut off or damaged depends on where the damage is. Its warnings count only where
# a filter turns them into errors.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error, Warning)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# Pillow forgives a missing end once all rows are there; a file without its end was cut off all the same.
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag


def grey_levels(data: bytes, max_pixels: int) -> Floats:
    """Decodes a PNG or JPEG file.

    Args:
        data: The file's content.
        max_pixels: Pictures with more pixels (width x height) are refused from their header.

    Returns:
        Shape [height, width] after reduction to about 112 pixels a side, float32: brightness from 0 to 255, along the
        direction in which the colours differ most, so its sign is arbitrary.

    Raises:
        InstanceError: The file is no such picture, is damaged or too large, or the picture is blank.
    """
    if not data:
        raise InstanceError("the picture is empty, it has no bytes")
    limit = f"the picture has too many pixels, at most {max_pixels // 1_000_000} megapixels are read"
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > max_pixels:
                raise InstanceError(limit)
            if _ENDS.get(picture.format or "", b"") not in data:
                raise InstanceError(_CUT_OFF)
            return _grey(_reduced(picture))
    except _BOMB:
        raise InstanceError(limit) from None
    except UnidentifiedImageError:
        raise InstanceError("the bytes are not a PNG or JPEG picture") from None
    except _DAMAGE:
        raise InstanceError(_CUT_OFF) from None


def _reduced(picture: Image.Image) -> Image.Image:
    """Decodes a picture at no more pixels than needed, upright, as RGB, RGBA or L."""
    # JPEG can decode straight to an eighth of its size; other formats ignore this.
    picture.draft(None, (2 * _WORK_SIDE, 2 * _WORK_SIDE))
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    plain = _plain_mode(picture)
    width, height = plain.size
    factor = max(int(math.sqrt(width * height) / _WORK_SIDE), math.ceil(max(width, height) / _LONGEST_SIDE))
    small = plain.reduce(factor) if factor > 1 else plain
    return small.transpose(turn) if turn is not None else small


def _orientation(picture: Image.Image) -> int:
    """Reads the EXIF orientation; damaged EXIF data must not cost the caller an otherwise good picture."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1


def _plain_mode(picture: Image.Image) -> Image.Image:
    """Converts any mode that PNG and JPEG files have to L, RGB or RGBA."""
    if picture.mode.startswith("I"):  # 16 bits a pixel, of which cameras and scanners often use 10 or 12
        deep = np.asarray(picture, dtype=np.float32)
        full = float(2 ** max(8, int(deep.max()).bit_length()) - 1)
        return Image.fromarray((deep * (255.0 / full)).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        # Most pictures with an alpha channel make no use of it.
        return clear if clear.getchannel("A").getextrema() != (255, 255) else clear.convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _grey(picture: Image.Image) -> Floats:
    """Returns the picture's brightness along the direction in which its colours differ most.

    Red ink on green paper of the same luminance stays readable that way. The sign is arbitrary; polarity is decided
    afterwards.

    Args:
        picture: Of mode L, RGB or RGBA.

    Returns:
        Shape [height, width], float32, in grey levels (a difference of 255 is black against white).
    """
    if picture.mode == "RGBA":
        picture = _on_paper(picture)
    levels = np.asarray(picture, dtype=np.float32)
    if levels.ndim == 2:
        return levels
    flat = levels.reshape(-1, 3)
    flat = flat - flat.mean(axis=0)
    axis = np.linalg.eigh(flat.T @ flat)[1][:, -1].astype(np.float32)
    # Divided by what black against white would measure, so that contrast means the same as in a grey picture.
    length = np.float32(max(float(np.abs(axis).sum()), 1.0))
    return np.asarray(flat @ (axis / length), dtype=np.float32).reshape(levels.shape[:2])


def _on_paper(picture: Image.Image) -> Image.Image:
    """Lays a transparent picture on white, or on black where nearly all that is visible is light."""
    alpha = np.asarray(picture.getchannel("A"))
    if not alpha.any():
        raise InstanceError(BLANK)
    seen = np.asarray(picture.convert("RGB").convert("L"))[alpha > 127]
    light = seen.size > 0 and float(np.percentile(seen, 5)) > 127
    # Opaque light pictures have no paper to choose.
    shade = (0, 0, 0, 255) if light and int(alpha.min()) < 128 else (255, 255, 255, 255)
    return Image.alpha_composite(Image.new("RGBA", picture.size, shade), picture).convert("RGB")
