"""BF16, which numpy does not have: the upper half of an FP32's bits. Pure.

Inside the listener such a tensor is an array of FP32, which holds every BF16; only on the way to Triton and back an
element has two bytes. Numbers are rounded to the nearest BF16, halfway between two of them to the even one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of an element on the way.
SIZE = 2
#: Significant binary digits, and the exponent of the smallest step between two numbers.
_DIGITS, _LEAST = 8, -133


def rounded(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as those that BF16 has; beyond its range they become infinite.

    Args:
        numbers: of any numeric dtype; they are rounded once, if doubles hold them.
    """
    if numbers.dtype == np.float32:
        return unpacked(packed(numbers))
    with np.errstate(over="ignore"):
        doubles = numbers.astype(np.float64)
        _, exponents = np.frexp(doubles)
        steps = np.maximum(exponents - _DIGITS, _LEAST)
        return np.ldexp(np.rint(np.ldexp(doubles, -steps)), steps).astype(np.float32)


def packed(numbers: NDArray[Any]) -> NDArray[np.uint16]:
    """The bits of each as BF16, rounded; NaN stays NaN.

    Args:
        numbers: of FP32, in any shape, which stays.
    """
    bits = np.ascontiguousarray(numbers).view(np.uint32).reshape(numbers.shape)
    upper = bits >> 16
    rounding = ((bits & 0xFFFF) + 0x7FFF + (upper & 1)) >> 16  # 0 or 1
    halves = np.where(
        np.isnan(numbers), upper | 0x40, upper + rounding
    )  # a NaN may have all its bits in the lower half
    return halves.astype(np.uint16)


def unpacked(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """What the bits of BF16 say, as FP32, in the same shape."""
    wide = bits.astype(np.uint32)
    np.left_shift(wide, np.uint32(16), out=wide)
    return wide.view(np.float32)
