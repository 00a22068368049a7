"""Numbers in memory that all workers share: each worker writes to a seat of its own, anybody reads all of them.

The parent makes the segment (a memfd: without a name, so that nothing is left of it) and every worker inherits its
descriptor. A seat is taken by a lock that the kernel gives back at the death of its process. Whoever takes the seat of
a dead one goes on counting where that stopped, so counters never fall while the parent lives.

A seat holds series: each is a row of numbers with a label (`["family", "value of its first label", ...]`). Their number
is bounded: what finds no room is counted under "other", so no caller can make the memory grow.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import orjson

_HEAD = struct.Struct("<qq")  # series, and numbers that they have
_SERIES = struct.Struct("<II")  # place of the first number, length of the label
_LABEL = 504  # bytes of a label at most
_RECORD = _SERIES.size + _LABEL
#: Series and numbers of a seat. 64 routes have some 64 * 7 histograms of 24 numbers.
_MOST_SERIES, _MOST_NUMBERS = 1024, 16384
#: Series that are kept for those called "other".
_KEPT = 64
_NUMBERS_AT = 16 + _MOST_SERIES * _RECORD
SEAT = -(-(_NUMBERS_AT + _MOST_NUMBERS * 8) // mmap.PAGESIZE) * mmap.PAGESIZE
#: Characters of one label's value.
_LONGEST = 60
_ODD = re.compile(r"[^ !#-\[\]-~]")
#: As the kernel's `struct flock` on 64-bit Linux.
_LOCK = struct.Struct("hhqqi")


class Series(NamedTuple):
    """Some numbers with a name.

    Attributes:
        family: the metric's name.
        labels: their values.
        seat: whose.
        numbers: as they are now.
    """

    family: str
    labels: tuple[str, ...]
    seat: int
    numbers: tuple[float, ...]


class Segment:
    """The memory of all seats.

    Args:
        file: a descriptor of it; None = memory of this process alone, with one seat.
        seats: how many there are; counts where the file is new.
    """

    def __init__(self, file: int | None = None, seats: int = 1) -> None:
        self._file = file
        if file is not None:
            seats = os.fstat(file).st_size // SEAT
        self.seats = seats
        self._memory = mmap.mmap(-1 if file is None else file, SEAT * seats)

    def take(self) -> Seat | None:
        """A seat that nobody has; None = all are taken."""
        for number in range(self.seats):
            if self._file is None or _locked(self._file, number):
                return Seat(memoryview(self._memory)[number * SEAT : (number + 1) * SEAT], number)
        return None

    def alive(self, seat: int) -> bool:
        """Whether another process has it; of the own seats nothing is said."""
        if self._file is None:
            return False
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, seat, 1, 0)
        return bool(_LOCK.unpack(fcntl.fcntl(self._file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)

    def series(self) -> Iterator[Series]:
        """Those of all seats, dead ones as well."""
        for number in range(self.seats):
            yield from _series(memoryview(self._memory)[number * SEAT : (number + 1) * SEAT], number)


class Seat:
    """One worker's part of it. Nobody else writes there.

    Attributes:
        number: which one.
        numbers: of all series; `series` says where each has its own.
    """

    def __init__(self, memory: memoryview, number: int) -> None:
        self._memory, self.number = memory, number
        self.numbers = memory[_NUMBERS_AT : _NUMBERS_AT + _MOST_NUMBERS * 8].cast("d")
        self._places = {(one.family, *one.labels): place for one, place in _with_places(memory, number)}
        self._count, self._used = _HEAD.unpack_from(memory)

    def series(self, family: str, labels: tuple[str, ...], length: int = 1) -> int:
        """The place of its first number; made at the first time, and that of "other" where there is no more room."""
        labels = tuple([_short(value) for value in labels])
        place = self._places.get((family, *labels))
        if place is None:
            others = tuple(["other"] * len(labels))
            room = self._count < _MOST_SERIES - (_KEPT if labels != others else 0)
            if labels and not (room and self._used + length <= _MOST_NUMBERS * (7 if labels != others else 8) // 8):
                if labels == others:
                    raise MemoryError(f"no room for {family}")
                return self.series(family, others, length)
            place = self._places[family, *labels] = self._make(family, labels, length)
        return int(place)

    def _make(self, family: str, labels: tuple[str, ...], length: int) -> int:
        label, place = orjson.dumps([length, family, *labels]), int(self._used)
        at = _HEAD.size + self._count * _RECORD
        self._memory[at + _SERIES.size : at + _SERIES.size + len(label)] = label
        _SERIES.pack_into(self._memory, at, place, len(label))
        self._count, self._used = self._count + 1, self._used + length
        _HEAD.pack_into(self._memory, 0, self._count, self._used)  # last: readers believe it
        return place


def new(seats: int) -> int:
    """A descriptor of a new segment, for the workers to inherit."""
    file = os.memfd_create("listener-metrics")
    os.ftruncate(file, SEAT * seats)
    return file


def _locked(file: int, number: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError:
        return False
    return True


def _series(memory: memoryview, number: int) -> Iterator[Series]:
    for one, _ in _with_places(memory, number):
        yield one


def _with_places(memory: memoryview, number: int) -> Iterator[tuple[Series, int]]:
    numbers = memory[_NUMBERS_AT : _NUMBERS_AT + _MOST_NUMBERS * 8].cast("d")
    count, _ = _HEAD.unpack_from(memory)
    for index in range(count):
        at = _HEAD.size + index * _RECORD
        place, size = _SERIES.unpack_from(memory, at)
        length, family, *labels = orjson.loads(memory[at + _SERIES.size : at + _SERIES.size + size])
        yield Series(family, tuple(labels), number, tuple(numbers[place : place + length])), place


def _short(value: str) -> str:
    """What fits into a label four times, whatever its characters are."""
    return _ODD.sub("?", value)[:_LONGEST]
