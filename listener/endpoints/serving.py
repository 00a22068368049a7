"""What endpoints are given: the parts of the loaded service. Nothing here needs numpy, which is loaded late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from aiohttp import web

from listener import pace
from listener.call import Body
from listener.contract.answer import Answer
from listener.contract.compression import Unpacker
from listener.errors import DeadlineExceeded, SlowBody
from listener.gate import TIME, Gate, Permit
from listener.middleware import REQUEST_ID
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


def most_bytes(request: web.Request) -> int:
    """Of its body, unpacked: all that it may have, where its head does not say how many there are."""
    length, coding = request.content_length, request.headers.get("Content-Encoding", "")
    return request.client_max_size if length is None or coding not in ("", "identity") else length


def entering(gate: Gate, request: web.Request) -> Permit:
    """A permit for a request that takes what it says of itself; for `async with`.

    Raises:
        BadRequest: its `X-Request-Timeout` is no number of seconds.
    """
    recording = None
    if gate.spans:
        recording = gate.spans.recording(request.headers, request.path, pattern(request), request[REQUEST_ID])
    return gate.enter(request.headers.get(TIME), most_bytes(request), request.remote or "", recording)


def pattern(request: web.Request) -> str:
    """The path as `routing.py` has it, with names in braces."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


async def body_of(request: web.Request) -> bytes:
    """A request's whole body, unpacked if it was compressed.

    Raises:
        HTTPRequestEntityTooLarge: it is larger than the application's `client_max_size`.
        BadRequest: it is damaged.
        SlowBody: it comes too slowly.
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    unpacker = Unpacker(coding) if coding in ("gzip", "deflate") else None
    pieces, size, limit = [], 0, request.client_max_size
    async for came in _pieces(request):
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


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """What comes of a body, as it comes; a client that sends too little is not waited for."""
    content, received = request.content, 0
    begun = asyncio.get_running_loop().time()
    while not content.at_eof():
        try:
            async with asyncio.timeout_at(pace.due(begun, received)):
                came = await content.readany()
        except TimeoutError:
            raise SlowBody(pace.sentence(received)) from None
        received += len(came)
        if came:
            yield came


def response(answer: Answer) -> web.Response:
    """An answer as aiohttp has it."""
    made = web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    made.headers["Content-Type"] = answer.media_type
    return made
