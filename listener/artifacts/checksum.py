"""CRC32C, the checksum that Cloud Storage keeps of each object: of bytes, and of two runs of bytes joined."""

from __future__ import annotations

import base64
import ctypes

import google_crc32c

_POLYNOMIAL = 0x82F63B78
_ONE = 1 << 31


def extend(crc: int, data: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """The checksum of some bytes, whose own is `crc` (0 for none), with `data` after them."""
    return int(google_crc32c.extend(crc, data))


def joined(first: int, second: int, length: int) -> int:
    """The checksum of two runs of bytes, one after the other, from the checksum of each.

    Args:
        first: of the first run.
        second: of the second one.
        length: of the second one, in bytes.
    """
    shift, power = _ONE, 3
    while length:
        if length & 1:
            shift = _times(_POWERS[power], shift)
        length, power = length >> 1, power + 1
    return _times(shift, first) ^ second


def from_listing(text: str) -> int:
    """A checksum as it stands in a listing: base64 of four bytes, the highest first."""
    return int.from_bytes(base64.b64decode(text), "big")


def _times(one: int, other: int) -> int:
    """Product of two polynomials over bits, modulo the checksum's; the highest bit stands for the power 0."""
    product, bit = 0, _ONE
    while bit:
        if one & bit:
            product ^= other
        bit >>= 1
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


def _powers() -> list[int]:
    """x to the power of 1, 2, 4, 8 and so on."""
    powers = [_ONE >> 1]
    while len(powers) < 64:
        powers.append(_times(powers[-1], powers[-1]))
    return powers


_POWERS = _powers()
