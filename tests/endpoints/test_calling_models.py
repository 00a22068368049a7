"""The time of a request bounds what its handler waits for, on every path; and what the log says at the start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from listener.testing import FakeModel, FakeTriton, until_ready
from listener.testing.serving import serving

HANDLERS = """
import numpy as np
from listener import Handler, Reply

ROW = {"x": np.ones((1, 1), np.float32)}


class Whole(Handler):
    model = None
    uses = ("slow",)
    exmaple = 1

    async def predict(self, call):
        return Reply([(await self.models["slow"].infer(ROW))["y"].tolist() for _ in call.instances])


class Pieces(Whole):
    async def predict(self, call):
        yield (await self.models["slow"].infer(ROW))["y"].tolist()
"""
YAML = """
default: whole
routes:
  whole: {handler: handlers_that_call:Whole}
  pieces: {handler: handlers_that_call:Pieces}
"""
EVENTS = {"Accept": "text/event-stream"}
PIECES = {"parameters": {"model": "pieces"}}


@pytest.mark.parametrize(
    ("path", "headers", "more"),
    [
        ("/predict", {}, {}),
        ("/predict", {}, PIECES),
        ("/predict", EVENTS, {}),
        ("/predict", EVENTS, PIECES),
        ("/v1/models/whole:predict", {}, {}),
        ("/v1/models/pieces:predict", {}, {}),
    ],
)
async def test_a_call_without_a_time_of_its_own_ends_with_the_request(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
    headers: dict[str, str],
    more: dict[str, Any],
) -> None:
    (tmp_path / "handlers_that_call.py").write_text(HANDLERS)
    (tmp_path / "listener.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "handlers_that_call", raising=False)
    tensor = ("FP32", [1])
    fake = FakeTriton({"slow": FakeModel({"x": tensor}, {"y": tensor}, lambda arrays: {"y": arrays["x"]}, delay=30)})
    async with (
        fake.running() as triton,
        serving(tmp_path, triton, timeout=0.3) as (listener, url),
        aiohttp.ClientSession() as session,
        asyncio.timeout(20),
    ):
        await until_ready(url)
        async with session.post(f"{url}{path}", json={"instances": [1], **more}, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (
                504,
                {"error": "the request's time is up (LISTENER_TIMEOUT)"},
            )
        assert listener.gate.inside == 0
    warnings = [record.getMessage() for record in caplog.records if "is no attribute" in record.getMessage()]
    assert warnings == ["handlers_that_call.py: Whole.exmaple is no attribute of handlers; did you mean 'example'?"]
