"""What endpoints are given: the parts of the loaded service. Nothing here needs numpy, which is loaded late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from aiohttp import web

from listener.call import Body
from listener.contract.answer import Answer
from listener.contract.compression import Unpacker
from listener.errors import DeadlineExceeded
from listener.nodes import Named

if TYPE_CHECKING:
    from listener.graph.router import Router
    from listener.graph.step import Step
    from listener.readiness import Readiness
    from listener.triton.catalogue import Catalogue
    from listener.triton.relay import Relay
    from listener.triton.shm import Lease

T = TypeVar("T")

#: aiohttp's kind of function.
Endpoint: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Gives a request's whole body.
Reader: TypeAlias = Callable[[], Awaitable[Body]]


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that has been loaded.

    Attributes:
        router: the root of the graph.
        readiness: to be watched.
        catalogue: the models that Triton has.
        relay: to Triton's own answers.
        lease: room for a body of so many bytes in memory shared with Triton; None: it goes elsewhere.
        steps: every one of them, those that requests cannot choose as well, by name.
        graphs: what listener.yaml says of routes and nodes of several steps, by name.
    """

    router: Router
    readiness: Readiness
    catalogue: Catalogue
    relay: Relay
    lease: Callable[[int], Lease | None]
    steps: Mapping[str, Step]
    graphs: Mapping[str, Named]


#: Gives the loaded service; raises Unavailable until there is one.
Loaded: TypeAlias = Callable[[], Serving]


async def in_time(asked: Awaitable[T], seconds: float) -> T:
    """What comes of a question that holds no permit, but has a request's time.

    Raises:
        DeadlineExceeded: nothing did.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError:
        raise DeadlineExceeded("there was no answer within the request's time (LISTENER_TIMEOUT)") from None


async def body_of(request: web.Request) -> bytes:
    """A request's whole body, unpacked if it was compressed.

    Raises:
        HTTPRequestEntityTooLarge: it is larger than the application's `client_max_size`.
        BadRequest: it is damaged.
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    unpacker = Unpacker(coding) if coding in ("gzip", "deflate") else None
    pieces, size, limit = [], 0, request.client_max_size
    while came := await request.content.readany():
        for piece in unpacker.feed(came) if unpacker else (came,):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise web.HTTPRequestEntityTooLarge(limit, size)
            if unpacker:
                await asyncio.sleep(0)  # others have their turn
    if unpacker:
        unpacker.end()
    return b"".join(pieces)


def response(answer: Answer) -> web.Response:
    """An answer as aiohttp has it."""
    made = web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    made.headers["Content-Type"] = answer.media_type
    return made
