"""Health answers at once while every hook and function of a service is busy for seconds.

`offload: inline` is left out: it is the word for a hook that holds the loop.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator

import aiohttp
import pytest

from listener.call import Json
from tests.integration import paths
from tests.integration.paths import ROW
from tests.integration.stack import Stack, running

pytestmark = pytest.mark.triton

HANDLERS = """
import asyncio
import time

from handlers.paths import *

SECONDS = {seconds}


def busy():
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:  # holds the interpreter's lock but for its switches
        sum(range(1000))


class Before(Hooked):
    def preprocess(self, item):
        busy()
        return super().preprocess(item)


class After(Hooked):
    def postprocess(self, outputs):
        busy()
        return super().postprocess(outputs)


class Whole(Handler):
    def predict(self, call):
        busy()
        return Reply(call.instances)


class Waiting(Handler):
    async def predict(self, call):
        await asyncio.sleep(SECONDS)
        return Reply(call.instances)


class Sleeping(Hooked):
    def preprocess(self, item):
        time.sleep(SECONDS)
        return super().preprocess(item)


def way(item, context):
    busy()
    return "one"


def score(prediction):
    busy()
    return 1.0


def merge(row):
    busy()
    return row["x"]
"""


def _busy(name: str, **more: Json) -> Json:
    return {"handler": f"handlers.busy:{name}", "model": ROW.model("a"), **more}


ROUTES: dict[str, Json] = {
    "before": _busy("Before"),
    "after": _busy("After"),
    "whole": _busy("Whole"),
    "waiting": _busy("Waiting"),
    "sleeping": _busy("Sleeping"),
    "apart before": _busy("Before", offload="process"),
    "apart after": _busy("After", offload="process"),
    "mirror": {"shadow": {"node": ROW.model("a"), "mirror": _busy("Whole")}},
    "switch": {"switch": {"function": "handlers.busy:way", "cases": {"one": ROW.model("a")}}},
    "cascade": {"cascade": {"nodes": [ROW.model("a"), ROW.model("b")], "below": 0.5, "score": "handlers.busy:score"}},
    "ensemble": {
        "ensemble": {"members": {"x": ROW.model("a"), "y": ROW.model("b")}, "merge": "handlers.busy:merge"},
    },
}
_REQUESTS = 32
_BUSY = 2.0  # seconds
_LONGEST = 0.2  # seconds; twice what is promised
_WINDOWS = 3


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("busy")
    service = paths.write(folder / "service", {"default": "before", "routes": ROUTES})
    (service / "handlers/busy.py").write_text(HANDLERS.replace("{seconds}", str(_BUSY)))
    with running(folder / "log", service=service, LISTENER_TRITON_LOG_LEVEL="error") as stack:
        stack.until(200)
        yield stack


async def health_times(stack: Stack, routes: list[str], seconds: float) -> list[float]:
    """How long each health check took, in seconds, while 32 requests are at these routes; more come as they end."""
    took = list[float]()
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        callers = [group.create_task(_call(session, stack, routes[n % len(routes)], end)) for n in range(_REQUESTS)]
        await asyncio.sleep(0.2)
        while time.monotonic() < end:
            begin = time.monotonic()
            async with session.get(f"{stack.url}/health") as answer:
                assert answer.status == 200
            took.append(time.monotonic() - begin)
            await asyncio.sleep(0.01)
        for caller in callers:
            caller.cancel()
    await asyncio.sleep(_BUSY + 0.5)  # the hooks of those that have left go on until they are done
    return took


async def _call(session: aiohttp.ClientSession, stack: Stack, route: str, end: float) -> None:
    while time.monotonic() < end:
        body = {"instances": [[7, 1]], "parameters": {"model": route}}
        async with session.post(f"{stack.url}/predict", json=body) as answer:
            assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("which", ["all", *(pytest.param(name, marks=pytest.mark.long) for name in ROUTES)])
async def test_health_answers_while_every_hook_is_busy(busy: Stack, which: str) -> None:
    """A hook that held the loop would do so every time; a machine that has other things to do does not."""
    for _ in range(_WINDOWS):
        took = await health_times(busy, list(ROUTES) if which == "all" else [which], 5.0)
        told = f"{len(took)} checks, median {statistics.median(took) * 1e3:.1f} ms, longest {max(took) * 1e3:.1f} ms"
        print(f"{which}: {told}")
        if max(took) < _LONGEST:
            return
    pytest.fail(told)
