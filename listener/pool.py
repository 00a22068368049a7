"""Threads for work that must not hold the event loop: plain `def` hooks. A thread that hangs is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import itertools
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from listener.offload import ASIDE, Processes

log = logging.getLogger("listener.pool")
T = TypeVar("T")

#: Jobs that run on although nobody waits for them any more, and whose threads have been replaced.
_MOST_GIVEN_UP = 64
#: Seconds that such a job may take to end before its thread is replaced, and the log says so.
_PATIENCE = 1.0


class _State(enum.Enum):
    WAITING = 1
    RUNNING = 2
    GIVEN_UP = 3
    DONE = 4


class _Job:
    """One call and the future that waits for it. Its state is changed under the pool's lock alone."""

    __slots__ = ("call", "future", "loop", "state")

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.call, self.loop, self.future = call, loop, loop.create_future()
        self.state = _State.WAITING

    def answer(self, result: Any, error: BaseException | None) -> None:
        """Tells the loop, from a thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # a future takes any exception but this one
            self.future.set_exception(RuntimeError(f"it raised {error!r}"))
        else:
            self.future.set_exception(error)


class Pool:
    """Threads behind one `run`. They are daemons: no hook that hangs keeps the process from ending.

    Args:
        threads: how many work at a time; mirrors have as many of their own.
        processes: how many there are for handlers with `offload: process`; they start when one is needed.
        name: of the threads.

    Attributes:
        processes: those.
        busy: threads in which a hook runs.
    """

    def __init__(self, threads: int, processes: int = 1, name: str = "handler") -> None:
        self._limit, self._name = threads, name
        self._aside: Pool | None = None  # for mirrors
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._given_up = self.busy = 0
        self._closed = False
        self._numbers = itertools.count()
        self.processes = Processes(processes)

    @property
    def idle(self) -> int:
        """Threads in which none does."""
        return max(0, self._threads + self._given_up - self.busy)

    @property
    def waiting(self) -> int:
        """Hooks for which there is no thread yet."""
        return self._jobs.qsize()

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result, or what it raised, computed in a thread that sees this task's context variables.

        Who is cancelled while the function runs leaves it running; if it goes on, its thread soon no longer counts.

        Raises:
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("no more work after the pool's shutdown")
        if ASIDE.get():
            self._aside = self._aside or Pool(self._limit, name=f"{self._name}_aside")
            return await self._aside._run(function)
        return await self._run(function)

    async def _run(self, function: Callable[[], T]) -> T:
        job = _Job(_in_context(function), asyncio.get_running_loop())
        self._jobs.put(job)
        if self._threads < self._limit:
            self._start_thread()
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            self._give_up(job)
            raise
        return result

    def close(self) -> None:
        """Takes no more work and drops what has not begun; what runs is left to end by itself."""
        self._closed = True
        self.processes.close()
        if self._aside:
            self._aside.close()
        with contextlib.suppress(Empty):
            while True:
                if job := self._jobs.get_nowait():
                    job.future.cancel()
        for _ in range(self._threads + self._given_up):
            self._jobs.put(None)

    def _start_thread(self) -> None:
        with self._lock:
            self._threads += 1
        name = f"{self._name}_{next(self._numbers)}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _give_up(self, job: _Job) -> None:
        """What has not begun does not begin; what runs is given a moment to end before its thread is replaced.

        At once would be too much of a good thing: callers that leave a long computation would leave as many threads.
        """
        with self._lock:
            if job.state is _State.WAITING:
                job.state = _State.DONE
            runs = job.state is _State.RUNNING
        if runs:
            job.loop.call_later(_PATIENCE, self._replace, job)

    def _replace(self, job: _Job) -> None:
        with self._lock:
            if job.state is not _State.RUNNING or self._closed:
                return
            replaces = self._given_up < _MOST_GIVEN_UP
            if replaces:
                job.state = _State.GIVEN_UP
                self._given_up += 1
                self._threads -= 1
            count = self._given_up
        if not replaces:
            log.warning("a hook runs on and keeps its thread: %d have been replaced already", count)
            return
        self._start_thread()
        log.warning("a hook runs on although nobody waits for it; its thread was replaced; there are %d", count)

    def _work(self) -> None:
        while job := self._jobs.get():
            with self._lock:
                if job.state is not _State.WAITING:
                    continue
                job.state = _State.RUNNING
                self.busy += 1
            result, error = None, None
            try:
                result = job.call()
            except BaseException as raised:  # whoever waits for it has to know what to do with it
                error = raised
            with self._lock:
                replaced = job.state is _State.GIVEN_UP
                job.state = _State.DONE
                self.busy -= 1
                if replaced:
                    self._given_up -= 1
            if replaced:
                return
            job.answer(result, error)
            del job, result, error  # so that nothing of a request lives on while the thread waits


def _in_context(function: Callable[[], T]) -> Callable[[], T]:
    context = contextvars.copy_context()
    return lambda: context.run(function)
