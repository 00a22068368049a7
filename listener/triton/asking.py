"""What one call of a model may ask for besides its arrays: a version, and a time of its own. Pure."""

from __future__ import annotations

import numbers
from typing import Any

#: Digits that a version of Triton's has at most: it is a 64-bit number.
_DIGITS = 19


def version_of(given: str | int) -> str:
    """A version as Triton's paths have it: digits without zeros before them, or "" where Triton chooses.

    Raises:
        ValueError: it is neither a number from 1 on nor "".
    """
    if given == "" and isinstance(given, str):
        return ""
    text = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text):
        return str(int(text))
    raise ValueError(
        f"version is {given!r}; it has to be a number from 1 on, such as 7 or '7', or '' for Triton's choice"
    )


def seconds_of(given: float | None) -> float | None:
    """A time in seconds; None = as long as the request has.

    Raises:
        ValueError: it is no number above 0.
    """
    if given is None:
        return None
    anything: Any = given
    is_number = isinstance(anything, numbers.Real) and not isinstance(anything, bool)
    if not is_number or not given > 0:
        raise ValueError(f"timeout is {given!r}; it has to be seconds, more than 0, or None for the request's time")
    return float(given)
