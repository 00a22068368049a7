"""Threads for what must not hold the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from listener.pool import Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(2)
    yield made
    made.close()


async def test_a_result_comes_back_from_a_thread_of_the_pool(pool: Pool) -> None:
    name = await pool.run(lambda: threading.current_thread().name)
    assert name.startswith("handler")


async def test_what_is_raised_comes_back_as_it_is(pool: Pool) -> None:
    error = KeyError("x")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await pool.run(fail)
    assert caught.value is error


async def test_as_many_run_side_by_side_as_there_are_threads(pool: Pool) -> None:
    meeting = threading.Barrier(2)
    places = await asyncio.gather(pool.run(lambda: meeting.wait(5)), pool.run(lambda: meeting.wait(5)))
    assert sorted(places) == [0, 1]


async def test_a_thread_sees_the_context_of_its_caller_and_cannot_change_it(pool: Pool) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    async def ask(value: str) -> tuple[str, str]:
        variable.set(value)
        return await pool.run(change), variable.get()

    assert await asyncio.gather(*(asyncio.create_task(ask(value)) for value in "ab")) == [("a", "a"), ("b", "b")]


async def test_the_event_loop_goes_on_meanwhile(pool: Pool) -> None:
    release = threading.Event()
    running = asyncio.create_task(pool.run(lambda: release.wait(5)))
    await asyncio.sleep(0)
    assert not running.done()
    release.set()
    assert await running is True


async def test_a_closed_pool_drops_what_has_not_begun_and_takes_no_more() -> None:
    pool = Pool(1)
    begun, release = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        release.wait(5)
        return "done"

    running = asyncio.create_task(pool.run(work))
    waiting = asyncio.create_task(pool.run(lambda: "never"))
    await asyncio.to_thread(begun.wait, 5)
    pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await running == "done"
    with pytest.raises(RuntimeError, match="shutdown"):
        await pool.run(lambda: None)
