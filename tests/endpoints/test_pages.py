"""What the listener says of itself."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import test_utils, web

from listener.endpoints import pages
from listener.gate import Gate, Limits, Phase
from tests.endpoints.conftest import Served


async def health(phase: Phase, missing: list[str]) -> tuple[int, Any]:
    gate = Gate(Limits(1), 1)
    gate.phase = phase
    answer = await pages.health(gate, lambda: missing)(test_utils.make_mocked_request("GET", "/health"))
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    assert answer.content_type == "application/json"
    return answer.status, orjson.loads(answer.body)


@pytest.mark.parametrize(
    ("phase", "missing", "code", "status"),
    [
        (Phase.READY, [], 200, "ready"),
        (Phase.READY, ["Triton is not ready"], 503, "not ready"),
        (Phase.STARTING, ["the service is being loaded"], 503, "starting"),
        (Phase.STARTING, [], 503, "starting"),
        (Phase.DOWNLOADING, ["the model repository is being fetched: 43 %"], 503, "downloading"),
        (Phase.DRAINING, [], 503, "draining"),
        (Phase.FAILED, ["the service cannot be served"], 503, "failed"),
        (Phase.FAILED, [], 503, "failed"),
    ],
)
async def test_health_is_200_exactly_when_a_prediction_can_be_made(
    phase: Phase, missing: list[str], code: int, status: str
) -> None:
    assert await health(phase, missing) == (code, {"status": status, "missing": missing})


async def test_the_root_points_to_the_description(served: Served) -> None:
    code, headers, body = await served.told("GET", "/")
    assert (code, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert body.count(b"\n") == 1
    assert b"/openapi.json" in body
    assert (await served.ask("GET", "/openapi.json"))[0] == 200


async def test_health_does_not_wait_behind_predictions(served: Served) -> None:
    served.triton.delay = 2
    slow = [asyncio.create_task(served.predict({"instances": [[1, 2]]})) for _ in range(20)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        assert (await served.ask("GET", "/health"))[0] == 200
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
