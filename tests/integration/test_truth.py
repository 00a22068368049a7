"""Every answer is the answer to its own request: many callers at a time, some of them wrong, some of them leaving.

What comes back is compared with what numpy says for exactly that request, whose numbers no other one has.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from listener.process import children
from tests.integration import truth_service
from tests.integration.stack import SHM, Stack, command_line, descendants, running
from tests.integration.truth_service import MAKERS, SHARES, Case

pytestmark = pytest.mark.triton

MiB = 1 << 20
_CONNECTIONS = 64
_LEAVING = 0.05  # of the requests
_HANGING = 30.0  # seconds without an answer; Triton's restart takes less
_STOPPING = 10.0  # seconds; all requests have been answered
#: In the log, of a bug of ours.
_NEVER = ("unexpected failure", "a connection failed", "never retrieved", "InvalidStateError")


@dataclass
class Outage:
    """When Triton was away: from its death until health said 200 again."""

    begin: float = float("inf")
    end: float = float("inf")

    def touches(self, sent: float, answered: float) -> bool:
        return answered >= self.begin and sent <= self.end


@dataclass
class Tally:
    """What came back so far."""

    counts: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds

    def note(self, case: Case, status: int, answer: Any, outage: bool) -> None:
        if outage and status in (502, 503) and list(answer) == ["error"]:
            self.counts[f"{status} in the outage"] += 1
            return
        self.counts[f"{case.route} {status}"] += 1
        if mistake := case.mistake(status, answer):
            self.mistakes.append(mistake[:400])


class Callers:
    """Many callers of one stack.

    Args:
        stack: answers.
        seed: of all their requests.
    """

    def __init__(self, stack: Stack, seed: int) -> None:
        self._url = f"{stack.url}/predict"
        self._seeds = iter(np.random.SeedSequence(seed).spawn(_CONNECTIONS))
        self.outage, self.tally = Outage(), Tally()

    async def call(self, seconds: float) -> None:
        """Calls for that long."""
        end = time.monotonic() + seconds
        timeout = aiohttp.ClientTimeout(total=_HANGING)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
            for seed in self._seeds:
                group.create_task(self._caller(session, np.random.default_rng(seed), end))

    async def _caller(self, session: aiohttp.ClientSession, rng: np.random.Generator, end: float) -> None:
        while time.monotonic() < end and len(self.tally.mistakes) < 10:
            case = MAKERS[rng.choice(len(MAKERS), p=SHARES)](rng)
            if rng.random() < _LEAVING:
                await self._leave(session, case, rng.uniform(0, 0.05))
            else:
                await self._ask(session, case)

    async def _ask(self, session: aiohttp.ClientSession, case: Case) -> None:
        sent = time.monotonic()
        try:
            status, answer = await self._post(session, case)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tally.mistakes.append(f"{case.route}: no answer: {error!r}")
            return
        answered = time.monotonic()
        self.tally.slowest = max(self.tally.slowest, answered - sent)
        self.tally.note(case, status, answer, self.outage.touches(sent, answered))

    async def _leave(self, session: aiohttp.ClientSession, case: Case, patience: float) -> None:
        """Closes the connection before the answer, most times."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._ask(session, case)
                return
        self.tally.counts["left"] += 1

    async def _post(self, session: aiohttp.ClientSession, case: Case) -> tuple[int, Any]:
        headers = {"Content-Type": "application/octet-stream" if case.raw else "application/json"}
        async with session.post(self._url, data=io.BytesIO(case.body), headers=headers) as answer:
            return answer.status, await answer.json()


class Footprint:
    """What a stack holds, in bytes: its workers' memory, and shared memory of all its processes."""

    def __init__(self, stack: Stack) -> None:
        workers = [pid for pid in children(stack.process.pid) if "tritonserver" not in command_line(pid)]
        self.resident = sum(map(_resident, workers))
        mapped = set[str]().union(*map(_mapped, descendants(stack.process.pid)))
        self.shared = sum(path.stat().st_blocks * 512 for path in SHM.iterdir() if path.name in mapped)

    def grew_beyond(self, earlier: Footprint, room: int) -> bool:
        return self.resident > earlier.resident + room or self.shared > earlier.shared + room


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _mapped(pid: int) -> set[str]:
    """Names of the regions that a process has mapped."""
    try:
        return set(re.findall(r"/dev/shm/(listener-py-\S+)", Path(f"/proc/{pid}/maps").read_text()))
    except OSError:  # it has just ended
        return set()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Stack]:
    with running(folder / "log", service=truth_service.write(folder), LISTENER_TRITON_LOG_LEVEL="error") as stack:
        stack.until(200)
        yield stack


async def check(stack: Stack, callers: Callers, seconds: float) -> None:
    """Calls, and looks at what came back and at what is left afterwards."""
    calling = asyncio.create_task(callers.call(seconds))
    await asyncio.sleep(seconds / 2)
    half = Footprint(stack)
    await calling
    tally = callers.tally
    print(f"{tally.counts.total()} requests, slowest {tally.slowest:.2f} s: {dict(sorted(tally.counts.items()))}")
    assert not tally.mistakes, "\n".join(tally.mistakes)
    await asyncio.to_thread(stack.until, 200, 5.0)
    end = Footprint(stack)
    print(vars(half), vars(end))
    assert 4 * MiB <= end.shared
    assert not end.grew_beyond(half, 128 * MiB), (vars(half), vars(end))
    assert await asyncio.to_thread(stack.stop, patience=_STOPPING) == 0
    assert not [line for line in stack.output().splitlines() if any(word in line for word in _NEVER)]


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.long)])
async def test_every_answer_is_that_of_its_own_request(tmp_path: Path, seconds: float) -> None:
    with served(tmp_path) as stack:
        callers = Callers(stack, seed=int(seconds))
        await check(stack, callers, seconds)
        assert callers.tally.counts.total() > 20 * seconds


@pytest.mark.long
async def test_no_answer_is_wrong_though_triton_dies(tmp_path: Path) -> None:
    """Only 502 and 503 while it is away, and the right answers again afterwards."""
    with served(tmp_path) as stack:
        callers = Callers(stack, seed=9)

        async def die() -> None:
            await asyncio.sleep(10)
            callers.outage.begin = time.monotonic()
            os.kill(stack.triton_pid(), signal.SIGKILL)
            await asyncio.to_thread(stack.until, 503, 3.0)
            await asyncio.to_thread(stack.until, 200, 60.0)
            callers.outage.end = time.monotonic()

        dying = asyncio.create_task(die())
        await check(stack, callers, 40.0)
        await dying
        counts = callers.tally.counts
        assert counts["503 in the outage"] > 0
        assert time.monotonic() > callers.outage.end + 5
