"""BF16 against ml_dtypes, which has it, and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.bf16 import SIZE, packed, rounded, unpacked

PATTERNS = np.arange(1 << 16, dtype=np.uint16)
NUMBERS = PATTERNS.view(ml_dtypes.bfloat16).astype(np.float32)
NANS = np.isnan(NUMBERS)
FINITE = np.unique(NUMBERS[np.isfinite(NUMBERS)]).astype(np.float64)


def test_every_pattern_is_what_it_is() -> None:
    assert np.array_equal(unpacked(PATTERNS).view(np.uint32), NUMBERS.view(np.uint32))
    assert np.dtype(np.uint16).itemsize == SIZE


def test_every_number_comes_back_and_nan_stays_nan() -> None:
    back = packed(NUMBERS)
    assert np.array_equal(back[~NANS], PATTERNS[~NANS])
    assert np.isnan(unpacked(back[NANS])).all()
    assert np.array_equal(np.signbit(unpacked(back)), np.signbit(NUMBERS))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,), (2, 3)])
def test_shapes_stay(shape: tuple[int, ...]) -> None:
    numbers = np.ones(shape, np.float32)
    assert (packed(numbers).shape, packed(numbers).dtype.name) == (shape, "uint16")
    assert (unpacked(packed(numbers)).shape, rounded(numbers).shape) == (shape, shape)
    assert (rounded(np.ones(shape)).shape, rounded(np.ones(shape)).dtype.name) == (shape, "float32")


def test_an_array_that_is_not_in_order() -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(packed(numbers.T), packed(numbers).T)
    assert np.array_equal(packed(numbers[:, ::2]), packed(numbers)[:, ::2])


def test_any_float_is_rounded_as_ml_dtypes_does() -> None:
    floats = np.random.default_rng(7).integers(0, 1 << 32, 1_000_000, np.uint32).view(np.float32)
    floats = floats[~np.isnan(floats)]
    assert np.array_equal(packed(floats), floats.astype(ml_dtypes.bfloat16).view(np.uint16))


@pytest.mark.parametrize("beside", [0, -1, 1], ids=["halfway", "below", "above"])
def test_doubles_around_every_halfway_point_are_rounded_once(beside: int) -> None:
    """By way of FP32 those closest to it would be rounded twice, and away from the nearer number."""
    below, above = FINITE[:-1], FINITE[1:]
    halfway = (below + above) / 2
    doubles = halfway if beside == 0 else np.nextafter(halfway, np.inf * beside)
    even = np.where(packed(below.astype(np.float32)) & 1 == 0, below, above)
    wanted = {0: even, -1: below, 1: above}[beside]
    assert np.array_equal(rounded(doubles).astype(np.float64), wanted)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_is_nearer(double: float) -> None:
    (made,) = rounded(np.array([double])).astype(np.float64)
    if np.isinf(made):
        assert abs(double) >= (FINITE[-1] + 2.0**128) / 2
        return
    place = int(np.searchsorted(FINITE, made))
    neighbours = FINITE[max(place - 1, 0) : place + 2]
    assert min(abs(Fraction(double) - Fraction(other)) for other in neighbours) == abs(
        Fraction(double) - Fraction(made)
    )


def test_what_is_beyond_the_range_becomes_infinite() -> None:
    given_numbers = [3.3895314e38, 3.396e38, 3.39617752923046e38, 1e300, -1e300, np.inf, -np.inf]
    wanted = [FINITE[-1], FINITE[-1], np.inf, np.inf, -np.inf, np.inf, -np.inf]
    assert rounded(np.array(given_numbers)).tolist() == wanted
    assert np.isnan(rounded(np.array([np.nan]))).all()
    assert np.signbit(rounded(np.array([-0.0, -5e-324]))).all()
