"""The soak: what grows is seen and what does not is not, samples are of real processes, the load judges."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from chaos.load import expected
from chaos.soak import allowed, table, trends
from chaos.steady import Steady
from chaos.trend import trend
from chaos.usage import of_process, usage
from tests.chaos.test_load import serving, told


def over_an_hour(value: Any) -> dict[str, Any]:
    """A quantity at each of 720 samples."""
    seconds = [5.0 * number for number in range(721)]
    return {"seconds": seconds, "values": [value(second) for second in seconds]}


def test_the_slope_of_a_line_is_its_own() -> None:
    found = trend(**over_an_hour(lambda second: 100 + second / 360))
    assert found.slope == pytest.approx(10.0)
    assert found.rise == pytest.approx(7.5)
    assert (found.first, found.last, found.low, found.high) == (100, 110, 100, 110)


def test_the_warm_up_is_left_out() -> None:
    found = trend(**over_an_hour(lambda second: min(second, 900.0)))
    assert found.slope == 0
    assert found.verdict(1.0) == "steady"


def test_a_leak_is_seen_through_noise_and_noise_alone_is_steady() -> None:
    chance = random.Random(1)
    noisy = [chance.gauss(200, 5) for _ in range(721)]
    seconds = [5.0 * number for number in range(721)]
    assert trend(seconds, noisy).verdict(4.0) == "steady"
    leaking = [value + second / 360 for second, value in zip(seconds, noisy, strict=True)]
    assert trend(seconds, leaking).verdict(4.0) == "grows"


def test_what_becomes_less_is_steady() -> None:
    assert trend(**over_an_hour(lambda second: -second)).verdict(0.0) == "steady"


def test_a_minute_says_nothing() -> None:
    assert trend([0.0, 20.0, 40.0, 60.0], [0.0, 1.0, 2.0, 3.0]).verdict(0.0) == "too short"


def test_one_sample_has_no_trend() -> None:
    with pytest.raises(ValueError, match="two samples"):
        trend([0.0], [1.0])


def test_a_row_for_people_and_what_each_may_rise_by() -> None:
    samples = [{"seconds": float(second), "workers: descriptors": 80 + second / 360} for second in range(0, 3600, 5)]
    found = trends([*samples, {"seconds": 3600.0}])  # at the end there was no worker
    line = table(found).splitlines()[1]
    assert re.split(r"  +", line)[:5] == ["workers: descriptors", "80.0", "0.0", "0.0", "90.0"]
    found = trends(samples)
    assert table(found).endswith("grows")
    assert allowed("workers: descriptors", found["workers: descriptors"]) == 4.0
    assert allowed("workers: PSS, MiB", trend([0, 1, 2, 3], [190, 210, 190, 210])) == pytest.approx(4.0)


def test_a_sample_counts_what_is_taken(tmp_path: Path) -> None:
    before = of_process(os.getpid())
    block = mmap.mmap(-1, 32 << 20)  # pages that nobody had before
    block.write(b"x" * len(block))
    files, over = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)], threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        after = of_process(os.getpid())
    finally:
        over.set()
        thread.join()
        for file in files:
            os.close(file)
    block.close()
    assert after["descriptors"] - before["descriptors"] == 7
    assert after["threads"] - before["threads"] == 1
    # at least: pages that a child process had as well become this one's own when that ends
    assert after["USS, MiB"] - before["USS, MiB"] > 30
    assert after["USS, MiB"] <= after["PSS, MiB"] <= after["RSS, MiB"]
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    whole = usage(os.getpid(), tmp_path)
    assert whole["temporary files: files"] == 1
    assert whole["temporary files: MiB"] == 1
    assert whole["parent: processes"] >= 1


def predicted(instances: Any, raw: bool) -> web.StreamResponse:
    """What a good listener says."""
    if raw or not isinstance(instances, list) or instances == [["x"]]:
        return told({"error": "no"}, 400)
    return told(expected(instances))


async def asked(answer: Callable[[web.StreamResponse], web.StreamResponse]) -> Steady:
    """A second of the load. JSON is answered well, but for what `answer` makes of it; raw bodies are refused."""

    async def predict(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError:
            given = {"instances": None}
        unknown = given.get("parameters", {}).get("model") == "none"
        return answer(predicted(None if unknown else given["instances"], request.content_type != "application/json"))

    async with serving(predict) as url:
        steady = Steady(url, 200)
        async with steady.running():
            await asyncio.sleep(1)
    return steady


async def test_a_steady_load_is_of_all_kinds_and_knows_its_answers() -> None:
    steady = await asked(lambda answer: answer)
    assert set(steady.sent) == {"small", "large", "offload", "raw", "bad", "left"}
    assert 150 < steady.sent.total() < 260
    seen = steady.seen
    assert seen.right == steady.sent.total() - steady.sent["left"] - steady.sent["raw"]
    assert len(seen.wrong) == steady.sent["raw"]
    assert all(words.startswith("400: ") for words in seen.wrong)
    assert seen.hung == seen.refused.total() == 0


async def test_a_bad_request_that_is_answered_is_wrong() -> None:
    steady = await asked(lambda answer: answer if answer.status == 200 else told({"predictions": []}))
    assert len(steady.seen.wrong) == steady.sent["raw"] + steady.sent["bad"]
