"""Many objects at once into files, in parts where that pays; verified, and going on from what is there.

Each file is held against the checksum of its object in the listing, joined from those of its parts. Damage on the way
(the parts have no checksum of their own to be told apart by) costs the object another transfer.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from listener.artifacts import checksum, parts
from listener.artifacts.bucket import Bucket, Contents, Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.journal import Journal
from listener.artifacts.parts import Mark, Span
from listener.artifacts.reading import BLOCK, Block
from listener.artifacts.unpacking import Unpacker
from listener.errors import ConfigError

#: How often an object is fetched that arrives damaged.
_ATTEMPTS = 3

#: Work for a thread; gives the work that follows from it.
Job = Callable[[], list[Any]]


class Told(Protocol):
    """Who is told how far it is."""

    def add(self, nbytes: int) -> None: ...

    def done(self, item: Item) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What a transfer has to do with.

    Attributes:
        place: where the objects lie.
        contents: all of them.
        cloud: reads them.
        folder: where the files come; may hold some of them already, as the journal says.
        journal: notes what is there.
        progress: is told of each byte that counts; negative where bytes had to be thrown away.
    """

    place: Bucket
    contents: Contents
    cloud: Cloud
    folder: Path
    journal: Journal
    progress: Told


def run(target: Target) -> None:
    """Transfers everything, or ends with the first thing that goes wrong. No thread is at work any more then.

    Raises:
        ConfigError: an object cannot be read, or is not as it was listed.
        Replaced: one was replaced.
        OSError: a file cannot be written.
    """
    for path in target.contents.folders:
        (target.folder / path).mkdir(mode=0o700, parents=True, exist_ok=True)
    sizes = [item.size for item in target.contents.files.values()]
    part, stopped = parts.part_size(sizes), threading.Event()
    files = [File(target, path, item, part, stopped) for path, item in target.contents.files.items()]
    files.sort(key=lambda file: -file.item.size)  # the longest begin first
    pool = ThreadPoolExecutor(parts.connections(sizes), thread_name_prefix="transfer")
    try:
        _work_off([file.begin for file in files], pool)
    except BaseException:
        stopped.set()
        target.cloud.hang_up()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        target.cloud.close()
        for file in files:
            file.close()


def _work_off(jobs: list[Job], pool: ThreadPoolExecutor) -> None:
    """Runs jobs and those that follow from them, these first, so that few files are under way at a time."""
    waiting, outcomes = deque(jobs), SimpleQueue[list[Job] | BaseException]()

    def work() -> None:
        try:
            outcomes.put(waiting.popleft()())
        except BaseException as error:
            outcomes.put(error)

    for _ in jobs:
        pool.submit(work)
    left = len(jobs)
    while left:
        outcome = outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        waiting.extendleft(reversed(outcome))
        for _ in outcome:
            pool.submit(work)
        left += len(outcome) - 1


@dataclass(slots=True)
class File:
    """One object on its way into a file.

    Attributes:
        target: all about the transfer.
        path: of the file in the target's folder.
        item: the object.
        part: bytes of a part at most.
        stopped: set when the transfer is given up.
    """

    target: Target
    path: str
    item: Item
    part: int
    stopped: threading.Event
    _marks: list[Mark] = field(default_factory=list)
    _left: int = 0
    _attempts: int = 1
    _descriptor: int = -1
    _is_spoilt: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> list[Job]:
        """Looks what is there, and begins with what is not."""
        file = self.target.folder / self.path
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._marks = self._verified()
        self.target.progress.add(sum(len(mark.span) for mark in self._marks))
        return self._fetch(parts.missing(self.item.size, self._marks))

    def close(self) -> None:
        """Closes the file, if it is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _fetch(self, gaps: list[Span]) -> list[Job]:
        """The first part at once, the others as jobs."""
        spans = gaps if self.item.packed else [span for gap in gaps for span in parts.cut(gap, self.part)]
        self._left = max(len(spans), 1)
        if not spans:
            return self._finished()
        first, *others = [self._job(span) for span in spans]
        if others:  # they are for other threads, before this one has read its own
            return [first, *others]
        return first()

    def _job(self, span: Span) -> Job:
        return lambda: self._read(span)

    def _read(self, span: Span) -> list[Job]:
        if self.item.packed:
            self._unpack(span)
        else:
            self._copy(span)
        return [] if self.stopped.is_set() else self._finished()

    def _copy(self, span: Span) -> None:
        """Writes a span's bytes where they belong, and notes them every few MB."""
        begin, position, crc = span.start, span.start, 0
        for block in self._blocks(span):
            _write(self._descriptor, block, position)
            crc, position = checksum.extend(crc, block), position + len(block)
            self.target.progress.add(len(block))
            if position - begin >= parts.MARK:
                self._note(Mark(Span(begin, position), crc))
                begin, crc = position, 0
        if position > begin:
            self._note(Mark(Span(begin, position), crc), journal=len(span) > parts.MARK or span.start > 0)

    def _unpack(self, span: Span) -> None:
        """Writes what is packed in the object. Not noted: begun anew."""
        unpacker, written, crc = Unpacker(), 0, 0
        for block in map(bytes, self._blocks(span)):
            crc = checksum.extend(crc, block)
            for piece in unpacker.pieces(block):
                _write(self._descriptor, piece, written)
                written += len(piece)
            self.target.progress.add(len(block))
        rest = unpacker.end()
        _write(self._descriptor, rest, written)
        os.ftruncate(self._descriptor, written + len(rest))
        self._is_spoilt = unpacker.is_spoilt
        self._note(Mark(span, crc), journal=False)

    def _blocks(self, span: Span) -> Iterator[Block]:
        for block in self.target.cloud.read(self.target.place, self.item, span, self.stopped):
            if self.stopped.is_set():
                return
            yield block

    def _note(self, mark: Mark, journal: bool = True) -> None:
        with self._lock:
            self._marks.append(mark)
        if journal:
            self.target.journal.note(self.path, mark)

    def _finished(self) -> list[Job]:
        """After each part; the last one has the whole object looked at."""
        with self._lock:
            self._left -= 1
            if self._left:
                return []
        if self.item.crc32c not in (None, parts.whole(self._marks)):
            return self._anew()
        if self._is_spoilt:  # as it lies there: on its way nothing was damaged
            raise ConfigError(
                f"{self.target.place}: {self.item.name!r} is stored with Content-Encoding gzip and cannot be unpacked; "
                "upload it again"
            )
        if self.item.packed:
            self._note_unpacked()
        os.fsync(self._descriptor)
        self.close()
        self.target.progress.done(self.item)
        return []

    def _anew(self) -> list[Job]:
        """Throws away what came damaged."""
        if self._attempts == _ATTEMPTS:
            self._void()
            raise ConfigError(
                f"{self.target.place}: {self.item.name!r} arrived damaged {_ATTEMPTS} times (its checksum is wrong); "
                "start again"
            )
        self._attempts += 1
        self._void()
        return self._fetch(parts.missing(self.item.size, []))

    def _void(self) -> None:
        self.target.journal.void(self.path)
        self.target.progress.add(-sum(len(mark.span) for mark in self._marks))
        self._marks = []
        os.ftruncate(self._descriptor, 0)

    def _verified(self) -> list[Mark]:
        """What an interrupted start left, as far as it is right when it is read again; the rest is cut off."""
        size = os.fstat(self._descriptor).st_size
        if self.item.packed:
            return self._verified_unpacked(size)
        whole = Span(0, self.item.size)
        noted = self.target.journal.marks(self.path)
        if not noted and size == self.item.size and self.item.crc32c is not None:
            noted = [Mark(whole, self.item.crc32c)]
        fits = [mark for mark in noted if mark.span.stop <= min(size, self.item.size)]
        kept = parts.usable(mark for mark in fits if self._checksum(mark.span) == mark.crc)
        if size > self.item.size or not kept:
            os.ftruncate(self._descriptor, kept[-1].span.stop if kept else 0)
        return kept

    def _note_unpacked(self) -> None:
        """The listing's checksum is that of the packed bytes, so that of the file has to be noted."""
        whole = Span(0, os.fstat(self._descriptor).st_size)
        self.target.journal.note(self.path, Mark(whole, self._checksum(whole)))

    def _verified_unpacked(self, size: int) -> list[Mark]:
        noted = self.target.journal.marks(self.path)
        whole = Span(0, size)
        if self.item.crc32c is not None and Mark(whole, self._checksum(whole)) in noted[-1:]:
            return [Mark(Span(0, self.item.size), self.item.crc32c)]
        os.ftruncate(self._descriptor, 0)
        return []

    def _checksum(self, span: Span) -> int:
        crc, position = 0, span.start
        while position < span.stop and not self.stopped.is_set():
            block = os.pread(self._descriptor, min(BLOCK, span.stop - position), position)
            if not block:
                break
            crc, position = checksum.extend(crc, block), position + len(block)
        return crc


def _write(descriptor: int, data: bytes | Block, position: int) -> None:
    count = os.pwrite(descriptor, data, position)
    if count < len(data):
        _write(descriptor, bytes(data)[count:], position + count)
