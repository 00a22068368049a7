"""Threads for what must not hold the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from listener.offload import ASIDE
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are replaced soon."""
    monkeypatch.setattr("listener.pool._PATIENCE", 0.01)


async def until_threads(name: str, count: int) -> None:
    async with asyncio.timeout(5):
        while count_threads(name) != count:
            await asyncio.sleep(0.01)


async def give_up_one(pool: Pool, release: threading.Event) -> None:
    """Has a job begin that ends with `release`, and leaves it."""
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(30)

    waiting = asyncio.create_task(pool.run(hang))
    await asyncio.to_thread(begun.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.usefixtures("impatient")
async def test_jobs_that_hang_and_that_nobody_waits_for_do_not_use_the_pool_up(pool: Pool) -> None:
    release = threading.Event()
    try:
        for _ in range(10):
            await give_up_one(pool, release)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(pool.run(lambda n=n: n) for n in range(4))) == [0, 1, 2, 3]  # type: ignore[misc]
    finally:
        release.set()


async def test_a_job_that_hangs_is_told_of_with_the_number_of_them(
    pool: Pool, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    release = threading.Event()
    try:
        await give_up_one(pool, release)
        await give_up_one(pool, release)
        await asyncio.sleep(0.1)
    finally:
        release.set()
    assert "a hook runs on although nobody waits for it; its thread was replaced; there are 2" in caplog.text


async def test_a_thread_whose_job_ends_soon_after_is_not_replaced(caplog: pytest.LogCaptureFixture) -> None:
    pool, release = Pool(1, name="kept"), threading.Event()
    await give_up_one(pool, release)
    next_one = asyncio.create_task(pool.run(lambda: "served"))
    await asyncio.sleep(0.05)
    assert count_threads("kept") == 1
    release.set()
    assert await next_one == "served"
    await asyncio.sleep(1.1)
    assert (count_threads("kept"), caplog.text) == (1, "")
    pool.close()


@pytest.mark.usefixtures("impatient")
async def test_a_thread_that_was_replaced_ends_when_its_job_does() -> None:
    pool, release = Pool(1, name="counted"), threading.Event()
    for _ in range(5):
        await give_up_one(pool, release)
    await until_threads("counted", 6)
    release.set()
    await until_threads("counted", 1)
    assert await pool.run(lambda: 5) == 5
    pool.close()


@pytest.mark.usefixtures("impatient")
async def test_only_so_many_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.pool._MOST_GIVEN_UP", 2)
    pool, release = Pool(1, name="bounded"), threading.Event()
    for _ in range(3):
        await give_up_one(pool, release)
    await until_threads("bounded", 3)
    next_one = asyncio.create_task(pool.run(lambda: "served"))
    await asyncio.sleep(0.05)
    assert not next_one.done()  # no thread is left
    release.set()
    assert await next_one == "served"
    pool.close()


async def test_mirrors_have_threads_of_their_own() -> None:
    pool, release = Pool(1), threading.Event()

    async def mirror() -> None:
        ASIDE.set(True)
        await pool.run(lambda: release.wait(5))

    mirrors = [asyncio.create_task(mirror()) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(pool.run(lambda: 5), 1) == 5
    release.set()
    await asyncio.gather(*mirrors)
    pool.close()


async def test_a_job_that_was_left_before_it_began_never_runs() -> None:
    pool, release, ran = Pool(1), threading.Event(), []
    first = asyncio.create_task(pool.run(lambda: release.wait(5)))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.run(lambda: ran.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await first
    await pool.run(lambda: ran.append(3))
    assert ran == [3]
    pool.close()


def count_threads(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())
