"""Large outputs through shared memory: leases are taken and come back, or are kept, and without them come bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from aiohttp import web
from numpy.typing import NDArray

from listener.errors import TritonFailed, Unavailable
from listener.tensors import ModelSpec, TensorSpec
from listener.triton.answers import Answer
from listener.triton.client import TritonClient
from listener.triton.codec import Codec
from listener.triton.placing import Places
from listener.triton.shm import SharedMemory

WIDE = 64 << 10  # numbers of FP32, 256 KiB
SPEC = ModelSpec(
    "m", (TensorSpec("X", "FP32", (1,)),), (TensorSpec("Y", "FP32", (WIDE,)), TensorSpec("N", "INT64", ())), 8
)


class Wide:
    """A Triton with one model: each row of Y is full of that row's number, N is the number of rows.

    Attributes:
        asked: of each call, the names of the outputs that had a place.
        width: of a row of Y in truth.
        gate: calls wait for it before they write.
        answers: instead of the model's, one call each.
    """

    def __init__(self, shm: Path) -> None:
        self._shm = shm
        self.asked: list[list[str]] = []
        self.width = WIDE
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[web.Response] = []
        self.begun = asyncio.Event()

    async def infer(self, request: web.Request) -> web.Response:
        body, length = await request.read(), int(request.headers["Inference-Header-Content-Length"])
        said = orjson.loads(body[:length])
        places = {output["name"]: output["parameters"] for output in said["outputs"]}
        self.asked.append([name for name, place in places.items() if "shared_memory_region" in place])
        self.begun.set()
        await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        x = np.frombuffer(body[length:], np.float32)
        assert said["inputs"][0]["shape"] == [len(x), 1]
        outputs = {"Y": np.repeat(x[:, None], self.width, axis=1), "N": np.full(len(x), len(x), np.int64)}
        return self._reply(outputs, places)

    def _reply(self, outputs: dict[str, NDArray[Any]], places: dict[str, dict[str, Any]]) -> web.Response:
        entries, binary = [], b""
        for name, array in outputs.items():
            datatype = {"f": "FP32", "i": "INT64"}[array.dtype.kind]
            entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
            if (place := places[name]) == {"binary_data": True}:
                binary += array.tobytes()
                entry["parameters"] = {"binary_data_size": array.nbytes}
            elif (size := place["shared_memory_byte_size"]) < array.nbytes:
                return too_small(size, array.nbytes)
            else:
                self._write(place, array)
            entries.append(entry)
        header = orjson.dumps({"outputs": entries})
        lengths = {"Inference-Header-Content-Length": str(len(header))} if binary else {}
        return web.Response(body=header + binary, headers=lengths)

    def _write(self, place: dict[str, Any], array: NDArray[Any]) -> None:
        with (self._shm / place["shared_memory_region"]).open("r+b") as region:
            region.seek(place.get("shared_memory_offset", 0))
            region.write(array.tobytes())


def too_small(size: int, wanted: int) -> web.Response:
    text = (
        f"shared memory size specified with the request for output 'Y' ({size} bytes) should be at least {wanted} bytes"
        " to hold the results"
    )
    return web.json_response({"error": text}, status=500)


@pytest.fixture
async def triton(tmp_path: Path) -> Wide:
    return Wide(tmp_path)


@contextlib.asynccontextmanager
async def calling(triton: Wide, memory: SharedMemory) -> AsyncIterator[tuple[TritonClient, Codec]]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v2/models/m/infer", triton.infer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = TritonClient(f"http://127.0.0.1:{runner.addresses[0][1]}", memory)
    await client.open()
    try:
        yield client, client.codec(SPEC)
    finally:
        triton.gate.set()
        await client.close()
        await runner.cleanup()


def rows(*numbers: float) -> dict[str, NDArray[Any]]:
    return {"X": np.array(numbers, np.float32)[:, None]}


def right(outputs: dict[str, NDArray[Any]], *numbers: float) -> bool:
    wanted = np.repeat(np.array(numbers, np.float32)[:, None], WIDE, axis=1)
    return list(outputs) == ["Y", "N"] and bool((outputs["Y"] == wanted).all() and (outputs["N"] == len(numbers)).all())


def all_is_free(memory: SharedMemory) -> bool:
    lease = memory.lease(memory.size)
    if lease:
        lease.release()
    return lease is not None


async def test_a_large_output_comes_through_a_lease_that_is_free_again(triton: Wide, memory: SharedMemory) -> None:
    async with calling(triton, memory) as (client, codec):
        first = await client.infer("m", codec, [rows(1)])
        assert all_is_free(memory)
        several = await client.infer("m", codec, [rows(2, 3), rows(4), rows(5)])
        assert right(first, 1)  # it was copied
        assert right(several, 2, 3, 4, 5)
        assert all_is_free(memory)
    assert triton.asked == [["Y"], ["Y"]]


async def test_calls_at_a_time_have_a_place_each(triton: Wide, memory: SharedMemory) -> None:
    async with calling(triton, memory) as (client, codec):
        found = await asyncio.gather(*(client.infer("m", codec, [rows(number, -number)]) for number in range(20)))
    assert all(right(outputs, number, -number) for number, outputs in enumerate(found))
    assert triton.asked == [["Y"]] * 20


async def test_without_room_it_comes_as_bytes(triton: Wide, memory: SharedMemory) -> None:
    async with calling(triton, memory) as (client, codec):
        with contextlib.closing(memory), memory.lease(memory.size - (1 << 20)) or contextlib.nullcontext():
            assert right(await client.infer("m", codec, [rows(*range(8))]), *range(8))
            assert right(await client.infer("m", codec, [rows(*range(4))]), *range(4))
        assert right(await client.infer("m", codec, [rows(1)]), 1)
    assert triton.asked == [[], ["Y"], []]


@pytest.mark.parametrize("lost", [False, True], ids=["cancelled", "connection lost"])
async def test_the_place_of_a_call_without_answer_is_kept(triton: Wide, memory: SharedMemory, lost: bool) -> None:
    triton.gate.clear()
    async with calling(triton, memory) as (client, codec):
        call = asyncio.create_task(client.infer("m", codec, [rows(1)]))
        await triton.begun.wait()
        if lost:
            await client._wire.close()
        else:
            call.cancel()
        with pytest.raises(Unavailable if lost else asyncio.CancelledError):
            await call
        [(lease, until)] = memory._out.items()
        assert lease.for_output
        assert until - memory._clock() == pytest.approx(7200, abs=60)
        assert not all_is_free(memory)


async def test_a_model_that_is_larger_than_it_says_is_asked_for_bytes(
    triton: Wide, memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    triton.width = WIDE + 1
    async with calling(triton, memory) as (client, codec):
        calls = [client.infer("m", codec, [rows(number)]) for number in range(3)]
        for number, outputs in enumerate(await asyncio.gather(*calls)):
            assert outputs["Y"].shape == (1, WIDE + 1)
            assert (outputs["Y"] == number).all()
        await client.infer("m", codec, [rows(1)])
        assert all_is_free(memory)
    assert triton.asked == [["Y"]] * 3 + [[]] * 4
    [record] = [record for record in caplog.records if record.name == "listener.triton"]
    assert (record.levelname, "'m'" in record.getMessage()) == ("WARNING", True)
    assert f"({4 * WIDE} bytes) should be at least {4 * WIDE + 4} bytes" in record.getMessage()


async def test_one_that_is_smaller_is_not(triton: Wide, memory: SharedMemory) -> None:
    triton.width = WIDE - 1
    async with calling(triton, memory) as (client, codec):
        for _ in range(2):
            assert (await client.infer("m", codec, [rows(3)]))["Y"].shape == (1, WIDE - 1)
    assert triton.asked == [["Y"]] * 2


async def test_a_triton_that_does_not_know_the_region_is_asked_for_bytes(triton: Wide, memory: SharedMemory) -> None:
    triton.answers = [web.json_response({"error": "Unable to find shared memory region: 'x'"}, status=400)]
    async with calling(triton, memory) as (client, codec):
        for _ in range(2):
            assert right(await client.infer("m", codec, [rows(1)]), 1)
    assert memory.lease(1) is None
    assert triton.asked == [["Y"], [], []]


async def test_an_answer_that_does_not_fit_is_none(triton: Wide, memory: SharedMemory) -> None:
    triton.answers = [web.Response(body=b'{"outputs":[{"name":"Y","datatype":"FP32","shape":[2,999999]}]}')]
    async with calling(triton, memory) as (client, codec):
        with pytest.raises(TritonFailed, match="cannot be read"):
            await client.infer("m", codec, [rows(1)])
        assert all_is_free(memory)


async def test_a_call_that_was_given_up_frees_its_places_when_triton_has_answered(
    triton: Wide, memory: SharedMemory
) -> None:
    triton.gate.clear()
    async with calling(triton, memory) as (client, codec):
        call = asyncio.create_task(client.infer("m", codec, [rows(1)]))
        await triton.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [memory.is_parked(lease) for lease in memory._out] == [True]
        triton.gate.set()
        async with asyncio.timeout(5):
            while memory._out:
                await asyncio.sleep(0.01)
        assert all_is_free(memory)
        assert right(await client.infer("m", codec, [rows(1)]), 1)


async def test_a_call_that_is_given_up_as_its_answer_comes_frees_its_places(triton: Wide, memory: SharedMemory) -> None:
    answered = asyncio.Event()

    async def exchange() -> Answer:
        answered.set()
        return Answer(200, {}, b"")

    async with calling(triton, memory) as (client, _):
        lease = memory.lease(4 * WIDE, for_output=True)
        assert lease is not None
        with lease:
            call = asyncio.create_task(client._see_through(exchange(), Places([], {}, [lease], [])))
            await answered.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await asyncio.sleep(0)
        assert all_is_free(memory)
