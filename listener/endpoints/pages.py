"""What the listener says of itself: health, and where its description is."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from aiohttp import web

from listener.contract.answer import Answer
from listener.contract.media import JSON
from listener.endpoints.serving import Endpoint, response
from listener.gate import Gate, Phase

#: Where the description is.
OPENAPI = "/openapi.json"


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
        return web.Response(status=200 if ready else 503, body=body, content_type=JSON)

    return endpoint


async def root(request: web.Request) -> web.StreamResponse:
    """GET /: one line."""
    return response(Answer(f"Listener: see {OPENAPI}\n".encode(), media_type="text/plain; charset=utf-8"))
