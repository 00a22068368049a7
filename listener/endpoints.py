"""HTTP in, HTTP out; no logic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import orjson
from aiohttp import web

from listener.call import Body, Reply
from listener.contract import instances
from listener.errors import HandlerFailed
from listener.gate import Gate, Phase
from listener.middleware import REQUEST_ID, Endpoint

if TYPE_CHECKING:  # the graph needs numpy, which is loaded behind the open port
    from listener.graph import Node


#: Gives a request's whole body.
Reader: TypeAlias = Callable[[], Awaitable[Body]]


class Predict:
    """A prediction, from headers and body to the answer's body; aiohttp's endpoint and the fast path share it.

    Args:
        gate: lets requests in.
        graph: gives the root node; called only once the gate is open.
    """

    def __init__(self, gate: Gate, graph: Callable[[], Node]) -> None:
        self.gate = gate
        self._graph = graph

    async def __call__(self, headers: Mapping[str, str], request_id: str, read: Reader) -> bytes:
        """Holds a permit from before the body is read until the answer is encoded.

        Args:
            headers: names in lower case.
            request_id: for the context.
            read: gives the body.

        Raises:
            ListenerError: as the answer shall say it.
        """
        with self.gate.enter() as deadline:
            raw = instances.is_raw(headers.get("content-type", ""))
            call = instances.call(await read(), raw, request_id=request_id, headers=headers, deadline=deadline)
            return _encode(await self._graph()(call))


def predict(answer: Predict) -> Endpoint:
    """POST on the predict route."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        headers = MappingProxyType({name.lower(): value for name, value in request.headers.items()})
        body = await answer(headers, request[REQUEST_ID], request.read)
        return web.Response(body=body, content_type=instances.MEDIA_TYPE)

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
