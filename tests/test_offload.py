"""Processes for hooks: who leaves has its own call ended, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from listener.offload import Processes

#: Seconds in which a process has answered.
ANSWERED = 0.5


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """One, which has started."""
    processes = Processes(1)
    await processes.run(os.getpid)
    yield processes
    processes.close()


async def leave(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_who_leaves_has_the_call_ended(processes: Processes) -> None:
    before = await processes.run(os.getpid)
    begin = time.monotonic()
    call = asyncio.create_task(processes.run(time.sleep, 30))
    await asyncio.sleep(0.1)
    await leave(call)
    assert await processes.run(os.getpid) != before
    assert time.monotonic() - begin < 10


async def test_the_next_one_starts_warm_after_one_that_was_ended(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is not taken for the call that nobody wanted."""
    started = list[object]()
    plain = subprocess.Popen

    def counted(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        started.append(args)
        return plain(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", counted)
    call = asyncio.create_task(processes.run(time.sleep, 30))
    await asyncio.sleep(0.1)
    await leave(call)
    assert await processes.run(operator.add, 1, 2) == 3
    assert len(started) == 1


async def test_an_answer_that_was_there_when_its_caller_left_costs_nobody_the_process(processes: Processes) -> None:
    """As when a worker that was stopped goes on: answers lie there, and times are up."""
    before = await processes.run(os.getpid)
    call = asyncio.create_task(processes.run(operator.add, 1, 2))
    await asyncio.sleep(0)  # it is on its way
    time.sleep(ANSWERED)  # noqa: ASYNC251  # the loop stands still meanwhile
    await leave(call)
    assert await processes.run(os.getpid) == before


async def test_a_process_that_was_told_to_end_gets_no_more_calls(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers in the moment before its end."""
    plain = subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: threading.Timer(ANSWERED, plain, [self]).start())
    call = asyncio.create_task(processes.run(time.sleep, 0.2))
    await asyncio.sleep(0.1)
    await leave(call)
    await asyncio.sleep(0.2)  # its answer is there
    assert await processes.run(time.sleep, 2 * ANSWERED) is None
