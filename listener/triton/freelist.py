"""Which bytes of a region are free: numbers only, no memory."""

from __future__ import annotations

from bisect import bisect_left


class FreeList:
    """First fit at the lowest offset, so that little of the region is ever touched; neighbours are joined when freed.

    Sizes are rounded up to whole pages: no two users share one, and any alignment that a backend likes is met. A search
    looks at each gap once, of which there is at most one more than there are users.

    Args:
        size: bytes; cut down to whole pages.
        page: bytes.
    """

    def __init__(self, size: int, page: int = 4096) -> None:
        self._page = page
        self.size = size - size % page
        self._gaps = [(0, self.size)] if self.size else []  # (begin, end), ascending, never touching one another

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """What is free, as (begin, end) in bytes, ascending."""
        return list(self._gaps)

    def take(self, nbytes: int) -> tuple[int, int] | None:
        """A free range (begin, end) of at least `nbytes` bytes; None where there is none."""
        length = -(-nbytes // self._page) * self._page
        for index, (begin, end) in enumerate(self._gaps):
            if end - begin >= length:
                self._gaps[index : index + 1] = [(begin + length, end)] if end - begin > length else []
                return begin, begin + length
        return None

    def give(self, begin: int, end: int) -> None:
        """Takes back a range that `take` gave, exactly once."""
        index = bisect_left(self._gaps, (begin, end))
        first, last = index, index
        if index and self._gaps[index - 1][1] == begin:
            first, begin = index - 1, self._gaps[index - 1][0]
        if index < len(self._gaps) and self._gaps[index][0] == end:
            last, end = index + 1, self._gaps[index][1]
        self._gaps[first:last] = [(begin, end)]
