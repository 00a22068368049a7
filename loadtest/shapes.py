"""Shapes of load: how many users ask, and until when. `SHAPE` names one, and its numbers come from the environment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from loadtest.asking import Mistake

#: What can be set, with the defaults: users, and seconds.
NUMBERS = {
    "RAMP_USERS": 64,
    "RAMP_STEP_USERS": 8,
    "RAMP_STEP_SECONDS": 30,
    "SPIKE_CALM_USERS": 4,
    "SPIKE_CALM_SECONDS": 60,
    "SPIKE_USERS": 64,
    "SPIKE_SECONDS": 30,
    "SOAK_USERS": 8,
    "SOAK_SECONDS": 14_400,
}


class Stage(NamedTuple):
    """A time in which the number of users stays.

    Attributes:
        until: seconds from the start of the test.
        users: at a time.
    """

    until: float
    users: int


def stages(environ: Mapping[str, str]) -> list[Stage]:
    """Those of the shape that `SHAPE` names; [] = none, so that Locust's own -u and -r hold.

    Raises:
        Mistake: there is no such shape, or one of its numbers is none above 0.
    """
    name = environ.get("SHAPE", "")
    if not name:
        return []
    if name not in _SHAPES:
        raise Mistake(f"SHAPE={name}: it can be {', '.join(_SHAPES)}, or nothing for a steady load")
    lengths = _SHAPES[name]({key: _number(environ, key) for key in NUMBERS if key.startswith(name.upper())})
    ends = itertools.accumulate(length for length, _ in lengths)
    return [Stage(end, int(users)) for end, (_, users) in zip(ends, lengths, strict=True)]


def users_at(shape: Sequence[Stage], seconds: float) -> int | None:
    """How many users there are some seconds after the start; None = the test is over."""
    return next((stage.users for stage in shape if seconds < stage.until), None)


# Each of them: seconds and users, one stage after the other


def _ramp(numbers: Mapping[str, float]) -> list[tuple[float, float]]:
    most, step = numbers["RAMP_USERS"], numbers["RAMP_STEP_USERS"]
    return [(numbers["RAMP_STEP_SECONDS"], min(most, step * n)) for n in range(1, math.ceil(most / step) + 1)]


def _spike(numbers: Mapping[str, float]) -> list[tuple[float, float]]:
    calm = (numbers["SPIKE_CALM_SECONDS"], numbers["SPIKE_CALM_USERS"])
    return [calm, (numbers["SPIKE_SECONDS"], numbers["SPIKE_USERS"]), calm]


def _soak(numbers: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(numbers["SOAK_SECONDS"], numbers["SOAK_USERS"])]


_SHAPES: dict[str, Callable[[Mapping[str, float]], list[tuple[float, float]]]] = {
    "ramp": _ramp,
    "spike": _spike,
    "soak": _soak,
}


def _number(environ: Mapping[str, str], name: str) -> float:
    text = environ.get(name, "") or str(NUMBERS[name])
    try:
        number = float(text) if name.endswith("SECONDS") else int(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        kind = "a number of seconds" if name.endswith("SECONDS") else "a whole number of users"
        raise Mistake(f"{name}={text}: {kind} above 0 is wanted")
    return number
