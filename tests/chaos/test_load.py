"""The chaos suite's load sees what it is there to see: answers of others, refusals, silence and cut connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from chaos import load
from chaos.__main__ import RECOVERY, Row, table
from chaos.load import CLOSED, Load, Seen, expected

Answering = Callable[[Any], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(predict: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """In the place of a listener, what answers each request as a test says."""
    app = web.Application()
    app.router.add_post("/predict", predict)
    runner = web.AppRunner(app, handle_signals=False, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def asked(answer: Answering, seconds: float = 0.3) -> Seen:
    async def predict(request: web.Request) -> web.StreamResponse:
        return await answer(orjson.loads(await request.read())["instances"])

    async with serving(predict) as url, Load(url, 4).running() as seen:
        await asyncio.sleep(seconds)
    return seen


def told(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body))


async def test_right_answers_are_right() -> None:
    async def answer(instances: Any) -> web.StreamResponse:
        return told(expected(instances))

    seen = await asked(answer)
    assert seen.right == seen.requests > 20
    assert Row("none", seen, 0.0).is_good


async def test_the_answer_of_another_request_is_wrong() -> None:
    before: list[Any] = [[[1.0]]]

    async def answer(instances: Any) -> web.StreamResponse:
        before.append(instances)
        return told(expected(before.pop(0)))

    seen = await asked(answer)
    assert seen.right == 0
    assert len(seen.wrong) == seen.requests > 20
    assert not Row("none", seen, 0.0).is_good


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"predictions": []}),
        (200, {"error": "no"}),
        (201, {"error": "no"}),
        (400, {"error": "the instance is wrong"}),
        (404, {"error": "no such model"}),
        (503, {"mistake": "no"}),
        (503, {"error": 7}),
        (502, ["error"]),
    ],
)
async def test_neither_a_prediction_nor_a_documented_refusal_is_wrong(status: int, body: Any) -> None:
    async def answer(instances: Any) -> web.StreamResponse:
        return told(body, status)

    seen = await asked(answer)
    assert len(seen.wrong) == seen.requests > 0
    assert seen.wrong[0].startswith(f"{status}: ")


async def test_what_is_no_json_is_wrong() -> None:
    async def answer(instances: Any) -> web.StreamResponse:
        return web.Response(status=502, text="<html>")

    seen = await asked(answer)
    assert "502, which is no JSON: b'<html>'" in seen.wrong


async def test_refusals_and_closed_connections_are_counted_apart() -> None:
    async def answer(instances: Any) -> web.StreamResponse:
        if len(instances) > 1:
            return told({"error": "not now"}, 503)
        raise asyncio.CancelledError  # aiohttp closes the connection

    seen = await asked(answer, 0.6)
    assert seen.refused["503"] > 0
    assert seen.refused[CLOSED] > 0
    assert seen.refused.total() == seen.requests
    assert Row("none", seen, 0.0).is_good


async def test_silence_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "HANGS", 0.1)

    async def answer(instances: Any) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    seen = await asked(answer)
    assert seen.hung == seen.requests > 0
    assert not Row("none", seen, 0.0).is_good


def test_a_late_recovery_is_not_good() -> None:
    assert Row("none", Seen(right=1), RECOVERY).is_good
    assert not Row("none", Seen(right=1), RECOVERY + 0.01).is_good


def test_rows_for_people_and_for_machines() -> None:
    row = Row("a worker killed", Seen(1000, Counter({"503": 2, "closed": 1}), ["200: x"], 3), 0.126)
    assert row.as_json() == {
        "fault": "a worker killed",
        "requests": 1007,
        "right": 1000,
        "refused": {"503": 2, "closed": 1},
        "wrong": 1,
        "hung": 3,
        "recovery_s": 0.13,
    }
    (_, line) = table([row]).splitlines()
    assert re.split(r"  +", line) == ["a worker killed", "1,007", "1,000", "2 x 503, 1 x closed", "1", "3", "0.13 s"]
