"""How objects are cut for the transfer: how many connections, which part each reads, what is there already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from listener.artifacts import checksum

_MIB = 1 << 20
#: An object is cut only into parts of at least so many bytes: below, another request costs more than it brings.
SMALLEST = 64 * _MIB
#: Larger parts bring nothing either, and one slow connection holds up the end.
_LARGEST = 512 * _MIB
#: Bytes of a part after which it is noted what is there; a crash loses at most so many for each connection.
MARK = 4 * _MIB
#: Connections for large objects.
_FEW = 8
#: Connections where most of the time is spent waiting for answers.
_MANY = 16
#: Objects below this size on the average count as small.
_SMALL = _MIB


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` (without it) of an object."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Mark:
    """A span whose bytes are there, and their checksum."""

    span: Span
    crc: int


def connections(sizes: Sequence[int]) -> int:
    """How many transfers at a time."""
    return _MANY if sum(sizes) < _SMALL * len(sizes) else _FEW


def part_size(sizes: Sequence[int]) -> int:
    """The size of parts: as large as keeps all connections busy, so that many objects come whole and few in parts."""
    return min(max(-(-sum(sizes) // _FEW), SMALLEST), _LARGEST)


def cut(span: Span, part: int) -> list[Span]:
    """A span in pieces of the same size, none of more than `part` bytes."""
    count = -(-len(span) // part)
    edges = [span.start + len(span) * n // count for n in range(count)] if count else []
    return [Span(start, stop) for start, stop in zip(edges, [*edges[1:], span.stop], strict=True)] if edges else []


def missing(size: int, marks: Iterable[Mark]) -> list[Span]:
    """The spans of an object that no mark covers. Marks as `usable` gives them."""
    gaps, position = list[Span](), 0
    for mark in marks:
        if mark.span.start > position:
            gaps.append(Span(position, mark.span.start))
        position = mark.span.stop
    return [*gaps, Span(position, size)] if position < size else gaps


def usable(marks: Iterable[Mark]) -> list[Mark]:
    """Marks in order, without those that overlap an earlier one."""
    kept, position = list[Mark](), 0
    for mark in sorted(marks, key=lambda mark: (mark.span.start, -mark.span.stop)):
        if mark.span.start >= position:
            kept.append(mark)
            position = mark.span.stop
    return kept


def whole(marks: Iterable[Mark]) -> int:
    """The checksum of an object whose marks cover it without gaps."""
    crc = 0
    for mark in usable(marks):
        crc = checksum.joined(crc, mark.crc, len(mark.span))
    return crc
