"""The wire and the codec against the real Triton: a model that gives back what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from listener import probe
from listener.tensors import NUMPY, ModelSpec
from listener.triton.client import TritonClient
from listener.triton.codec import Codec, Region
from listener.triton.wire import Answer, ConnectionLost, Wire
from tests.integration.stack import Stack, free_port, wait_for

pytestmark = pytest.mark.triton

BACK = """
import json, time
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([back(tensor) for tensor in request.inputs()]) for request in requests]


def back(tensor):
    name = tensor.name() + "_OUT"
    if tensor.name() == "BF16":  # which numpy does not have
        return pb.Tensor.from_dlpack(name, tensor.to_dlpack())
    return pb.Tensor(name, tensor.as_numpy())
"""


def config(name: str) -> str:
    lines = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 64", "dynamic_batching { }"]
    for datatype in NUMPY:
        kind = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
        lines.append(f'input {{ name: "{datatype}" data_type: {kind} dims: [ -1 ] optional: true }}')
        lines.append(f'output {{ name: "{datatype}_OUT" data_type: {kind} dims: [ -1 ] }}')
    return "\n".join(lines)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a Triton with the model `back`."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "models" / "back" / "1").mkdir(parents=True)
    (folder / "models" / "back" / "1" / "model.py").write_text(BACK)
    (folder / "models" / "back" / "config.pbtxt").write_text(config("back"))
    (folder / "listener.yaml").write_text("repository: models\nroutes:\n  any: {}\n")
    found = f"127.0.0.1:{free_port()}"
    stack = Stack(
        folder / "triton.log",
        "triton",
        service=folder,
        LISTENER_TRITON_URL=found,
        LISTENER_TRITON_ARGS=shlex.join(["--allow-metrics=false"]),
    )
    try:
        wait_for(lambda: probe.get(f"http://{found}/v2/health/ready", 5)[0] == 200, 60, stack.output)
        yield found
    finally:
        stack.stop()


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[tuple[Wire, ModelSpec]]:
    host, _, port = address.partition(":")
    client, wire = TritonClient(f"http://{address}"), Wire(host, int(port), 4)
    await client.open()
    try:
        yield wire, await client.spec("back")
    finally:
        await wire.close()
        await client.close()


async def infer(wire: Wire, codec: Codec, *groups: Any) -> tuple[Answer, dict[str, Any]]:
    answer = await wire.send(*codec.request(codec.as_sent(groups)))
    assert answer.status == 200, answer
    return answer, codec.response(answer.body, answer.headers.get("inference-header-content-length"))


def every(rows: int, seed: int, size: int = 5) -> dict[str, Any]:
    """Random contents for every datatype, [rows, size] each; floats are not NaN."""
    random = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name, dtype in NUMPY.items():
        if name == "BYTES":
            flat = np.empty(rows * size, np.object_)
            flat[:] = [random.bytes(int(length)) for length in random.integers(0, 9, rows * size)]
            made[name] = flat.reshape(rows, size)
        else:
            made[name] = random.integers(0, 2 if name == "BOOL" else 100, (rows, size)).astype(dtype)
    return made


async def test_every_datatype_comes_back_from_groups(address: str) -> None:
    async with connected(address) as (wire, spec):
        codec = Codec(spec, address)
        for seed in range(3):
            groups = [every(rows, 10 * seed + rows) for rows in (1, 3, 2)]
            _, outputs = await infer(wire, codec, *groups)
            joined = {name: np.concatenate([group[name] for group in groups]) for name in NUMPY}
            for name in NUMPY:
                np.testing.assert_array_equal(outputs[f"{name}_OUT"], joined[name])
        assert len(wire._open) == 1


async def test_answers_of_one_shape_have_one_head(address: str) -> None:
    """What the kept heads and layouts live by."""
    async with connected(address) as (wire, spec):
        codec = Codec(spec, address)
        one, _ = await infer(wire, codec, {"FP32": np.zeros((2, 3), np.float32)})
        two, _ = await infer(wire, codec, {"FP32": np.ones((2, 3), np.float32)})
        assert one.headers is two.headers
        assert len(codec._layouts) == 1


async def test_megabytes_and_many_at_once(address: str) -> None:
    async with connected(address) as (wire, spec):
        codec = Codec(spec, address)

        async def call(number: int) -> None:
            array = np.full((2, 500_000), number, np.float32)  # 4 MB
            _, outputs = await infer(wire, codec, {"FP32": array}, {"FP32": array + 1})
            np.testing.assert_array_equal(outputs["FP32_OUT"], np.concatenate([array, array + 1]))

        await asyncio.gather(*(call(number) for number in range(12)))
        assert len(wire._open) == 4


async def test_refusals_keep_the_connection(address: str) -> None:
    async with connected(address) as (wire, spec):
        codec = Codec(spec, address)
        for _ in range(3):
            answer = await wire.send(*codec.request([{"nope": np.ones((1, 1), np.int8)}]))
            assert answer.status == 400
            assert "nope" in json.loads(answer.body)["error"]
        assert len(wire._open) == 1


SHARED = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def region() -> Iterator[tuple[str, int]]:
    """Name and size of a shared memory that holds SHARED from byte 64 on."""
    path = Path(f"/dev/shm/listener-test-{os.getpid()}")
    path.write_bytes(bytes(64) + SHARED.tobytes())
    yield path.name, path.stat().st_size
    path.unlink()


async def test_an_input_in_shared_memory(address: str, region: tuple[str, int]) -> None:
    said = json.dumps({"key": region[0], "offset": 0, "byte_size": region[1]}).encode()
    registering = b"POST /v2/systemsharedmemory/region/r/register HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with connected(address) as (wire, spec):
        answer = await wire.send(registering % len(said), [said])
        if answer.status != 200:
            pytest.skip(f"this Triton takes no regions: {answer.body!r}")
        shared = Region("r", 64, SHARED.nbytes, "FP32", SHARED.shape)
        for more in ({}, {"INT8": np.ones((3, 1), np.int8)}):
            _, outputs = await infer(wire, Codec(spec, address), {"FP32": shared, **more})
            np.testing.assert_array_equal(outputs["FP32_OUT"], SHARED)


async def test_a_triton_that_is_gone(address: str) -> None:
    wire = Wire("127.0.0.1", free_port(), 1)
    with pytest.raises(ConnectionLost):
        await wire.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
    await wire.close()
