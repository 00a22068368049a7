"""Shared memory with a real Triton: same answers as bytes, over a restart of either side, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.http.aio import InferenceServerClient

from listener import probe, process
from listener.errors import DeadlineExceeded
from listener.settings import Settings
from listener.tensors import ModelSpec
from listener.triton import installation
from listener.triton.client import TritonClient
from listener.triton.model import Model
from listener.triton.regions import SHM, sweep
from listener.triton.server import TritonServer
from listener.triton.shm import Lease, SharedMemory

pytestmark = pytest.mark.triton

MiB = 1 << 20

HALVES = """
backend: "python"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

#: What `wide` says and gives; `liar` says the same.
WIDE = """
backend: "python"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3, 256, 256 ] }, { name: "n" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
"""

#: Wait for as long as the last number says. Then `halves` answers the sums of the first half and of the second, the
#: others a ramp for each row that begins with its sum, and the number of rows; `liar` one number too many.
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.answer = globals()[args["model_name"]]

    def execute(self, requests):
        return [self.told(pb_utils.get_input_tensor_by_name(request, "x").as_numpy()) for request in requests]

    def told(self, x):
        time.sleep(float(x.flat[-1]))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in self.answer(x).items()])


def halves(x):
    return {"y": np.array([half.sum() for half in np.array_split(x, 2)], np.float32)}


def wide(x, shape=(3, 256, 256)):
    ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = x.sum(axis=1, dtype=np.float32)[:, None, None, None] + ramp
    return {"y": y, "n": np.full((len(x), 1), len(x), np.int32)}


def liar(x):
    return wide(x, (3, 256, 257))
"""


@dataclass
class Served:
    """A Triton with the models above, and a pool that it may know."""

    server: TritonServer
    child: process.Child
    http: aiohttp.ClientSession
    control: Any
    pool: SharedMemory

    async def start(self) -> None:
        self.child = await self.server.start()
        async with asyncio.timeout(60):
            await probe.until_ok(f"{self.server.url}/v2/health/ready")

    async def kill(self) -> None:
        self.child.kill()
        await self.child.wait()

    async def ask(self, lease: Lease, output: Lease | None = None) -> Any:
        """The status of one call whose input lies in a lease, and the answer or what is wrong."""
        x = {"name": "x", "datatype": "FP32", "shape": [lease.nbytes // 4], "parameters": place(lease)}
        body: dict[str, Any] = {"inputs": [x]}
        if output:
            body["outputs"] = [{"name": "y", "parameters": place(output)}]
        async with self.http.post(f"{self.server.url}/v2/models/halves/infer", json=body) as response:
            answer = await response.json()
        if response.status != 200:
            return response.status, answer["error"]
        return response.status, answer["outputs"][0].get("data")


def place(lease: Lease) -> dict[str, Any]:
    return {
        "shared_memory_region": lease.region,
        "shared_memory_offset": lease.offset,
        "shared_memory_byte_size": lease.nbytes,
    }


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    for name, config in {"halves": HALVES, "wide": WIDE, "liar": WIDE}.items():
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "config.pbtxt").write_text(config)
        (folder / "models" / name / "1" / "model.py").write_text(MODEL)
    server = TritonServer(installation.find(""), folder / "models", Settings(), free_ports=True)
    child = await server.start()
    control = InferenceServerClient(server.url.removeprefix("http://"))
    served = Served(server, child, aiohttp.ClientSession(), control, SharedMemory(32 * MiB))
    try:
        async with asyncio.timeout(60):
            await probe.until_ok(f"{server.url}/v2/health/ready")
        yield served
    finally:
        served.pool.close()
        await control.close()
        await served.http.close()
        await served.child.stop(server.exit_patience)
        server.close()


def put(pool: SharedMemory, x: NDArray[Any]) -> Lease:
    lease = pool.lease(x.nbytes)
    assert lease
    np.copyto(np.frombuffer(lease.view, np.float32), x)
    return lease


def ramp(size: int) -> NDArray[Any]:
    """Whole numbers with a wait of nothing at the end; sums are exact."""
    x = np.arange(size, dtype=np.float32) % 7
    x[-1] = 0
    return x


def sums(x: NDArray[Any]) -> list[float]:
    return [float(half.sum()) for half in np.array_split(x, 2)]


async def as_bytes(served: Served, x: NDArray[Any]) -> list[float]:
    """The answer to the same tensor over HTTP."""
    client = TritonClient(served.server.url)
    await client.open()
    try:
        spec: ModelSpec = await client.spec("halves")
        return [float(y) for y in (await client.infer("halves", client.codec(spec), [{"x": x}]))["y"]]
    finally:
        await client.close()


async def test_answers_are_those_that_bytes_get(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as served:
        pool = served.pool
        assert await pool.register(served.control)
        for size in (1, 7, 1024, 786_432, 2_000_000):
            x = ramp(size)
            with put(pool, x) as lease:
                assert await served.ask(lease) == (200, sums(x)) == (200, await as_bytes(served, x))

        # many at a time, each with numbers of its own, prepared in threads
        async def one(number: int) -> None:
            x = ramp(20_000 + 1000 * number)
            x[0] = number
            with await asyncio.to_thread(put, pool, x) as lease:
                assert await served.ask(lease) == (200, sums(x))

        await asyncio.gather(*(one(number) for number in range(24)))

        # outputs as well
        x = ramp(5000)
        with put(pool, x) as lease, put(pool, np.full(2, -1, np.float32)) as output:
            assert await served.ask(lease, output) == (200, None)
            assert np.frombuffer(output.view, np.float32).tolist() == sums(x)
        await refusal(served, caplog)


async def refusal(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A Triton that cannot open the region, as in a container with a /dev/shm of its own."""
    other = SharedMemory(8 * MiB)
    (SHM / other.region).unlink()
    caplog.clear()
    assert [await other.register(served.control) for _ in range(2)] == [False, False]
    assert [record.levelname for record in caplog.records if record.name == "listener.triton"] == ["WARNING"]
    assert other.lease(1) is None
    other.close()


async def test_a_killed_triton_learns_of_the_region_again_and_parked_leases_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        pool, x = served.pool, ramp(1000)
        assert await pool.register(served.control)
        with put(pool, np.array([1, 2, 60], np.float32)) as slow:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await served.ask(slow)
            slow.park()
        assert await pool.register(served.control)
        assert pool.lease(pool.size) is None
        await served.kill()
        assert not await pool.register(served.control)
        assert "shared memory" not in caplog.text  # nobody refused
        await served.start()
        assert await pool.register(served.control)
        with put(pool, x) as lease:
            assert lease.offset == slow.offset
            assert await served.ask(lease) == (200, sums(x))
        everything = pool.lease(pool.size)
        assert everything
        everything.release()


OWNER = """
import asyncio, sys
from tritonclient.http.aio import InferenceServerClient
from listener.triton.shm import SharedMemory

async def main():
    pool = SharedMemory(8 << 20)
    control = InferenceServerClient(sys.argv[1])
    print(pool.region, await pool.register(control), flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_a_killed_worker_leaves_nothing_though_triton_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        command = [sys.executable, "-c", OWNER, served.server.url.removeprefix("http://")]
        owner = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert owner.stdout
        region, registered = (await owner.stdout.readline()).decode().split()
        assert registered == "True"
        pages = os.open(SHM / region, os.O_RDONLY)
        sweep()
        assert os.fstat(pages).st_blocks > 0
        owner.kill()
        await owner.wait()
        with_its_own = SharedMemory(8 * MiB)  # as the worker that comes in its place
        assert not (SHM / region).exists()
        assert os.fstat(pages).st_blocks == 0
        os.close(pages)
        assert await with_its_own.register(served.control)
        x = ramp(1000)
        with put(with_its_own, x) as lease:
            assert await served.ask(lease) == (200, sums(x))
        with_its_own.close()
        assert not list(SHM.glob(f"{with_its_own.region}*"))


# Large outputs

ROW = 4 * 3 * 256 * 256  # bytes of y


class Watched(SharedMemory):
    """Remembers the leases that outputs got."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.given: list[Lease] = []

    def lease(self, nbytes: int, for_output: bool = False) -> Lease | None:
        lease = super().lease(nbytes, for_output)
        if lease and for_output:
            self.given.append(lease)
        return lease


@asynccontextmanager
async def calling(served: Served, name: str, size: int) -> AsyncIterator[tuple[Model, Watched]]:
    """A model whose client shares a pool of its own with Triton."""
    memory = Watched(size)
    client = TritonClient(served.server.url, memory)
    await client.open()
    try:
        await client.introduce()
        model = Model(name, client)
        await model.read_spec()
        yield model, memory
    finally:
        await client.close()


def row(number: float, wait: float = 0) -> NDArray[Any]:
    """[1, 16]"""
    x = np.zeros((1, 16), np.float32)
    x[0, 0], x[0, -1] = number, wait
    return x


def is_right(outputs: dict[str, NDArray[Any]], *numbers: float, columns: int = 256) -> bool:
    ramp = np.arange(3 * 256 * columns, dtype=np.float32).reshape(3, 256, columns)
    wanted = np.array(numbers, np.float32)[:, None, None, None] + ramp
    return bool(outputs["y"].shape == wanted.shape and (outputs["y"] == wanted).all() and (outputs["n"] >= 1).all())


async def test_large_outputs_come_through_shared_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as served:
        async with calling(served, "wide", 32 * MiB) as (model, memory):
            first = await model.infer({"x": row(7)})
            batched = await model.infer({"x": np.concatenate([row(number) for number in range(6)])})
            assert is_right(first, 7)
            assert is_right(batched, *range(6))
            assert [lease.nbytes // ROW for lease in memory.given] == [1, 4, 2]
            together = await asyncio.gather(*(model.infer({"x": row(number)}) for number in range(40)))
            assert all(is_right(outputs, number) for number, outputs in enumerate(together))
            assert len(memory.given) < 40  # some requests shared a call
            everything = memory.lease(memory.size)
            assert everything
            everything.release()
        await with_little_room(served)
        await given_up(served)
        await late(served)
        await larger_than_it_says(served, caplog)


async def with_little_room(served: Served) -> None:
    async with calling(served, "wide", 4 * MiB) as (model, memory):
        together = await asyncio.gather(*(model.infer({"x": row(number)}) for number in range(40)))
        assert all(is_right(outputs, number) for number, outputs in enumerate(together))
        given = len(memory.given)
        assert given
        everything = memory.lease(memory.size)
        assert everything
        with everything:
            assert is_right(await model.infer({"x": row(3)}), 3)
        assert len(memory.given) == given


async def given_up(served: Served) -> None:
    """A call that goes on in Triton writes into nobody's tensor."""
    async with calling(served, "wide", 32 * MiB) as (model, memory):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await model.infer({"x": row(1000, wait=0.6)})
        [slow] = memory.given
        await asyncio.sleep(0.05)  # the call hears of it a few turns later
        assert memory.is_parked(slow)
        for number in range(40):
            assert is_right(await model.infer({"x": row(number)}), number)
            await asyncio.sleep(0.02)
        assert memory.given[1].offset != slow.offset
        assert memory.given[-1].offset == slow.offset  # Triton has answered, so it is free again


async def late(served: Served) -> None:
    """A call that took longer than its own time is given up in the same way."""
    async with calling(served, "wide", 32 * MiB) as (model, memory):
        with pytest.raises(DeadlineExceeded, match=r"model 'wide' took longer than its 0\.2 s"):
            await model.infer({"x": row(1000, wait=0.6)}, timeout=0.2)
        [slow] = memory.given
        await asyncio.sleep(0.05)
        assert memory.is_parked(slow)
        assert is_right(await model.infer({"x": row(3)}, timeout=20), 3)


async def larger_than_it_says(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    async with calling(served, "liar", 32 * MiB) as (model, memory):
        for number in range(3):
            assert is_right(await model.infer({"x": row(number)}), number, columns=257)
        assert len(memory.given) == 1
    [warning] = [record.getMessage() for record in caplog.records if record.name == "listener.triton"]
    assert "'liar'" in warning
    assert f"({ROW} bytes) should be at least {ROW + 4 * 3 * 256} bytes" in warning
