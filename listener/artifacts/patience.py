"""How long to wait before a request is repeated, and when to give up."""

from __future__ import annotations

import contextlib
import email.utils
import math
import random
import time

#: Seconds before the first repetition, and at most before any other; each is drawn between half of it and the whole.
_FIRST, _LONGEST = 0.2, 8.0


class Again(Exception):
    """A request failed in a way that another try may mend.

    Args:
        reason: why, for the user.
        after: seconds that the other side asks us to wait.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Patience:
    """That of one transfer.

    Args:
        limit: seconds without any progress after which it is lost.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._since, self._tries = limit, time.monotonic(), 0

    def progressed(self) -> None:
        """Something arrived."""
        self._since, self._tries = time.monotonic(), 0

    def wait(self, again: Again) -> float:
        """Seconds until the next try.

        Raises:
            Again: it has failed for too long.
        """
        left = self._since + self._limit - time.monotonic()
        if left <= 0:
            raise again
        delay = min(math.ldexp(_FIRST, self._tries), _LONGEST) * random.uniform(0.5, 1)
        self._tries = min(self._tries + 1, 16)
        return min(max(delay, again.after), left)


def asked_for(retry_after: str) -> float:
    """Seconds that the other side asks us to wait, in its header: a number, or a date. 0 where it says nothing."""
    if retry_after.isdigit():
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    return 0.0
