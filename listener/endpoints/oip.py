"""The Open Inference Protocol under /v2, and Triton's redirect header: what may be asked of Triton, and nothing else.

Each path is written anew for Triton out of names that were checked, so no client's spelling of a path ever reaches it.
docs/reference/contract.md, "Open Inference Protocol".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from listener.contract import oip, vertex_triton
from listener.contract.answer import Answer
from listener.contract.vertex_triton import REDIRECT
from listener.endpoints.inference import generated, infer, passed
from listener.endpoints.predict import Choice, chosen_by_path, lowered
from listener.endpoints.serving import Endpoint, Loaded, body_of, entering, in_time, response
from listener.endpoints.stream import from_triton, written
from listener.errors import TritonFailed
from listener.gate import Gate, Permit, Phase
from listener.triton.paths import generate_path, model_path

if TYPE_CHECKING:
    from listener.triton.wire import Answer as TritonAnswer

#: Of Triton's protocol extensions, those that are served here.
_EXTENSIONS = frozenset(
    {"binary_tensor_data", "classification", "generate", "parameters", "schedule_policy", "sequence", "statistics"}
)


class Oip:
    """The endpoints.

    Args:
        gate: lets inference in; what only asks is not held up by it.
        loaded: gives the service.
        missing: what stands between this worker and predictions; empty = nothing.
    """

    def __init__(self, gate: Gate, loaded: Loaded, missing: Callable[[], list[str]]) -> None:
        self._gate, self._loaded, self._missing = gate, loaded, missing

    def resources(self) -> list[tuple[str, str, Endpoint]]:
        """Method, path and endpoint of each; a model's names stand in braces."""
        made: list[tuple[str, str, Endpoint]] = [
            ("GET", "/v2", self.server),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2/models/stats", self.statistics),
            ("POST", "/v2/repository/index", self.index),
        ]
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            made += [("GET", f"{base}{end}", self._asking(end)) for end in ("", "/ready", "/config", "/stats")]
            made += [
                ("POST", f"{base}/infer", self.infer),
                ("POST", f"{base}/generate", self.generate),
                ("POST", f"{base}/generate_stream", self.generate_stream),
            ]
        return made

    async def server(self, request: web.Request) -> web.StreamResponse:
        """Triton's metadata, with the extensions that can be used from here."""
        answer = await self._told(self._loaded().relay.get("/v2"))
        return response(answer if answer.status != 200 else answer._replace(body=_usable(answer.body)))

    async def live(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """From memory, as the health route's; 400 is Triton's word for no."""
        is_ready = self._gate.phase is Phase.READY and not self._missing()
        return web.Response(status=200 if is_ready else 400)

    async def statistics(self, request: web.Request) -> web.StreamResponse:
        return response(await self._told(self._loaded().relay.get("/v2/models/stats")))

    async def index(self, request: web.Request) -> web.StreamResponse:
        async def asked() -> TritonAnswer:
            body = oip.checked_json(await body_of(request))
            return await self._loaded().relay.post("/v2/repository/index", body, {})

        return response(await self._told(asked()))

    def _asking(self, end: str) -> Endpoint:
        async def endpoint(request: web.Request) -> web.StreamResponse:
            return response(await self._told(self._loaded().relay.get(f"{model_path(*chosen_by_path(request))}{end}")))

        return endpoint

    async def _told(self, asked: Awaitable[TritonAnswer]) -> Answer:
        """What Triton says, in time; raises as `Relay` does as well."""
        return passed(await in_time(asked, self._gate.timeout))

    async def infer(self, request: web.Request) -> web.StreamResponse:
        headers = lowered(request)
        async with entering(self._gate, request) as permit:
            model, version = self._chosen(permit, request)
            checked = oip.request(await body_of(request), headers)
            return _counted(permit, await infer(self._loaded(), model, version, checked, headers))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        async with entering(self._gate, request) as permit:
            path = generate_path(*self._chosen(permit, request), stream=False)
            body = oip.checked_json(await body_of(request))
            return _counted(permit, generated(await self._loaded().relay.post(path, body, {})))

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        async def source(permit: Permit) -> AsyncGenerator[bytes, None]:
            path = generate_path(*self._chosen(permit, request))
            body = oip.checked_json(await body_of(request))
            return from_triton(self._loaded().relay, path, body)

        return await written(request, self._gate, source)

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        """A request with `X-Vertex-Ai-Triton-Redirect` on the predict route."""
        method, path = vertex_triton.redirected(request.method, request.headers[REDIRECT])
        serving = self._loaded()
        relay = serving.relay
        if path == "/metrics":
            return response(await self._told(relay.metrics()))
        if method == "GET":
            return response(await self._told(relay.get(path)))
        headers = lowered(request)
        async with entering(self._gate, request) as permit:
            model, version = vertex_triton.model_of(path)
            if model:
                serving.router.share(permit, model)
            body = await body_of(request)
            if path.endswith("/infer"):
                return _counted(permit, await infer(serving, model, version, oip.request(body, headers), headers))
            return _counted(permit, passed(await relay.post(path, oip.checked_json(body), {})))

    def _chosen(self, permit: Permit, request: web.Request) -> Choice:
        """Model and version by the path; the permit is one of that model's from now on."""
        chosen = chosen_by_path(request)
        self._loaded().router.share(permit, chosen.model)
        return chosen


def _counted(permit: Permit, answer: Answer) -> web.Response:
    """An answer whose status is Triton's own."""
    permit.status = answer.status
    return response(answer)


def _usable(metadata: bytes) -> bytes:
    """Triton's metadata with those extensions alone that are served here.

    Raises:
        TritonFailed: they are none.
    """
    try:
        said = orjson.loads(metadata)
        said["extensions"] = [name for name in said.get("extensions", ()) if name in _EXTENSIONS]
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        raise TritonFailed("Triton's metadata cannot be read") from None
    return orjson.dumps(said)
