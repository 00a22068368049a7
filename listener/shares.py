"""Permits by name, so that one name cannot have all of them. Pure."""

from __future__ import annotations

from listener.errors import Overloaded


class Shares:
    """Counts what each name has. A name that has nothing is not kept, so there are never more than permits.

    Args:
        most: for one name, at least 1.
        what: kind of name, for the sentence: "route".
        setting: which says so.
    """

    def __init__(self, most: int, what: str, setting: str) -> None:
        self._most, self._what, self._setting = most, what, setting
        self._held: dict[str, int] = {}

    def held(self, name: str) -> int:
        """How many a name has."""
        return self._held.get(name, 0)

    def take(self, name: str) -> None:
        """One more for a name.

        Raises:
            Overloaded: it has its share.
        """
        held = self._held.get(name, 0)
        if held >= self._most:
            raise Overloaded(f"{self._what} {name[:100]!r} has {held} requests here already ({self._setting})")
        self._held[name] = held + 1

    def give(self, name: str) -> None:
        """Gives one back."""
        left = self._held[name] - 1
        if left:
            self._held[name] = left
        else:
            del self._held[name]
