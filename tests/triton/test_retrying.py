"""Which calls to Triton are sent once more, with what, and how often at the most."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from listener.errors import TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorSpec
from listener.triton import retrying
from listener.triton.client import TritonClient
from listener.triton.retrying import Retries
from listener.triton.shm import SharedMemory
from listener.triton.wire import Unsent
from tests.triton.test_client import HEADER, LENGTH, http

SPEC = ModelSpec("m", (TensorSpec("X", "FP32", (-1,)),), (TensorSpec("Y", "FP32", (2,)),), 8)
SEQUENCE = ModelSpec(SPEC.name, SPEC.inputs, SPEC.outputs, SPEC.max_batch_size, independent=False)
SMALL, LARGE = ({"X": np.ones((1, size), np.float32)} for size in (2, 1 << 16))
RIGHT = http(200, HEADER + np.array([3, 4], "<f4").tobytes(), LENGTH)
BUSY = http(503, b'{"error":"busy"}')
GONE = b""


@dataclass
class Server:
    """Answers the first requests as told and the later ones as the last of them; no answer ends the connection."""

    answers: Sequence[bytes]
    port: int = 0
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0] or 0)
                self.bodies.append(await reader.readexactly(length))
                answer = self.answers[min(len(self.bodies), len(self.answers)) - 1]
                if not answer:
                    break
                writer.write(answer)
        writer.close()


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[Server]:
    made = Server(answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@contextlib.asynccontextmanager
async def calling(url: str, memory: SharedMemory | None = None) -> AsyncIterator[TritonClient]:
    client = TritonClient(url, memory)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def ask(client: TritonClient, spec: ModelSpec = SPEC, rows: Any = SMALL) -> list[float]:
    outputs = await client.infer("m", client.codec(spec), [rows])
    return [float(y) for y in outputs["Y"][0]]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, float]]]:
    """The bounds of each pause; none takes time."""
    bounds: list[tuple[float, float]] = []

    def chosen(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    monkeypatch.setattr(retrying, "uniform", chosen)
    yield bounds


# What is tried again


@pytest.mark.parametrize(
    ("first", "waited"),
    [
        ([GONE], 1),
        ([BUSY], 1),
        ([GONE, BUSY], 2),
        ([BUSY, GONE], 1),
    ],  # what a kept connection loses is sent anew at once
    ids=["gone", "503", "both", "503 first"],
)
async def test_what_triton_did_not_answer_is_tried_again(
    first: list[bytes], waited: int, pauses: list[tuple[float, float]]
) -> None:
    async with answering(*first, RIGHT) as server, calling(server.url) as client:
        assert await ask(client) == [3, 4]
    assert len(server.bodies) == len(first) + 1
    assert len(set(server.bodies)) == 1
    assert pauses == [(0, 0.02), (0, 0.04)][:waited]


@pytest.mark.parametrize(
    ("answer", "error", "times"),
    [
        (GONE, Unavailable, 3),
        (BUSY, Unavailable, 3),
        (b"HTTP/1.1 200", Unavailable, 1),
        (http(500, b'{"error":"no"}'), TritonFailed, 1),
        (b"\0\0\r\n\r\n", TritonFailed, 1),
    ],
    ids=["gone", "503", "half a line", "500", "no HTTP"],
)
async def test_how_often_at_the_most(
    answer: bytes, error: type[Exception], times: int, pauses: list[tuple[float, float]]
) -> None:
    server = Server([answer])

    async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.bodies.append(b"")
        writer.write(answer)
        writer.close()

    with contextlib.closing(await asyncio.start_server(hanging_up, "127.0.0.1", 0)) as made:
        url = f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}"
        async with calling(url) as client, asyncio.timeout(20):
            with pytest.raises(error):
                await ask(client)
    assert len(server.bodies) == times
    assert len(pauses) == times - 1


@pytest.mark.parametrize("first", [GONE, BUSY], ids=["gone", "503"])
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_what_depends_on_rows_before_is_not_sent_twice(
    first: bytes, kept: bool, pauses: list[tuple[float, float]]
) -> None:
    async with answering(*[RIGHT] * kept, first, RIGHT) as server, calling(server.url) as client:
        if kept:
            await ask(client, SEQUENCE)
        with pytest.raises(Unavailable):
            await ask(client, SEQUENCE)
        assert len(server.bodies) == 1 + kept
        assert await ask(client, SEQUENCE) == [3, 4]
    assert pauses == []


@pytest.mark.parametrize("spec", [SPEC, SEQUENCE], ids=["rows", "sequence"])
async def test_a_connection_that_could_not_be_made_is_tried_again(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "uniform", lambda low, high: 0.2)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with calling(f"http://127.0.0.1:{bound.getsockname()[1]}") as client:
            asked = asyncio.create_task(ask(client, spec))
            await asyncio.sleep(0.05)
            server = Server([RIGHT])
            with contextlib.closing(await asyncio.start_server(server.serve, sock=bound.dup())):
                assert await asked == [3, 4]


async def test_a_triton_that_is_known_to_be_away_is_not_tried_again(pauses: list[tuple[float, float]]) -> None:
    async with answering(GONE) as server, calling(server.url) as client:
        assert await client.server_ready() is False
        assert client.answers is False
        server.bodies.clear()
        with pytest.raises(Unavailable):
            await ask(client)
    assert (len(server.bodies), pauses) == (1, [])


# The budget


async def test_a_triton_that_is_down_gets_no_storm(pauses: list[tuple[float, float]]) -> None:
    async with answering(GONE) as server, calling(server.url) as client:
        for _ in range(20):
            answers = await asyncio.gather(*(ask(client) for _ in range(10)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {Unavailable}
    assert 200 + 25 <= len(server.bodies) <= 200 + 10 + 20


def test_each_call_brings_a_part_of_a_try_and_not_without_end() -> None:
    retries = Retries()
    assert [retries.pause(0) is not None for _ in range(12)] == [True] * 10 + [False] * 2
    retries.calls += 9
    assert retries.pause(0) is None
    retries.calls += 2
    assert retries.pause(2) is None  # and takes none
    assert retries.pause(1) is not None
    assert retries.pause(0) is None
    retries.calls += 10_000
    assert [retries.pause(0) is not None for _ in range(12)] == [True] * 10 + [False] * 2


def test_pauses_differ() -> None:
    found = [pause for _ in range(10) if (pause := Retries().pause(0)) is not None]
    assert len(set(found)) > 5
    assert all(0 <= pause <= 0.02 for pause in found)


# Leases


def is_free(memory: SharedMemory) -> bool:
    """Whether nobody has a part of it."""
    lease = memory.lease(memory.size)
    if lease:
        lease.release()
    return lease is not None


async def test_after_a_503_the_same_leases_serve_again(memory: SharedMemory, pauses: list[tuple[float, float]]) -> None:
    async with answering(BUSY, RIGHT) as server, calling(server.url, memory) as client:
        assert await ask(client, rows=LARGE) == [3, 4]
        assert is_free(memory)
    assert len(set(server.bodies)) == 1
    assert b"shared_memory_region" in server.bodies[0]


async def test_what_a_lost_call_may_still_use_is_not_used_again(
    memory: SharedMemory, pauses: list[tuple[float, float]]
) -> None:
    """Nor on another kept connection."""
    for kept in (False, True):
        async with answering(*[RIGHT] * kept, GONE, RIGHT) as server, calling(server.url) as client:
            client._memory = memory
            if kept:
                await ask(client)
            assert await ask(client, rows=LARGE) == [3, 4]
            client._memory = None
        lost, again = server.bodies[-2:]
        assert b"shared_memory_region" in lost
        assert b"shared_memory_region" not in again
        assert LARGE["X"].tobytes() in again
        assert not is_free(memory)


async def test_a_connection_that_could_not_be_made_parks_nothing(
    memory: SharedMemory, pauses: list[tuple[float, float]]
) -> None:
    async with calling("http://127.0.0.1:1", memory) as client:
        with pytest.raises(Unavailable):
            await ask(client, rows=LARGE)
        assert is_free(memory)
    assert len(pauses) == 2


async def test_leases_are_kept_while_a_connection_is_tried_again(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "uniform", lambda low, high: 0.2)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with calling(f"http://127.0.0.1:{bound.getsockname()[1]}", memory) as client:
            asked = asyncio.create_task(ask(client, rows=LARGE))
            await asyncio.sleep(0.05)
            assert not is_free(memory)
            server = Server([RIGHT])
            with contextlib.closing(await asyncio.start_server(server.serve, sock=bound.dup())):
                assert await asked == [3, 4]
            assert is_free(memory)
    assert b"shared_memory_region" in server.bodies[0]


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["bytes", "leases"])
async def test_whoever_leaves_between_two_tries_leaves_nothing(
    rows: Any, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "uniform", lambda low, high: 60.0)
    async with answering(BUSY, RIGHT) as server, calling(server.url, memory) as client:
        asked = asyncio.create_task(ask(client, rows=rows))
        while client._retries._left == 10:
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert is_free(memory)
        assert not client._given_up
        assert len(server.bodies) == 1


async def test_leases_of_a_call_that_was_left_are_free_once_it_turns_out_that_triton_never_heard_of_them(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = asyncio.Event()

    async def refused() -> None:
        await connected.wait()
        raise Unsent("no connection")

    async with calling("http://127.0.0.1:1", memory) as client:
        monkeypatch.setattr(client._wire, "_connect", refused)
        asked = asyncio.create_task(ask(client, rows=LARGE))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not is_free(memory)
        connected.set()
        await asyncio.sleep(0.01)
        assert is_free(memory)
