"""A kept child: restarted, given up, replaced. The children are real small processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

import pytest

from listener import process
from listener.errors import ConfigError
from listener.kept import GaveUp, Kept
from listener.process import Child

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


class Starts:
    """Starts the scripts of a list one after the other, the last again and again; None cannot be started."""

    def __init__(self, *scripts: str | None, patient: bool = True) -> None:
        self.scripts = list(scripts)
        self.children: list[Child] = []
        self.retired: list[Child] = []
        self.kept = Kept("worker-0", self._begin, self._watch, self._retire, patient)

    async def _begin(self) -> Child:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if script is None:
            raise ConfigError("the first mistake", "the second one")
        child = await process.start("sh", ["sh", "-c", script], ENV)
        self.children.append(child)
        return child

    async def _watch(self, child: Child, is_ready: Callable[[], None]) -> None:
        is_ready()

    async def _retire(self, child: Child) -> None:
        self.retired.append(child)
        await child.stop(5)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(starts: Starts) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(starts.kept.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for child in starts.children:
            child.kill()
            await child.wait()


async def test_a_renewed_child_is_retired_and_another_one_begins() -> None:
    starts = Starts("sleep 60")
    async with running(starts):
        await starts.kept.begun.wait()
        starts.kept.renew()
        assert not starts.kept.begun.is_set()
        await asyncio.wait_for(starts.kept.begun.wait(), 5)
        first, second = starts.children
        assert starts.retired == [first]
        assert second.running
        assert not first.running


async def test_renewals_while_it_is_being_started_are_one() -> None:
    starts = Starts("sleep 60")
    async with running(starts):
        await starts.kept.begun.wait()
        for _ in range(5):
            starts.kept.renew()
        await asyncio.wait_for(starts.kept.ready.wait(), 5)
        await asyncio.sleep(0.1)
        assert len(starts.children) == 2


async def test_a_patient_one_waits_for_a_change_where_it_cannot_be_started(caplog: pytest.LogCaptureFixture) -> None:
    starts = Starts(None, "sleep 60")
    async with running(starts):
        await starts.until(lambda: starts.kept.waiting)
        assert [record.message for record in caplog.records] == ["the first mistake", "the second one"]
        starts.kept.renew()
        await asyncio.wait_for(starts.kept.begun.wait(), 5)
        assert not starts.kept.waiting


async def test_a_patient_one_waits_for_a_change_where_it_is_set_up_wrongly() -> None:
    starts = Starts("exit 78", "sleep 60")
    async with running(starts):
        await starts.until(lambda: starts.kept.waiting)
        starts.kept.renew()
        await starts.until(lambda: len(starts.children) == 2)


async def test_a_change_does_not_wait_for_the_delay_after_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.Backoff, "after_exit", lambda *_: 600.0)
    starts = Starts("exit 1", "sleep 60")
    async with running(starts):
        await starts.until(lambda: bool(starts.children) and not starts.children[0].running)
        starts.kept.renew()
        await starts.until(lambda: len(starts.children) == 2)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [("exit 78", "worker-0 cannot start as it is set up; its own message says why"), (None, "the first mistake")],
)
async def test_others_give_up(script: str | None, sentence: str) -> None:
    starts = Starts(script, patient=False)
    async with running(starts) as task:
        with pytest.raises(GaveUp, match=sentence):
            await asyncio.wait_for(asyncio.shield(task), 5)
