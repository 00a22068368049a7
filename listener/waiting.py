"""A short row of requests that wait for a permit, those in front whose time ends first. Pure.

What can no longer be answered in time is not begun. How long an answer takes nobody knows before, so it is the least
that one took of late: what has less time than that is hopeless, whatever it asks for.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

#: Part of the way by which the least time comes nearer to a longer one: after some hundred of them it is forgotten.
_FORGETS = 1 / 64


class Timed(Protocol):
    """What can wait."""

    @property
    def deadline(self) -> float: ...


Item = TypeVar("Item", bound=Timed)


class Waiting(Generic[Item]):
    """The row.

    Args:
        most: that may wait; 0 = nobody may.

    Attributes:
        row: those that wait, in their order.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.row: list[Item] = []
        self._least = 0.0

    def __len__(self) -> int:
        return len(self.row)

    @property
    def is_full(self) -> bool:
        return len(self.row) >= self._most

    @property
    def first(self) -> Item | None:
        """The one whose turn is next."""
        return self.row[0] if self.row else None

    def add(self, item: Item) -> None:
        """Puts it in its place: behind those whose time ends at the same moment."""
        bisect.insort_right(self.row, item, key=_deadline)

    def remove(self, item: Item) -> None:
        """Takes it out, wherever it stands; nothing happens if it does not."""
        # by identity, and from the front, as it is mostly the first one
        for place, other in enumerate(self.row):
            if other is item:
                del self.row[place]
                return

    def learn(self, seconds: float) -> None:
        """So long took an answer."""
        self._least = min(seconds, self._least + (seconds - self._least) * _FORGETS)

    def hopeless(self, now: float) -> Iterator[Item]:
        """Takes those out, one by one, that have less time left than any answer takes."""
        while self.row and self.row[0].deadline < now + self._least:
            yield self.row.pop(0)


def _deadline(item: Timed) -> float:
    return item.deadline
