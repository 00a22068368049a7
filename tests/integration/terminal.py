"""A program at a terminal of its own, typed at and read like a person would."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.integration.stack import descendants, wait_for

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A running program whose terminal we hold.

    Attributes:
        pid: of the program.
        text: what it wrote so far, without colours and carriage returns.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.text = ""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(argv[0], list(argv), dict(env))
        threading.Thread(target=self._read, daemon=True).start()

    def press(self, keys: str) -> None:
        """Types: '\\x03' is Ctrl-C, which the terminal sends to the whole foreground group."""
        os.write(self._descriptor, keys.encode())

    def until(self, wanted: str, patience: float = 90.0) -> None:
        """Waits until a text stands on the screen."""
        wait_for(lambda: wanted in self.text, patience, lambda: self.text)

    def wait(self) -> int:
        """The exit status; negative for a death by a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end closed
            while chunk := os.read(self._descriptor, 4096):
                self.text += _ESCAPES.sub("", chunk.decode(errors="replace").replace("\r", ""))


@contextlib.contextmanager
def terminal(argv: Sequence[str], env: Mapping[str, str], folder: Path) -> Iterator[Terminal]:
    """A program that is gone afterwards, with all that it started."""
    opened = Terminal(argv, env, folder)
    family = set[int]()
    try:
        yield opened
        family = descendants(opened.pid)
    finally:
        for pid in {opened.pid} | family | descendants(opened.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
