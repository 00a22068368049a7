"""GET /metrics of a real stack, on its own port: the listener's and Triton's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from tests.integration.stack import Stack, command_line, descendants, free_port, running, wait_for

pytestmark = pytest.mark.triton

PICTURE = [[0, 16] * 32]


def samples(port: int) -> dict[str, float]:
    """The sum of each metric's samples, by its name."""
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", answer.text, re.M):
        found[name] = found.get(name, 0.0) + float(value)
    return found


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def stack(tmp_path: Path, port: int) -> Iterator[Stack]:
    with running(tmp_path / "log", LISTENER_WORKERS="2", LISTENER_METRICS_PORT=str(port)) as stack:
        yield stack


def test_ours_come_at_once_and_tritons_when_it_is_there(stack: Stack, port: int) -> None:
    wait_for(lambda: stack.health()[0] == 503, 10, stack.output)
    assert samples(port)["listener_build_info"] == 1
    stack.until(200)
    stack.until_workers(2)  # health may have been the quicker one's
    before = samples(port)
    assert before["listener_triton_metrics_up"] == 1
    for _ in range(5):
        assert stack.predict(PICTURE).status_code == 200
    wait_for(lambda: samples(port)["nv_inference_count"] >= before["nv_inference_count"] + 5, 10)


def test_without_triton_ours_are_left(stack: Stack, port: int) -> None:
    stack.until(200)
    triton = stack.triton_pid()
    os.kill(triton, signal.SIGSTOP)
    try:
        found = samples(port)
    finally:
        os.kill(triton, signal.SIGCONT)
    assert (found["listener_build_info"], found["listener_triton_metrics_up"]) == (1, 0)
    assert "nv_inference_count" not in found


def test_nothing_else_is_on_that_port_and_metrics_are_not_on_the_other(stack: Stack, port: int) -> None:
    stack.until(200)
    assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).headers["Server"] == "listener"
    for path in ("/", "/predict", "/health", "/v2/health/live", "/metrics/"):
        assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 404, path
    assert requests.post(f"http://127.0.0.1:{port}/metrics", timeout=5).status_code == 405
    assert requests.get(f"{stack.url}/metrics", timeout=5).status_code == 404


@pytest.mark.parametrize("requests_sent", [6_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_counters_are_exactly_what_clients_saw_though_a_worker_is_replaced(
    stack: Stack, port: int, requests_sent: int
) -> None:
    """Scrapes in the middle of the load answer soon, and no counter falls."""
    stack.until(200)
    await asyncio.to_thread(stack.until_workers, 2)
    seen, scrapes = Counter[str](), list[float]()
    left = iter(range(requests_sent))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def scrape() -> None:
            before = 0.0
            while True:
                begun = time.monotonic()
                now = sum((await asyncio.to_thread(counted, port)).values())
                scrapes.append(time.monotonic() - begun)
                assert now >= before
                before = now
                await asyncio.sleep(0.3)

        scraping = asyncio.create_task(scrape())
        clients = [asyncio.create_task(client(session, stack, left, seen)) for _ in range(16)]
        await asyncio.sleep(0.7)
        os.kill(worker_pid(stack), signal.SIGTERM)
        await asyncio.gather(*clients)
        scraping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await scraping
    assert seen.total() == requests_sent
    assert set(seen) >= {"200", "400"}
    assert set(seen) <= {"200", "400", "503"}  # which the worker says that leaves, on connections that are there
    assert counted(port) == seen
    print(
        f"{len(scrapes)} scrapes, median {statistics.median(scrapes) * 1e3:.0f} ms, longest {max(scrapes) * 1e3:.0f} ms"
    )
    assert statistics.median(scrapes) < 0.2


def counted(port: int) -> Counter[str]:
    """Requests by status, those of the route `digits`."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    found = Counter[str]()
    for status, value in re.findall(r'^listener_requests_total{.*status="(\d+)"} (\S+)$', text, re.M):
        found[status] += int(float(value))
    return found


async def client(session: aiohttp.ClientSession, stack: Stack, left: Iterator[int], seen: Counter[str]) -> None:
    """Asks as long as something is left; every seventh request is at fault."""
    for number in left:
        instances = [["no numbers"]] if number % 7 == 0 else PICTURE
        async with session.post(f"{stack.url}/predict", json={"instances": instances}) as answer:
            await answer.read()
            seen[str(answer.status)] += 1


BLOCKING = """
import time

from listener import Handler, Reply


class Blocking(Handler):
    model = None

    async def predict(self, call):
        time.sleep(call.instances[0])
        return Reply(call.instances)
"""


def test_a_handler_that_blocks_the_loop_is_seen(tmp_path: Path, port: int) -> None:
    service = tmp_path / "service"
    (service / "triton_repo").mkdir(parents=True)
    (service / "blocking.py").write_text(BLOCKING)
    (service / "listener.yaml").write_text("routes:\n  blocks:\n    handler: blocking:Blocking\n    model: null\n")
    with running(tmp_path / "log", service=service, LISTENER_METRICS_PORT=str(port), LISTENER_WORKERS="1") as stack:
        stack.until(200)
        begin = time.monotonic()
        assert stack.predict([1.2]).json() == {"predictions": [1.2]}
        wait_for(lambda: samples(port)["listener_loop_lag_max_seconds"] > 0.9, 5, stack.output)
        assert samples(port)["listener_loop_lag_max_seconds"] < time.monotonic() - begin


def worker_pid(stack: Stack) -> int:
    return next(pid for pid in descendants(stack.process.pid) if "listener.worker" in command_line(pid))


def test_the_port_is_gone_after_the_stop(stack: Stack, port: int) -> None:
    stack.until(200)
    assert stack.stop() == 0
    with pytest.raises(requests.ConnectionError):
        samples(port)


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path / "log", LISTENER_METRICS_PORT=str(port)) as stack:
            assert stack.process.wait(20) != 0
    words = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another port with --metrics-port"
    assert words in stack.output()
