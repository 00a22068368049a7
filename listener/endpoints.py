"""HTTP in, HTTP out; no logic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from listener.call import Reply
from listener.contract import instances
from listener.errors import HandlerFailed
from listener.gate import Gate, Phase
from listener.middleware import REQUEST_ID, Endpoint

if TYPE_CHECKING:  # the graph needs numpy, which is loaded behind the open port
    from listener.graph import Node


def predict(gate: Gate, graph: Callable[[], Node]) -> Endpoint:
    """POST on the predict route.

    Args:
        gate: lets requests in.
        graph: gives the root node; called only once the gate is open.
    """

    async def endpoint(request: web.Request) -> web.StreamResponse:
        with gate.enter() as deadline:
            instances.check_media_type(request.headers.get("Content-Type", ""))
            async with gate.limit(deadline):
                call = instances.call(
                    await request.read(), request_id=request[REQUEST_ID], headers=_headers(request), deadline=deadline
                )
                reply = await graph()(call)
            return web.Response(body=_encode(reply), content_type=instances.MEDIA_TYPE)

    return endpoint


def _encode(reply: Reply) -> bytes:
    try:
        return instances.encode(reply)
    except TypeError as error:
        failure = HandlerFailed("postprocess")
        failure.add_note(f"a prediction cannot be said in JSON: {error}")
        raise failure from error


def health(gate: Gate, missing: Callable[[], list[str]]) -> Endpoint:
    """GET on the health route: exactly 200 when ready, else 503 with what is missing.

    Args:
        gate: knows the phase.
        missing: sentences; empty = ready.
    """

    async def endpoint(request: web.Request) -> web.StreamResponse:
        lacks = missing()
        phase = gate.phase
        ready = phase is Phase.READY and not lacks
        status = "ready" if ready else phase.value if phase is not Phase.READY else "not ready"
        body = orjson.dumps({"status": status, "missing": lacks})
        return web.Response(status=200 if ready else 503, body=body, content_type=instances.MEDIA_TYPE)

    return endpoint


def _headers(request: web.Request) -> Mapping[str, str]:
    return MappingProxyType({name.lower(): value for name, value in request.headers.items()})
