"""Where a handler's hooks run: on the loop, in threads, in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from listener import importing, loader
from listener.call import Call, Context, Reply
from listener.errors import ConfigError, HandlerFailed, InstanceError, ListenerError
from listener.handler import Handler
from listener.hooks import Pace
from listener.pool import Pool
from listener.service import Route, Service
from listener.testing import FakeModel, FakeTriton
from tests.integration.stack import Stack, free_port
from tests.test_handler import FakeModel as Model
from tests.test_handler import doubled


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool(2, processes=2)
    yield made
    made.close()


# On the loop while they are short


class Clock:
    """Time goes by when work says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], bool]:
        """Work of that length; it says whether it ran on the main thread, which has the loop."""

        def work() -> bool:
            self.now += seconds
            return threading.current_thread() is threading.main_thread()

        return work


async def test_the_first_call_is_measured_in_a_thread_and_short_ones_follow_on_the_loop(pool: Pool) -> None:
    clock = Clock()
    pace = Pace("h", clock=clock)
    assert [await pace.run(clock.work(0.00001), 1, pool) for _ in range(3)] == [False, True, True]


async def test_many_items_of_short_work_are_long(pool: Pool) -> None:
    clock = Clock()
    pace = Pace("h", clock=clock)
    await pace.run(clock.work(0.00001), 1, pool)
    assert [pace.is_short(items) for items in (1, 29, 31)] == [True, True, False]


async def test_long_work_stays_in_threads(pool: Pool) -> None:
    clock = Clock()
    pace = Pace("h", clock=clock)
    assert not any([await pace.run(clock.work(0.002), 1, pool) for _ in range(5)])


async def test_a_cold_first_call_is_forgotten(pool: Pool) -> None:
    clock = Clock()
    pace = Pace("h", clock=clock)
    await pace.run(clock.work(0.1), 1, pool)
    places = [await pace.run(clock.work(0.00001), 1, pool) for _ in range(12)]
    assert not places[0]
    assert places[-1]


async def test_one_that_is_somewhat_long_on_the_loop_goes_to_threads_until_it_is_short_again(pool: Pool) -> None:
    clock = Clock()
    pace = Pace("h", clock=clock)
    await pace.run(clock.work(0.00001), 1, pool)
    assert await pace.run(clock.work(0.002), 1, pool)
    assert not await pace.run(clock.work(0.00001), 1, pool)
    assert [await pace.run(clock.work(0.00001), 1, pool) for _ in range(6)][-1]


async def test_one_that_is_far_too_long_on_the_loop_never_comes_back(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "listener.handler")
    clock = Clock()
    pace = Pace("preprocess of 'r'", clock=clock)
    await pace.run(clock.work(0.00001), 1, pool)
    assert await pace.run(clock.work(0.006), 1, pool)
    assert not any([await pace.run(clock.work(0.00001), 1, pool) for _ in range(30)])
    assert [record.getMessage() for record in caplog.records] == [
        "preprocess of 'r' took 6.0 ms on the event loop; from now on it runs in threads"
    ]


@pytest.mark.parametrize(("place", "on_the_loop"), [("inline", True), ("thread", False)])
async def test_a_place_that_is_said_counts(pool: Pool, place: str, on_the_loop: bool) -> None:
    clock = Clock()
    pace = Pace("h", place, clock)
    assert [await pace.run(clock.work(t), 1, pool) for t in (1e-5, 0.1, 1e-5)] == [on_the_loop] * 3


async def test_an_unknown_place_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="offload is 'gpu'; it has to be thread, process or inline"):
        Handler().bind("r", "m", {}, pool, "gpu")


async def test_work_on_the_loop_that_fails_says_so(pool: Pool) -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        await Pace("h", "inline").run(fail, 1, pool)


# A plain predict, and async load and close


async def test_a_plain_predict_runs_in_a_thread(pool: Pool) -> None:
    class Mine(Handler):
        def predict(self, call: Call) -> Reply:  # type: ignore[override]
            return Reply([threading.current_thread().name.partition("_")[0]] * len(call.instances))

    handler = Mine()
    handler.bind("r", "m", {}, pool)
    made: Any = handler.predict(Call([1, 2]))
    assert await made == Reply(["handler", "handler"])


async def test_a_plain_predict_that_interrupts_fails_like_any_other(pool: Pool) -> None:
    class Mine(Handler):
        def predict(self, call: Call) -> Reply:  # type: ignore[override]
            raise KeyboardInterrupt

    handler = Mine()
    handler.bind("r", "m", {}, pool)
    made: Any = handler.predict(Call([1]))
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        await made


def a_service(folder: Path, source: str) -> tuple[Service, Route]:
    """A service whose only handler is `mine:Mine`; each folder's is another module."""
    name = f"mine_{abs(hash(folder))}"
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    route = Route("r", f"{name}:Mine", "m")
    return Service(folder, folder, "r", {"r": route}), route


async def loaded(folder: Path, pool: Pool, source: str, offload: str = "") -> Handler:
    service, route = a_service(folder, source)
    return await loader.load(
        service, route, importing.handler_class(service, route), {"m": Model(doubled)}, pool, offload
    )


async def test_load_and_close_may_be_async(tmp_path: Path, pool: Pool) -> None:
    source = """
        import asyncio, threading
        from listener import Handler
        class Mine(Handler):
            async def load(self, artifacts):
                await asyncio.sleep(0)
                self.events = [("load", artifacts, threading.current_thread())]
            async def close(self):
                await asyncio.sleep(0)
                self.events.append("close")
    """
    handler: Any = await loaded(tmp_path, pool, source)
    await loader.close(handler)
    assert handler.events == [("load", tmp_path, threading.main_thread()), "close"]


async def test_plain_load_and_close_run_in_threads(tmp_path: Path, pool: Pool) -> None:
    source = """
        import threading
        from listener import Handler
        class Mine(Handler):
            def load(self, artifacts):
                self.threads = [threading.current_thread()]
            def close(self):
                self.threads.append(threading.current_thread())
    """
    handler: Any = await loaded(tmp_path, pool, source)
    await loader.close(handler)
    assert len(handler.threads) == 2
    assert threading.main_thread() not in handler.threads


async def test_an_async_load_that_fails_is_a_mistake(tmp_path: Path, pool: Pool) -> None:
    source = """
        from listener import Handler
        class Mine(Handler):
            async def load(self, artifacts):
                raise OSError("gone")
    """
    with pytest.raises(ConfigError, match=r"cannot be loaded: OSError: gone \(.*:5\)"):
        await loaded(tmp_path, pool, source)


@pytest.mark.parametrize("keyword", ["def", "async def"])
async def test_a_close_that_fails_is_logged(
    tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture, keyword: str
) -> None:
    source = f"""
        from listener import Handler
        class Mine(Handler):
            {keyword} close(self):
                raise OSError("gone")
    """
    await loader.close(await loaded(tmp_path, pool, source))
    assert "Mine failed in close" in caplog.text


# In processes

HOOKS = """
    import os, signal, time
    import numpy as np
    from listener import Handler, InstanceError
    class Mine(Handler):
        def load(self, artifacts):
            self.factor, self.loaded_in = 10.0, os.getpid()
        def preprocess(self, instance, context):
            if instance == "exit":
                os._exit(7)
            if instance == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if instance == "hang":
                open(context.parameters["pid"], "w").write(str(os.getpid()))
                time.sleep(60)
            if instance == "refuse":
                raise InstanceError("no such thing")
            if instance == "fail":
                raise KeyError("secret")
            if instance == "infer":
                self.models["m"].infer({})
            if instance == "unknown":
                self.models["other"]
            if instance == "wait":
                time.sleep(0.2)
                return {"x": np.zeros(1, np.float32)}
            assert self.loaded_in == os.getpid()
            assert self.spec.name == "m" and context.headers["a"] == "b"
            return {"x": np.array([self.factor * instance], np.float32)}
        def postprocess(self, outputs):
            if outputs["y"][0] == 2000:
                return lambda: None
            return [float(outputs["y"][0]), os.getpid()]
"""
CONTEXT = Context(request_id="q", headers={"a": "b"})


async def ask(handler: Handler, *instances: Any, context: Context = CONTEXT) -> list[Any]:
    return list((await handler.predict(Call(list(instances), context))).predictions)


async def refusal(handler: Handler, *instances: Any) -> ListenerError:
    with pytest.raises(ListenerError) as caught:
        await ask(handler, *instances)
    return caught.value


async def test_hooks_run_in_another_process_where_the_handler_is_loaded_and_knows_its_model(
    tmp_path: Path, pool: Pool
) -> None:
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    (one, here), (two, _) = await ask(handler, 1, 2)
    assert (one, two) == (20.0, 40.0)
    assert here != os.getpid()


async def test_what_hooks_raise_there_is_told_as_ever(
    tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    refused = await refusal(handler, 1, "refuse")
    assert isinstance(refused, InstanceError)
    assert str(refused) == "instances[1]: no such thing"
    failed = await refusal(handler, 1, 2, "fail")
    assert isinstance(failed, HandlerFailed)
    assert "secret" not in str(failed)
    assert "preprocess on instances[2]" in caplog.text
    assert 'raise KeyError("secret")' in caplog.text  # the trace is the other process's


async def test_a_model_cannot_be_called_there(tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    assert isinstance(await refusal(handler, "infer"), HandlerFailed)
    assert "knows its models' spec and cannot call them; an `async def` hook can" in caplog.text
    assert isinstance(await refusal(handler, "unknown"), HandlerFailed)
    assert "no model 'other' for this handler; it has 'm'; name further ones in uses" in caplog.text


async def test_a_result_that_cannot_travel_fails_with_the_reason_in_the_log(
    tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    assert isinstance(await refusal(handler, 100), HandlerFailed)
    assert "the result cannot be pickled" in caplog.text
    assert "offload: process" in caplog.text
    assert (await ask(handler, 1))[0][0] == 20.0


@pytest.mark.parametrize(("death", "said"), [("exit", "exit code 7"), ("kill", "exit code -9 (SIGKILL)")])
async def test_a_process_that_dies_fails_its_own_call_alone_and_is_replaced(
    tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture, death: str, said: str
) -> None:
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    await ask(handler, 1)
    together = await asyncio.gather(
        *(ask(handler, instance) for instance in ["wait", death, "wait", death, "wait", 1]), return_exceptions=True
    )
    assert [isinstance(result, HandlerFailed) for result in together] == [False, True, False, True, False, False]
    assert not any(isinstance(result, BaseException) for result in (together[0], together[2], together[4], together[5]))
    assert caplog.text.count(said) >= 2
    answers = await asyncio.gather(*(ask(handler, "wait") for _ in range(4)))
    assert len({answer[0][1] for answer in answers}) == 2  # both are back


async def test_a_process_that_died_idle_is_replaced_unnoticed(tmp_path: Path) -> None:
    pool = Pool(1, processes=1)
    with contextlib.closing(pool):
        handler = await loaded(tmp_path, pool, HOOKS, "process")
        ((_, pid),) = await ask(handler, 1)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_there(pid))
        ((value, other),) = await ask(handler, 1)
    assert value == 20.0
    assert other != pid


def is_there(pid: int) -> bool:
    """Whether a process lives, or one of its threads; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return len(stats) > 1 or stats[0].read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_call_that_nobody_waits_for_is_ended_with_its_process(tmp_path: Path) -> None:
    pool, file = Pool(1, processes=1), tmp_path / "pid"
    with contextlib.closing(pool):
        handler = await loaded(tmp_path, pool, HOOKS, "process")
        await ask(handler, 1)
        hanging = asyncio.create_task(ask(handler, "hang", context=CONTEXT._replace(parameters={"pid": str(file)})))
        await until(lambda: file.exists() and bool(file.read_text()))
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await until(lambda: not is_there(int(file.read_text())))
        assert (await ask(handler, 1))[0][0] == 20.0


async def test_closing_the_pool_ends_the_processes(tmp_path: Path) -> None:
    pool = Pool(1, processes=2)
    handler = await loaded(tmp_path, pool, HOOKS, "process")
    answers = await asyncio.gather(*(ask(handler, "wait") for _ in range(2)))
    pool.close()
    await until(lambda: not any(is_there(answer[0][1]) for answer in answers))


async def test_the_processes_of_a_worker_that_is_killed_do_not_outlive_it(tmp_path: Path) -> None:
    script = """
        import asyncio, sys, time, os
        from listener.pool import Pool
        async def main():
            pool = Pool(1, processes=1)
            print(await pool.processes.run(os.getpid), flush=True)
            await pool.processes.run(time.sleep, 60)
        asyncio.run(main())
    """
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _path()},
    ) as worker:
        assert worker.stdout
        pid = int(worker.stdout.readline())
        assert is_there(pid)
        await asyncio.sleep(0.2)  # the hook sleeps by now
        worker.kill()
        await until(lambda: not is_there(pid))


def _path() -> str:
    return str(Path(loader.__file__).parents[1])


# A real worker


SLEEPY = """
    import time
    import numpy as np
    from listener import Handler
    class Sleepy(Handler):
        offload = {offload!r}
        def preprocess(self, instance):
            time.sleep(2)
            return {{"x": np.array([instance], np.float32)}}
        def postprocess(self, outputs):
            time.sleep(2)
            return float(outputs["y"][0])
"""


@pytest.mark.parametrize("offload", ["", "process"])
async def test_health_answers_while_hooks_sleep(tmp_path: Path, offload: str) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers/sleepy.py").write_text(textwrap.dedent(SLEEPY.format(offload=offload)))
    (tmp_path / "listener.yaml").write_text("routes:\n  m:\n    handler: handlers.sleepy:Sleepy\n")
    model = FakeModel({"x": ("FP32", [1])}, {"y": ("FP32", [1])}, lambda arrays: {"y": arrays["x"] * 2})
    async with FakeTriton({"m": model}).running() as triton:
        stack = Stack(
            tmp_path / "log",
            "serve",
            tmp_path,
            LISTENER_TRITON_URL=triton,
            LISTENER_TRITON_METRICS_URL=f"127.0.0.1:{free_port()}",
        )
        try:
            async with aiohttp.ClientSession() as session:
                await asyncio.to_thread(stack.until, 200, 20)
                asked = [asyncio.create_task(predicted(session, stack.url, n)) for n in range(2)]
                slowest = 0.0
                while not all(task.done() for task in asked):
                    start = time.monotonic()
                    async with session.get(f"{stack.url}/health") as answer:
                        assert answer.status == 200
                    slowest = max(slowest, time.monotonic() - start)
                    await asyncio.sleep(0.02)
                assert [await task for task in asked] == [[0.0], [2.0]]
                assert slowest < 0.2
        finally:
            assert await asyncio.to_thread(stack.stop) == 0


async def predicted(session: aiohttp.ClientSession, url: str, instance: int) -> Any:
    async with session.post(f"{url}/predict", json={"instances": [instance]}) as answer:
        return (await answer.json())["predictions"]


async def test_a_hook_may_run_a_loop_of_its_own_wherever_it_runs(pool: Pool) -> None:
    async def answer() -> int:
        return 5

    for place in ("inline", "thread"):
        assert await Pace("h", place).run(lambda: asyncio.run(answer()), 1, pool) == 5
        assert asyncio.get_running_loop()
