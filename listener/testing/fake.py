"""A Triton that is none: it answers the few endpoints that the listener calls or hands on, over a real loopback port.

Its models are functions of yours. It is for your own logic; what Triton itself does is tested against Triton.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from aiohttp import web
from numpy.typing import NDArray
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from listener import bf16
from listener.tensors import NUMPY, PAD

Tensors = dict[str, NDArray[Any]]
_HEADER_LENGTH = "Inference-Header-Content-Length"
#: As many of Triton's as there are ways to tell them apart: some that the listener serves, and some that it does not.
_EXTENSIONS = ("classification", "model_repository", "binary_tensor_data", "system_shared_memory", "generate", "trace")


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
        versions: those that can be called; the last one is Triton's choice.
        events: makes it a decoupled model: from the JSON of a generate request to any number of responses, outputs by
            name.
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
    versions: Sequence[str] = ("1",)
    events: Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]] | None = None

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
            "model_transaction_policy": {"decoupled": self.events is not None},
        }

    def metadata(self, name: str) -> dict[str, Any]:
        """Triton's model metadata, whose shapes begin with the batch."""
        batch = [-1] if self.max_batch_size else []
        inputs, outputs = (
            [{"name": key, "datatype": datatype, "shape": [*batch, *shape]} for key, (datatype, shape) in of.items()]
            for of in (self.inputs, self.outputs)
        )
        return {
            "name": name,
            "versions": list(self.versions),
            "platform": "fake",
            "inputs": inputs,
            "outputs": outputs,
        }


@dataclass
class FakeTriton:
    """Models behind the few HTTP endpoints that the listener calls. Use `async with fake.running() as url`.

    Its metrics are at the same URL, for the setting `triton_metrics_url`.

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
        async with _serving(web.AppRunner(self.application(), access_log=None, handler_cancellation=True)) as url:
            yield url

    def application(self) -> web.Application:
        """What is served."""
        made = web.Application(client_max_size=64 << 20)
        made.router.add_get("/v2", self._server)
        made.router.add_get("/v2/health/live", self._live)
        made.router.add_get("/v2/health/ready", self._ready)
        made.router.add_get("/metrics", self._metrics)
        made.router.add_get("/v2/models/stats", self._statistics)
        made.router.add_post("/v2/repository/index", self._index)
        for base in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            made.router.add_get(base, self._metadata)
            made.router.add_get(f"{base}/ready", self._model_ready)
            made.router.add_get(f"{base}/config", self._config)
            made.router.add_get(f"{base}/stats", self._statistics)
            made.router.add_post(f"{base}/infer", self._infer)
            made.router.add_post(f"{base}/generate", self._generate)
            made.router.add_post(f"{base}/generate_stream", self._generate_stream)
        return made

    async def _server(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "fake", "version": "0", "extensions": list(_EXTENSIONS)})

    async def _live(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.ready else 400)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text="nv_inference_request_success 0\n")

    async def _index(self, request: web.Request) -> web.Response:
        entries: list[dict[str, str]] = []
        for name, model in self.models.items():
            state = {"state": "READY" if model.ready else "UNAVAILABLE"}
            entries += [{"name": name, "version": version, **state} for version in model.versions]
        return web.json_response(entries)

    async def _model_ready(self, request: web.Request) -> web.Response:
        model = self.models.get(request.match_info["name"])
        version = request.match_info.get("version")
        is_there = model is not None and model.ready and (version is None or version in model.versions)
        return web.Response(status=200 if self.ready and is_there else 400)

    async def _metadata(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request).metadata(request.match_info["name"]))

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request).config(request.match_info["name"]))

    async def _statistics(self, request: web.Request) -> web.Response:
        names = list(self.models)
        if name := request.match_info.get("name"):
            self._found(request)
            names = [name]
        return web.json_response({"model_stats": [{"name": name} for name in names]})

    async def _infer(self, request: web.Request) -> web.Response:
        model, length = self._found(request), request.headers.get(_HEADER_LENGTH)
        body = await request.read()
        try:
            inputs, counts = _decode(body, None if length is None else int(length))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(**_as_error(f"the fake cannot read the request: {error!r}")) from None
        self.batches.append(len(next(iter(inputs.values()))) if inputs else 1)
        await asyncio.sleep(self.delay)
        if self.fail_with is not None:
            return web.json_response({"error": "the fake was told to fail"}, status=self.fail_with)
        try:
            outputs = model.run(inputs)
        except (ValueError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400)
        said = {"model_name": request.match_info["name"], "model_version": _version(request, model)}
        if length is None:
            return web.json_response({**said, "outputs": _as_json(outputs, model)})
        body, header_length = _encode(said, outputs, model, counts)
        return web.Response(body=body, headers={_HEADER_LENGTH: str(header_length)})

    async def _generate(self, request: web.Request) -> web.Response:
        events = [event async for event in self._events(request)]
        if len(events) != 1:
            return web.json_response({"error": "generate expects model to produce exactly 1 response"}, status=400)
        return web.json_response(events[0])

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        with contextlib.suppress(ConnectionError):  # whoever asked has left, which is no failure of the fake
            async with contextlib.aclosing(self._events(request)) as events:
                async for event in events:
                    await answer.prepare(request)
                    await answer.write(b"data: %b\n\n" % orjson.dumps(event))
            await answer.prepare(request)
            await answer.write_eof()
        return answer

    async def _events(self, request: web.Request) -> AsyncGenerator[dict[str, Any], None]:
        """What a model answers; a ValueError of its own is its refusal."""
        model = self._found(request)
        said = {"model_name": request.match_info["name"], "model_version": _version(request, model)}
        begun = False
        try:
            given = orjson.loads(await request.read())
            if model.events is None or not isinstance(given, dict):
                raise ValueError("the fake model has no events for this")
            async with contextlib.aclosing(model.events(given)) as events:
                async for event in events:
                    yield {**said, **event}
                    begun = True
        except ValueError as error:
            if not begun:
                raise web.HTTPBadRequest(**_as_error(str(error))) from None
            yield {"error": str(error)}

    def _found(self, request: web.Request) -> FakeModel:
        """The model of a path; 404 as Triton says it."""
        name, version = request.match_info["name"], request.match_info.get("version")
        model = self.models.get(name)
        if model is not None and (version is None or version in model.versions):
            return model
        raise web.HTTPNotFound(**_as_error(f"Request for unknown model: {name!r} is not found"))


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


def _as_error(sentence: str) -> dict[str, Any]:
    return {"text": orjson.dumps({"error": sentence}).decode(), "content_type": "application/json"}


def _version(request: web.Request, model: FakeModel) -> str:
    return request.match_info.get("version", model.versions[-1])


def _decode(body: bytes, header_length: int | None) -> tuple[Tensors, dict[str, int]]:
    """The inputs, and for outputs how many classes are asked for."""
    document = orjson.loads(body[:header_length])
    tensors, offset = {}, header_length or 0
    for entry in document["inputs"]:
        datatype, shape = entry["datatype"], entry["shape"]
        if "data" in entry:
            tensors[entry["name"]] = np.array(entry["data"], NUMPY[datatype]).reshape(shape)
            continue
        size = entry["parameters"]["binary_data_size"]
        raw, offset = body[offset : offset + size], offset + size
        if datatype == "BYTES":
            flat: NDArray[Any] = deserialize_bytes_tensor(raw)
        elif datatype == "BF16":
            flat = bf16.unpacked(np.frombuffer(raw, np.uint16))
        else:
            flat = np.frombuffer(raw, NUMPY[datatype])
        tensors[entry["name"]] = flat.reshape(shape)
    asked = document.get("outputs", ())
    return tensors, {entry["name"]: entry.get("parameters", {}).get("classification", 0) for entry in asked}


def _encode(
    said: Mapping[str, str], outputs: Tensors, model: FakeModel, counts: Mapping[str, int]
) -> tuple[bytes, int]:
    entries, blobs = [], []
    for name, array in outputs.items():
        datatype = model.outputs[name][0]
        if counts.get(name):
            datatype, array = "BYTES", _classes(array, model.labels[name], counts[name], model.max_batch_size > 0)
        raw = _contents(array, datatype)
        blobs.append(raw)
        parameters = {"binary_data_size": len(raw)}
        entries.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": parameters})
    header = orjson.dumps({**said, "outputs": entries})
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


def _as_json(outputs: Tensors, model: FakeModel) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": model.outputs[name][0], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in outputs.items()
    ]
