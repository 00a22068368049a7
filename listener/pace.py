"""How slowly a body may come. Pure."""

from __future__ import annotations

#: Seconds in which it may come as it likes.
GRACE = 10.0
#: Bytes a second that it needs from then on, counted from its beginning.
RATE = 1024.0


def due(begun: float, received: int) -> float:
    """Until when more has to have come, on the clock of `begun`: of a body that began then, and has come so far."""
    return begun + GRACE + received / RATE


def sentence(received: int) -> str:
    """What is said of one that was slower."""
    return f"the body came too slowly: {received} bytes after {GRACE + received / RATE:.0f} s"
