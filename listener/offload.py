"""Processes for work that would hold the interpreter's lock. One that dies fails its own call alone and is replaced.

Each has a socket of its own, so that one that is killed in the middle of an answer spoils nobody else's
(docs/adr/0006-hooks-run-in-threads.md). It ends when the other end of the socket is closed, by whatever death.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from contextvars import ContextVar
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from listener import observe, settings

log = logging.getLogger("listener.offload")

#: Whether a task works for a mirror, for which nobody waits. It has threads and processes of its own, so that what
#: hangs there takes none from answers.
ASIDE: ContextVar[bool] = ContextVar("aside", default=False)

#: Seconds that a process may take to end by itself once nobody listens to it.
_GRACE = 2.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from listener.offload import main; main({fd})"


class Died(Exception):
    """The process ended in the middle of a call, or could not start.

    Args:
        status: its exit status; negative = the signal that ended it.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"its process ended with {_said(status)}")
        self.status = status


class CannotTravel(Exception):
    """The result of a call cannot be pickled."""


class _There(Exception):
    """The trace of an error in another process, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Carried:
    """An error on its way between processes, with its trace, which pickle would lose. It arrives as the error."""

    def __init__(self, error: BaseException) -> None:
        self._trace = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
            self._error = error
        except Exception:  # such as one whose constructor takes other arguments than it hands on
            self._error = RuntimeError(f"{type(error).__name__}: {error}")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrived, (self._error, self._trace)


def _arrived(error: BaseException, trace: str) -> BaseException:
    error.__cause__ = _There(trace)
    return error


class Processes:
    """A number of processes that call functions. They start with the first call.

    Args:
        count: how many.

    Attributes:
        count: likewise.
        first: functions that each process calls when it starts, as a warming up; what they raise counts for nothing.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.first: list[Callable[[], Any]] = []
        self._all: list[_Process] = []
        self._idle: asyncio.Queue[_Process] = asyncio.LifoQueue()  # the one that is warm
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._aside: Processes | None = None  # those of mirrors

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result, or what it raised. Who is cancelled meanwhile has the process killed.

        Args:
            function: one that can be imported by its name there.
            args: whatever can be pickled.

        Raises:
            Died: the process did.
            CannotTravel: the result.
        """
        if ASIDE.get():
            return await self._others()._run(function, *args)
        return await self._run(function, *args)

    def _others(self) -> Processes:
        if self._aside is None:
            self._aside = Processes(self.count)
            self._aside.first = self.first
        return self._aside

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        if not self._all:
            self._all = [_Process(self.first) for _ in range(self.count)]
            for process in self._all:
                self._start(process)
        process = await self._idle.get()
        call = asyncio.wrap_future(_in_thread(partial(process.ask, function, args)))
        call.add_done_callback(lambda done: self._back(process, done))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if not call.done():  # else it has answered, and may be somebody else's already
                process.kill()
            raise

    def close(self) -> None:
        """Ends them: those that work at once, the others by themselves."""
        self._closed = True
        if self._aside:
            self._aside.close()
        for task in self._tasks:
            task.cancel()
        while not self._idle.empty():
            process = self._idle.get_nowait()
            self._all.remove(process)
            process.hang_up()
        for process in self._all:
            process.kill()

    def _start(self, process: _Process) -> None:
        process.unwanted = False
        task = asyncio.create_task(self._started(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _started(self, process: _Process) -> None:
        with contextlib.suppress(Died, OSError):  # whoever asks it tries once more, and is told
            await asyncio.wrap_future(_in_thread(process.start))
        self._idle.put_nowait(process)

    def _back(self, process: _Process, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # has been looked at, even if its caller has left
        if self._closed:
            process.hang_up()
        elif process.alive and not process.unwanted:  # one that was killed may be alive for a moment yet
            self._idle.put_nowait(process)
        else:
            self._start(process)


class _Process:
    """One of them: started when it has to be, and asked one thing at a time, from threads.

    Attributes:
        unwanted: it was killed, as nobody waits for the answer; until it is started again.
    """

    def __init__(self, first: list[Callable[[], Any]]) -> None:
        self.unwanted = False
        self._first = first
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it, and returns when it is warm."""
        self.hang_up()
        ours, its = socket.socketpair()
        with its:
            program = _PROGRAM.format(path=sys.path, fd=its.fileno())
            self._connection = Connection(ours.detach())
            argv = [sys.executable, "-c", program]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()])
        self._answer(_warm, (list(self._first),))

    def ask(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What the function returns there; raises what it raises."""
        if not self.alive:
            self.start()
        return self._answer(function, args)

    def kill(self) -> None:
        """Ends it, and so the call that it works at."""
        self.unwanted = True
        if self._process:
            self._process.kill()
            _in_thread(self._process.wait)  # or else it would stay as a zombie

    def hang_up(self) -> None:
        """Lets it end by itself."""
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._process:
            _in_thread(self._process.wait)

    def _answer(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        process, connection = self._process, self._connection
        assert process is not None and connection is not None
        request = pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)
        if self.unwanted:  # before there was anything to kill
            process.kill()
        try:
            connection.send_bytes(request)
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            process.kill()
            raise Died(process.wait()) from None
        succeeded, result = pickle.loads(answer)
        if not succeeded:
            raise result
        return result


def _in_thread(function: Callable[[], Any]) -> ThreadFuture[Any]:
    """In a thread of its own, which ends at the latest with the process that it talks to."""
    future: ThreadFuture[Any] = ThreadFuture()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="offload", daemon=True).start()
    return future


def _said(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"exit code {status} ({signal.Signals(-status).name})"
    return f"exit code {status}"


# In the process


def main(fd: int) -> None:
    """Calls what it is asked to until the other end is closed.

    Args:
        fd: its end of the socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the parent, which decides the order
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    connection = Connection(fd)
    requests: SimpleQueue[bytes | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    while (request := requests.get()) is not None:
        answer = _answer_to(request)
        try:
            connection.send_bytes(answer)
        except OSError:
            break


def _receive(connection: Connection, requests: SimpleQueue[bytes | None]) -> None:
    """In a thread, so that the other end's death is noticed while a hook runs."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.put(connection.recv_bytes())
    requests.put(None)
    time.sleep(_GRACE)
    os._exit(1)


def _answer_to(request: bytes) -> bytes:
    try:
        function, args = pickle.loads(request)
        answer = True, function(*args)
    except BaseException as error:
        return pickle.dumps((False, Carried(error)))
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # pickle raises whatever an object's own methods do
        return pickle.dumps((False, CannotTravel(f"the result cannot be pickled: {type(error).__name__}: {error}")))


def _warm(functions: list[Callable[[], Any]]) -> None:
    for function in functions:
        with contextlib.suppress(Exception, SystemExit):
            function()
