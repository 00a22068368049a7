"""On which line of a text protobuf each field stands. protobuf's own parser does not tell, and a mistake needs a place.

Expects text that protobuf has parsed already, so it need not know the schema and never complains.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

#: A field and what it is inside of: names, each followed by its index; without the last index, its first appearance.
Field: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
      \#[^\n]*                                             # comment
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'            # string
    | \.?\d(?:[eE][-+]?\d|[\w.])*                          # number
    | \w+
    | \S
    """,
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}


def lines(text: str) -> Mapping[Field, int]:
    """Line numbers, from 1, by field; of malformed text, those up to the fault."""
    walk = _Walk(text)
    with suppress(IndexError, RecursionError):
        walk.message((), end="")
    return walk.found


class _Walk:
    """One pass over the tokens."""

    def __init__(self, text: str) -> None:
        self.found: dict[Field, int] = {}
        self._tokens: list[tuple[str, int]] = []
        self._at = 0
        for number, line in enumerate(text.split("\n"), start=1):
            tokens = (match.group() for match in _TOKEN.finditer(line))
            self._tokens += [(token, number) for token in tokens if not token.startswith("#")]

    def message(self, inside: Field, end: str) -> None:
        """The fields of a message up to its closing bracket; at the top, up to the end of the text."""
        seen: Counter[str] = Counter()
        while self._at < len(self._tokens) or end:
            name, line = self._take()
            if name == end:
                return
            if name not in {",", ";"}:
                self._field((*inside, name), line, seen)

    def _field(self, field: Field, line: int, seen: Counter[str]) -> None:
        self.found.setdefault(field, line)
        if self._peek() == ":":
            self._take()
        if self._peek() != "[":
            self._value(field, seen)
            return
        self._take()
        while self._peek() != "]":
            if self._peek() == ",":
                self._take()
            else:
                self._value(field, seen)
        self._take()

    def _value(self, field: Field, seen: Counter[str]) -> None:
        token, line = self._take()
        index = seen[str(field[-1])]
        seen[str(field[-1])] += 1
        self.found[*field, index] = line
        if token in _CLOSING:
            self.message((*field, index), _CLOSING[token])
        elif token in {"-", "+"}:
            self._take()
        elif token[0] in "\"'":
            while self._peek()[:1] in {'"', "'"}:  # strings side by side are one string
                self._take()

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]
