"""Which spans of which files are there, on the disk: what a start after a crash goes on from.

A line for each, with a checksum of its own, so that half a line counts for nothing. A line may have reached the disk
where the bytes it speaks of have not; so it holds their checksum, and whoever believes a line reads the bytes first.
That costs a start after a crash a second for 2 GB, and a start without one no fsync beside those at the end.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from listener.artifacts.parts import Mark, Span


class Journal:
    """The journal of one state. Its lines are appended whole, so threads may write at once.

    Args:
        file: where it lies; made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(os.dup(self._descriptor), "rb")) as stream:
            text = stream.read()
        self._marks = _read(text)
        if text and not text.endswith(b"\n"):
            os.write(self._descriptor, b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def marks(self, path: str) -> list[Mark]:
        """What was noted of a file when the journal was opened."""
        return self._marks.get(path, [])

    def note(self, path: str, mark: Mark) -> None:
        """These bytes of the file are written."""
        self._append([path, mark.span.start, mark.span.stop, mark.crc])

    def void(self, path: str) -> None:
        """Nothing of what was noted of the file counts any more."""
        self._append([path, 0, 0, 0])

    def _append(self, fields: list[str | int]) -> None:
        line = orjson.dumps(fields)
        os.write(self._descriptor, b"%08x %s\n" % (zlib.crc32(line), line))


def _read(text: bytes) -> dict[str, list[Mark]]:
    found = dict[str, list[Mark]]()
    for line in text.splitlines():
        sum_of_it, _, fields = line.partition(b" ")
        if sum_of_it != b"%08x" % zlib.crc32(fields):
            continue
        path, start, stop, crc = orjson.loads(fields)
        if stop:
            found.setdefault(path, []).append(Mark(Span(start, stop), crc))
        else:
            found.pop(path, None)
    return found
