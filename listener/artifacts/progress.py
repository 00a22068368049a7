"""How far a fetch is: a bar for people, lines in the log elsewhere, and a small file for the health of the workers.

All of it is done by a thread of its own once a second, so that it costs the transfers an addition, and is told as well
while nothing arrives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Protocol

import orjson

from listener.artifacts.bucket import Contents, Item

log = logging.getLogger("listener.artifacts")

#: Seconds between two states of the file and of the bar, and between two lines in the log.
_TICK, _PERIOD = 0.5, 5.0
#: A file that nobody has written for so many seconds was left by a process that died.
_STALE = 10.0
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class State:
    """A moment of a fetch.

    Attributes:
        files_done: files that are whole.
        files: all of them.
        bytes_done: bytes that are there.
        bytes: all of them.
        seconds: since it began.
        rate: bytes per second, on the whole.
        percent: whole ones; 100 only at the end.
    """

    files_done: int
    files: int
    bytes_done: int
    bytes: int
    seconds: float
    rate: int
    percent: int

    def __str__(self) -> str:
        return (
            f"{self.files_done} of {self.files} files, {megabytes(self.bytes_done)} of {megabytes(self.bytes)} in "
            f"{self.seconds:.1f} s, {self.rate / 1e6:.1f} MB/s"
        )


class Shown(Protocol):
    """What shows it to people (bar.py)."""

    def show(self, state: State) -> None: ...

    def close(self) -> None: ...


class Progress:
    """Counts, and tells. Use it in `with`: the last state is told at an end without an error.

    Args:
        contents: what is fetched.
        file: where others look how far it is; its folder exists. None: nobody does.
        shown: takes the place of the lines in the log, but for the last one.
    """

    def __init__(self, contents: Contents, file: Path | None = None, shown: Shown | None = None) -> None:
        self._files, self._bytes = len(contents.files), contents.nbytes
        self._files_done = self._bytes_done = 0
        self._begin = self._told = time.monotonic()
        self._lock = threading.Lock()
        self._file, self._shown = file, shown
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def add(self, nbytes: int) -> None:
        """So many more bytes are there; fewer, where some have to come again."""
        with self._lock:
            self._bytes_done += nbytes

    def done(self, item: Item) -> None:
        """One more file is whole."""
        with self._lock:
            self._files_done += 1

    @property
    def state(self) -> State:
        """How far it is now."""
        with self._lock:
            files, nbytes = self._files_done, self._bytes_done
        seconds = time.monotonic() - self._begin
        whole = files == self._files
        # what is stored compressed comes with more bytes than were listed
        percent = 100 if whole else min(99, 100 * nbytes // self._bytes if self._bytes else 100 * files // self._files)
        rate = round(nbytes / seconds) if seconds > 0 else 0
        return State(files, self._files, nbytes, self._bytes, round(seconds, 3), rate, max(0, percent))

    def __enter__(self) -> Progress:
        self._write(self.state)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._shown:
            self._shown.close()
        if error is None:
            state = self.state
            self._write(state)  # and stays: metrics say of it what it was
            self._log("fetched", state)
        elif self._file:
            self._file.unlink(missing_ok=True)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            self.tell()

    def tell(self) -> None:
        """Says it to whom it may concern; to the log, every few seconds."""
        state = self.state
        self._write(state)
        if self._shown:
            self._shown.show(state)
        elif time.monotonic() - self._told >= _PERIOD:
            self._told = time.monotonic()
            self._log("so far", state)

    def _log(self, word: str, state: State) -> None:
        log.info("%s: %s", word, state, extra={"figures": asdict(state)})

    def _write(self, state: State) -> None:
        """Readers see one state or the next. A disk that is full is the transfer's to complain of."""
        if self._file:
            beside = self._file.with_name(f"{self._file.name}.new")
            with contextlib.suppress(OSError):
                with open(beside, "wb", opener=_private) as file:
                    file.write(orjson.dumps(asdict(state)))
                os.replace(beside, self._file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def under_way(file: Path) -> State | None:
    """How far the fetch is that writes a file; None: none does, or not now."""
    found = _read(file)
    return found[0] if found and found[1] < _STALE and found[0].files_done < found[0].files else None


def last(file: Path) -> State | None:
    """The same, or how it ended; None: there was none, or it failed."""
    found = _read(file)
    return found[0] if found else None


def _read(file: Path) -> tuple[State, float] | None:
    """What a file says, and its age in seconds."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        # the temporary folder is everybody's: no pipe that one would wait at, no link, no end
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                return _state(orjson.loads(stream.read(_MOST_BYTES))), abs(time.time() - found.st_mtime)
    return None


def _state(given: object) -> State:
    """Raises TypeError where it is none."""
    if not isinstance(given, dict):
        raise TypeError("no object")
    state = State(**given)
    if not all(isinstance(getattr(state, field.name), int | float) for field in fields(State)):
        raise TypeError("no number")
    return state


def megabytes(nbytes: int) -> str:
    """A size for people."""
    return f"{nbytes / 1e6:.1f} MB" if nbytes >= 50_000 else f"{nbytes} bytes"
