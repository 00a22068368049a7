"""A Triton that is none: it answers the few endpoints that the listener calls or hands on, over a real loopback port.

Its models are functions of yours. It is for your own logic; what Triton itself does is tested against Triton.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from listener.testing import fake_bodies
from listener.testing.fake_model import FakeModel

_HEADER_LENGTH = "Inference-Header-Content-Length"
#: As many of Triton's as there are ways to tell them apart: some that the listener serves, and some that it does not.
#: Shared memory is not among them, so tensors come as bytes.
_EXTENSIONS = ("classification", "model_repository", "binary_tensor_data", "generate", "trace")


@dataclass
class FakeTriton:
    """Models behind the few HTTP endpoints that the listener calls. Use `async with fake.running() as url`.

    Its metrics are at the same URL, for the setting `triton_metrics_url`.

    Attributes:
        models: by name.
        ready: answer of the server's readiness check.
        delay: seconds that each inference call takes, of any model.
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
            inputs, counts = fake_bodies.decode(body, None if length is None else int(length))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(**_as_error(f"the fake cannot read the request: {error!r}")) from None
        self.batches.append(len(next(iter(inputs.values()))) if inputs else 1)
        await asyncio.sleep(self.delay + model.delay)
        if self.fail_with is not None:
            return web.json_response({"error": "the fake was told to fail"}, status=self.fail_with)
        try:
            outputs = model.answer(inputs, request.match_info.get("version"))
        except (ValueError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400)
        said = {"model_name": request.match_info["name"], "model_version": _version(request, model)}
        if length is None:
            return web.json_response({**said, "outputs": fake_bodies.as_json(outputs, model)})
        body, header_length = fake_bodies.encode(said, outputs, model, counts)
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


def _as_error(sentence: str) -> dict[str, Any]:
    return {"text": orjson.dumps({"error": sentence}).decode(), "content_type": "application/json"}


def _version(request: web.Request, model: FakeModel) -> str:
    return request.match_info.get("version", model.choice)
