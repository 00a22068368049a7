"""Several workers on one port: the death of one, the stop of one, the stop of all; and very many connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from listener.process import children
from tests.integration.stack import (
    SHM,
    Stack,
    alive,
    command_line,
    descendants,
    running,
    wait_for,
)
from tests.integration.test_lifecycle import slow_service as slow_service

pytestmark = pytest.mark.triton

PICTURE = [[0, 16] * 32]


def workers(stack: Stack) -> list[int]:
    return [pid for pid in children(stack.process.pid) if "listener.worker" in command_line(pid)]


def regions_of(worker: int) -> set[Path]:
    """The files in shared memory that a worker has open."""
    found = set[Path]()
    for link in Path(f"/proc/{worker}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return {path for path in found if path.is_relative_to(SHM)}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Stack]:
    """The sample service with two workers that are both ready."""
    with running(tmp_path / "log", LISTENER_WORKERS="2") as stack:
        both_ready(stack)
        yield stack


def both_ready(stack: Stack, starts: int = 2) -> None:
    """Waits until each of so many starts of a worker has said that it is ready; a late one opens 50 ms after that."""
    stack.until_workers(starts)
    time.sleep(0.2)


class Load:
    """A few clients, each with a connection of its own; one that breaks is made anew."""

    def __init__(self, stack: Stack, clients: int) -> None:
        self.statuses = Counter[int]()
        self.broken = 0
        self._stack, self._end = stack, threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        session = requests.Session()
        while not self._end.wait(0.01):
            try:
                answer = session.post(f"{self._stack.url}/predict", json={"instances": PICTURE}, timeout=30)
                self.statuses[answer.status_code] += 1
            except requests.ConnectionError:
                self.broken += 1
                session.close()
                session = requests.Session()


class Watch:
    """Asks for health all the time, each time on a new connection."""

    def __init__(self, stack: Stack) -> None:
        self.seen = list[int]()
        self._stack, self._end = stack, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.seen.append(self._stack.health()[0])


def kill_one(stack: Stack) -> tuple[set[int], set[Path]]:
    """SIGKILL for the worker that was started first. Returns what may not be left of it."""
    victim = workers(stack)[0]
    family, regions = descendants(victim), regions_of(victim)
    assert len(regions) == 2  # the region and its lock
    os.kill(victim, signal.SIGKILL)
    return family, regions


def test_the_death_of_a_worker_costs_its_own_connections_alone(pair: Stack) -> None:
    clients = 8
    with Load(pair, clients) as load:
        wait_for(lambda: load.statuses[200] > 50, 20)
        with Watch(pair) as watch:
            family, regions = kill_one(pair)
            both_ready(pair, 3)
    assert not [pid for pid in family if alive(pid)]
    assert not [path for path in regions if path.exists()]
    # a connection that was being accepted as its worker died breaks too
    assert set(watch.seen) <= {200, 0}
    assert watch.seen.count(0) <= 1
    assert set(load.statuses) == {200}
    assert load.broken <= clients


def test_what_dead_workers_had_in_shared_memory_does_not_pile_up(pair: Stack) -> None:
    for deaths in (1, 2):
        _, regions = kill_one(pair)
        both_ready(pair, 2 + deaths)
        assert not [path for path in regions if path.exists()]


@contextlib.contextmanager
def six_running(stack: Stack) -> Iterator[list[int]]:
    """Six slow requests inside; gives the statuses of their answers, all there after the context."""
    answers = list[int]()
    threads = [
        threading.Thread(target=lambda n=n: answers.append(stack.predict([[float(n)]]).status_code)) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    yield answers
    for thread in threads:
        thread.join()


def test_one_of_two_workers_that_is_stopped_leaves_new_connections_to_the_other(
    tmp_path: Path, slow_service: Path
) -> None:
    with running(tmp_path / "log", service=slow_service, LISTENER_WORKERS="2") as stack:
        both_ready(stack)
        with six_running(stack) as answers:
            os.kill(workers(stack)[0], signal.SIGTERM)
            time.sleep(0.1)
            assert {stack.health()[0] for _ in range(20)} == {200}
        assert answers == [200] * 6


def test_at_a_stop_both_workers_drain(tmp_path: Path, slow_service: Path) -> None:
    with running(tmp_path / "log", service=slow_service, LISTENER_WORKERS="2") as stack:
        both_ready(stack)
        regions = {SHM / name for name in stack.regions()}.union(*map(regions_of, workers(stack)))
        with six_running(stack) as answers:
            stack.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            seen = [stack.health() for _ in range(10)]
            assert {status for status, _ in seen} == {503}
            assert {body["status"] for _, body in seen} == {"draining"}
            assert stack.process.wait(30) == 0
        assert answers == [200] * 6
        assert stack.output().count("draining; requests running") == 2
    assert len(regions) >= 6  # Triton's, and each worker's, with their locks
    assert not [path for path in regions if path.exists()]


def test_auto_says_what_it_comes_to(tmp_path: Path) -> None:
    with running(tmp_path / "log", LISTENER_WORKERS="auto") as stack:
        wait_for(lambda: bool(workers(stack)), 20)
        assert " worker" in stack.output()
        assert ": LISTENER_WORKERS=auto, " in stack.output()


MANY = 2500


def test_very_many_connections_at_once_are_answered(sample: Stack) -> None:
    """More than the usual limit of 1,024 descriptors and the kernel's usual backlog of 128."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 500:
        pytest.skip(f"this machine allows {hard} file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 500), hard))
    try:
        statuses = asyncio.run(at_once(sample.port, MANY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert statuses.total() == MANY
    assert statuses.pop(b"HTTP/1.1 200 OK") >= 2048  # LISTENER_MAX_REQUESTS
    assert set(statuses) <= {b"HTTP/1.1 429 Too Many Requests"}


async def at_once(port: int, connections: int) -> Counter[bytes]:
    """The first lines of the answers; no connection asks before all are there, and none ends before all have one."""
    together = asyncio.Barrier(connections)
    body = b'{"instances": [[%b]]}' % b",".join([b"0,16"] * 32)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    statuses = Counter[bytes]()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await together.wait()
        writer.write(head % len(body) + body)
        status = await reader.readline()
        statuses[status.strip()] += 1
        await together.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with asyncio.timeout(30):
        await asyncio.gather(*(one() for _ in range(connections)))
    return statuses
