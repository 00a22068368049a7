"""The servers as child processes: each with a log of its own, none outliving the run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from listener import process

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
#: Open files of a program and of all that it starts, for loads of many connections.
DESCRIPTORS = 8192
#: Seconds after SIGTERM: the listener drains, then Triton ends.
_PATIENCE = 30.0


class CellFailed(Exception):
    """A server could not be measured; the text is one sentence."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Ours without what configures a listener, so that everybody runs with the defaults, and with the project's root on
    the path of every Python, the stubs of Triton included."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LISTENER_", "AIP_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@contextlib.contextmanager
def running(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child process in a session of its own; at the end it is asked to stop, then what is left of it is killed."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield child
    finally:
        family = tree(child.pid)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()


def python(*arguments: str) -> list[str]:
    """The command line of a Python program in our own interpreter."""
    return [sys.executable, *arguments]


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    return [pid, *(inner for child in process.children(pid) for inner in tree(child))]


@contextlib.contextmanager
def looked_at(look: Callable[[], T], pause: float) -> Iterator[list[T]]:
    """Looks again and again while inside, in a thread; each look, the first of them at once.

    Args:
        look: what is seen.
        pause: seconds between two looks.
    """
    looks, over = [look()], threading.Event()

    def again() -> None:
        while not over.wait(pause):
            looks.append(look())

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()


def wait_until(condition: Callable[[], bool], child: subprocess.Popen[bytes], log: Path, patience: float) -> None:
    """Waits for a server.

    Raises:
        CellFailed: it ended, or `patience` seconds passed.
    """
    begin = time.monotonic()
    while not condition():
        if child.poll() is not None:
            raise CellFailed(f"it ended with status {child.returncode} at its start: {last_line(log)}")
        if time.monotonic() - begin > patience:
            raise CellFailed(f"it was not ready within {patience:g} s: {last_line(log)}")
        time.sleep(0.05)


def last_line(log: Path) -> str:
    """The end of a log, for an error's sentence."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:200]} ({log})" if lines else f"{log} is empty"
