"""Child processes that neither outlive nor outrun their parent.

A child runs in a session of its own, so that a terminal's Ctrl-C reaches the parent alone and the stop has an order. It
dies with its parent, even when that is killed (Linux: PR_SET_PDEATHSIG). Its output is read line by line.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

#: The number of the inherited listening socket, in a worker's environment.
SOCKET_VARIABLE = "LISTENER_WORKER_SOCKET"
#: Likewise of the metrics' socket; not set where there is none.
METRICS_SOCKET_VARIABLE = "LISTENER_WORKER_METRICS_SOCKET"
#: Likewise of the memory in which all workers count (`metrics/segment.py`).
SEGMENT_VARIABLE = "LISTENER_WORKER_SEGMENT"
#: Set for a worker that comes in the place of one that died while another answers: it opens when it is ready.
LATE_VARIABLE = "LISTENER_WORKER_LATE"
#: Seconds from its start after which such a worker opens, ready or not.
OPENS_AFTER = 30.0
#: From the parent to a worker: everything stops. SIGTERM, from whomever, means this worker alone.
STOP_ALL = signal.SIGUSR1
#: In the environment of all that `listener init` starts: a private folder of its own (init.py).
INIT_FOLDER = "LISTENER_INIT_FOLDER"
#: A file in it: a program is beyond help.
INIT_MARK = "failed"
#: Exit status of a child that is set up wrongly: starting it again would not help (sysexits.h, EX_CONFIG).
EX_CONFIG = 78
#: Seconds after which a child that cannot be asked whether it is ready counts as ready.
STARTED_AFTER = 10.0

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """A running child process and all that it started.

    Attributes:
        name: for log lines.
        pid: its process id, which is its process group's as well.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, pump: asyncio.Task[None] | None) -> None:
        self.name, self.pid = name, process.pid
        self._process, self._pump = process, pump

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Waits for the end, then kills what the child left behind in its group.

        Returns:
            The exit status as a shell gives it: 128 + n for a death by signal n.
        """
        status = await self._process.wait()
        self._kill_group()
        if self._pump:
            _, late = await asyncio.wait({self._pump}, timeout=2)
            for pump in late:
                pump.cancel()
        return 128 - status if status < 0 else status

    def send(self, number: int) -> None:
        """Sends a signal; a child that has ended already is left in peace."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the child and all that it started; one that has ended already is left in peace."""
        if self.running:
            self._kill_group()

    async def stop(self, patience: float, number: int = signal.SIGTERM) -> int:
        """A signal, and SIGKILL to the whole group once `patience` seconds have passed. Returns as `wait` does."""
        self.send(number)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self.wait())), patience)
        except TimeoutError:
            self._kill_group()
            return await self.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


async def start(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
    pass_fds: Iterable[int] = (),
) -> Child:
    """Starts a child.

    Args:
        name: for log lines.
        argv: the program and its arguments.
        env: its whole environment.
        on_line: receives each line of its stdout and stderr; None lets it write to ours.
        pass_fds: file descriptors that it inherits under their numbers.

    Raises:
        OSError: the program cannot be started.
    """
    # a pipe of our own: with one of asyncio's, Process.wait() returns only when all heirs of the pipe are gone as well
    # (https://github.com/python/cpython/issues/119710), and their end is what our wait() has yet to bring about
    ours, theirs = os.pipe() if on_line else (None, None)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
            pass_fds=tuple(pass_fds),
        )
    except BaseException:
        if ours is not None:
            os.close(ours)
        raise
    finally:
        if theirs is not None:
            os.close(theirs)
    pump = asyncio.create_task(_pump(ours, on_line)) if ours is not None and on_line else None
    return Child(name, process, pump)


def children(pid: int) -> list[int]:
    """The process ids of a process's direct children; none where there is no /proc or the process has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # not glob: on Python 3.11 it fails on a folder that vanishes while it looks
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread ended in the meantime
                found += map(int, (task / "children").read_text().split())
    return found


async def first_end(pids: Iterable[int]) -> None:
    """Returns when the first of some processes, which need not be our children, has ended. Never, if there is none."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            stack.callback(os.close, descriptor)
            loop.add_reader(descriptor, ended.set)
            stack.callback(loop.remove_reader, descriptor)
        await ended.wait()


def die_with(parent: int) -> Callable[[], None] | None:
    """What the child does between fork and exec. SIGTERM rather than SIGKILL: Triton then unlinks its shared memory."""
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before prctl took effect
            os._exit(1)

    return ask


def adopt_orphans() -> None:
    """From now on what our descendants leave behind becomes our child, as it does with PID 1."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


async def _pump(pipe: int, on_line: Callable[[str], None]) -> None:
    """Hands over line by line; a line longer than the reader's limit comes in pieces, never as an error."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        piece = False
        while line := await _line_or_piece(stream):
            if line != b"\n" or not piece:  # the break after the last piece of a long line is no line of its own
                on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
            piece = not line.endswith(b"\n")
    finally:
        transport.close()


async def _line_or_piece(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as long:
        return await stream.readexactly(long.consumed)


class Backoff:
    """How long to wait before a child is started again, and when to give up.

    Delays go 1, 2, 4 ... `longest` s and begin anew once a start became ready. `limit` starts in a row that never
    became ready mean that it will not work, however long each of them took.
    """

    def __init__(self, longest: float = 30.0, limit: int = 5) -> None:
        self.limit = limit
        self._longest = longest
        self._failed = 0
        self._delay = 1.0

    def after_exit(self, was_ready: bool) -> float | None:
        """Seconds to wait before the next start, or None to give up.

        Args:
            was_ready: the start had become ready before this exit.
        """
        if was_ready:
            self._failed, self._delay = 0, 1.0
        else:
            self._failed += 1
            if self._failed >= self.limit:
                return None
        delay, self._delay = self._delay, min(self._delay * 2, self._longest)
        return delay


def allow_descriptors(wanted: int) -> None:
    """So many open files, or as many as the system lets us, for this process and all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
