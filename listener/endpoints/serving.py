"""What endpoints are given: the parts of the loaded service. Nothing here needs numpy, which is loaded late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from listener.call import Body
from listener.contract.answer import Answer

if TYPE_CHECKING:
    from listener.graph import Router
    from listener.readiness import Readiness
    from listener.triton.catalogue import Catalogue
    from listener.triton.relay import Relay
    from listener.triton.shm import Lease

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
    """

    router: Router
    readiness: Readiness
    catalogue: Catalogue
    relay: Relay
    lease: Callable[[int], Lease | None]


#: Gives the loaded service; raises Unavailable until there is one.
Loaded: TypeAlias = Callable[[], Serving]


async def body_of(request: web.Request) -> bytes:
    """A request's whole body, unpacked if it was compressed.

    aiohttp's own `read` asks for pieces as large as the limit, so that eight small requests can unpack to hundreds of
    megabytes at once, in which time nobody else is answered.

    Raises:
        HTTPRequestEntityTooLarge: it is larger than the application's `client_max_size`.
    """
    pieces, size, limit = [], 0, request.client_max_size
    while piece := await request.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise web.HTTPRequestEntityTooLarge(limit, size)
    return b"".join(pieces)


def response(answer: Answer) -> web.Response:
    """An answer as aiohttp has it."""
    made = web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    made.headers["Content-Type"] = answer.media_type
    return made
