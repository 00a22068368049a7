"""For tests of handlers and of services: a Triton that is none, and a listener with production's flags in front of it.

`FakeTriton` answers the few endpoints that the listener calls, over a real loopback port, with functions of yours as
models. It is for your own logic; what Triton itself does is tested against Triton.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from listener import app, bf16, settings
from listener.tensors import NUMPY, PAD

Tensors = dict[str, NDArray[Any]]
_HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass
class FakeModel:
    """A model as a function.

    Attributes:
        inputs: datatype and per-instance shape by name, as `{"X": ("FP32", [64])}`.
        outputs: likewise.
        run: from the inputs, batch dimension included, to the outputs.
        max_batch_size: 0 = without batching.
        ready: answer of its readiness check.
        labels: names of the classes, by output.
        optional: inputs that requests may leave out.
        ragged: inputs whose rows may differ in shape.
        pad: the configuration's `listener_pad`.
    """

    inputs: Mapping[str, tuple[str, list[int]]]
    outputs: Mapping[str, tuple[str, list[int]]]
    run: Callable[[Tensors], Tensors]
    max_batch_size: int = 64
    ready: bool = True
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    optional: Collection[str] = ()
    ragged: Collection[str] = ()
    pad: str | None = None

    def config(self, name: str) -> dict[str, Any]:
        """Triton's ModelConfig."""
        return {
            "name": name,
            "max_batch_size": self.max_batch_size,
            "input": [
                {**_entry(key, *tensor), "optional": key in self.optional, "allow_ragged_batch": key in self.ragged}
                for key, tensor in self.inputs.items()
            ],
            "output": [
                {**_entry(key, *tensor), "label_filename": "labels.txt" if key in self.labels else ""}
                for key, tensor in self.outputs.items()
            ],
            "parameters": {} if self.pad is None else {PAD: {"string_value": self.pad}},
        }


@dataclass
class FakeTriton:
    """Models behind the few HTTP endpoints that the listener calls. Use `async with fake.running() as url`.

    Attributes:
        models: by name.
        ready: answer of the server's readiness check.
        fail_with: a status to answer inference with instead of running the model; None = run it.
        batches: the batch size of every inference call so far.
    """

    models: dict[str, FakeModel] = field(default_factory=dict)
    ready: bool = True
    fail_with: int | None = None
    delay: float = 0.0
    batches: list[int] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serves on a free loopback port; gives the URL."""
        server = web.Application(client_max_size=64 << 20)
        server.router.add_get("/v2/health/ready", self._ready)
        server.router.add_post("/v2/repository/index", self._index)
        server.router.add_get("/v2/models/{name}/ready", self._model_ready)
        server.router.add_get("/v2/models/{name}/config", self._config)
        for which in ("", "/versions/1"):
            server.router.add_post(f"/v2/models/{{name}}{which}/infer", self._infer)
        async with _serving(web.AppRunner(server, access_log=None, handler_cancellation=True)) as url:
            yield url

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 400)

    async def _index(self, request: web.Request) -> web.Response:
        return web.json_response([{"name": name, "version": "1", "state": "READY"} for name in self.models])

    async def _model_ready(self, request: web.Request) -> web.Response:
        model = self.models.get(request.match_info["name"])
        return web.Response(status=200 if self.ready and model and model.ready else 400)

    async def _config(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.models:
            return web.json_response({"error": f"Request for unknown model: '{name}' is not found"}, status=404)
        return web.json_response(self.models[name].config(name))

    async def _infer(self, request: web.Request) -> web.Response:
        model = self.models[request.match_info["name"]]
        body, length = await request.read(), int(request.headers[_HEADER_LENGTH])
        said, inputs = orjson.loads(body[:length]), _decode(body, length)
        self.batches.append(len(next(iter(inputs.values()))) if inputs else 1)
        await asyncio.sleep(self.delay)
        if self.fail_with is not None:
            return web.json_response({"error": "the fake was told to fail"}, status=self.fail_with)
        try:
            outputs = model.run(inputs)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        counts = {entry["name"]: entry["parameters"].get("classification", 0) for entry in said.get("outputs", ())}
        body, header_length = _encode(request.match_info["name"], outputs, model, counts)
        return web.Response(body=body, headers={_HEADER_LENGTH: str(header_length)})


@contextlib.asynccontextmanager
async def listening(service: Path, triton_url: str, **overrides: Any) -> AsyncIterator[str]:
    """A listener with production's flags, in this process, on a free loopback port.

    Args:
        service: the folder with listener.yaml.
        triton_url: of a FakeTriton or a Triton.
        **overrides: settings by field name, such as `max_body=1024`.

    Gives:
        Its base URL. The service loads behind it: `await until_ready(url)`.
    """
    given = {"service": service, "triton_url": triton_url, "host": "127.0.0.1", **overrides}
    listener = app.Listener(settings.read({}, **given))
    listening = socket.create_server(("127.0.0.1", 0))
    async with app.serving(listener, listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def until_ready(url: str, timeout: float = 10.0) -> None:
    """Waits for 200 on /health.

    Raises:
        TimeoutError: with the last answer, if that takes longer than `timeout` seconds.
    """
    answer = ""
    async with aiohttp.ClientSession() as session:
        for _ in range(int(timeout / 0.05)):
            async with session.get(f"{url}/health") as response:
                answer = await response.text()
                if response.status == 200:
                    return
            await asyncio.sleep(0.05)
    raise TimeoutError(f"not ready after {timeout} s: {answer}")


@contextlib.asynccontextmanager
async def _serving(runner: web.AppRunner) -> AsyncIterator[str]:
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _entry(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}", "dims": shape}


def _decode(body: bytes, header_length: int) -> Tensors:
    tensors, offset = {}, header_length
    for entry in orjson.loads(body[:header_length])["inputs"]:
        size = entry["parameters"]["binary_data_size"]
        raw, offset = body[offset : offset + size], offset + size
        if entry["datatype"] == "BYTES":
            flat: NDArray[Any] = deserialize_bytes_tensor(raw)
        elif entry["datatype"] == "BF16":
            flat = bf16.unpacked(np.frombuffer(raw, np.uint16))
        else:
            flat = np.frombuffer(raw, NUMPY[entry["datatype"]])
        tensors[entry["name"]] = flat.reshape(entry["shape"])
    return tensors


def _encode(model_name: str, outputs: Tensors, model: FakeModel, counts: Mapping[str, int]) -> tuple[bytes, int]:
    entries, blobs = [], []
    for name, array in outputs.items():
        datatype = model.outputs[name][0]
        if counts.get(name):
            datatype, array = "BYTES", _classes(array, model.labels[name], counts[name], model.max_batch_size > 0)
        raw = _contents(array, datatype)
        blobs.append(raw)
        parameters = {"binary_data_size": len(raw)}
        entries.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": parameters})
    header = orjson.dumps({"model_name": model_name, "model_version": "1", "outputs": entries})
    return b"".join([header, *blobs]), len(header)


def _contents(array: NDArray[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        return bytes(serialize_byte_tensor(array).item()) if array.size else b""
    made = array.astype(NUMPY[datatype])
    return (bf16.packed(made) if datatype == "BF16" else made).tobytes()


def _classes(array: NDArray[Any], labels: Sequence[str], count: int, batches: bool) -> NDArray[Any]:
    """The best of each row, in Triton's words."""
    rows = array.reshape(len(array) if batches else 1, -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    said = [[f"{row[i]:f}:{i}:{labels[i]}".encode() for i in places] for row, places in zip(rows, best, strict=True)]
    made = np.array(said, np.object_)
    return made if batches else made[0]
