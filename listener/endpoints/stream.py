"""Answers that come in pieces, as server-sent events.

Each piece is written as it comes: a client that reads slowly holds up whoever makes them; one that leaves ends them.
What fails before the first piece is an ordinary error; later it is an event, since the status has gone out.
docs/reference/contract.md, "Streaming".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from listener.call import Call, Context, Json
from listener.contract import events, instances, media
from listener.contract.media import Form
from listener.endpoints.inference import refused
from listener.endpoints.predict import chosen_by_path, lowered, read_call
from listener.endpoints.serving import Loaded, body_of, entering, response
from listener.errors import BadRequest, HandlerFailed
from listener.gate import Gate, Permit
from listener.middleware import REQUEST_ID, REQUEST_ID_HEADER, refusal

if TYPE_CHECKING:
    from listener.graph.node import Node
    from listener.triton.relay import Relay

#: Reads the request and gives what makes the pieces, while a permit is held.
_Source = Callable[[Permit], Awaitable[AsyncGenerator[bytes, None]]]


class _Refused(Exception):
    """Triton answered with a whole refusal, which passes as it is."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.answer = refused(status, body)


async def written(request: web.Request, gate: Gate, source: _Source) -> web.StreamResponse:
    """Writes pieces as they come; a request has its time for each of them anew.

    Raises:
        ListenerError: before the first piece.
    """
    out: web.StreamResponse | None = None
    try:
        async with entering(gate, request) as permit:
            async with aclosing(await source(permit)) as made:
                async for piece in made:
                    out = out or await _begun(request)
                    await out.write(piece)
                    permit.renew()
            out = out or await _begun(request)
            await out.write_eof()
    except _Refused as refused_by:
        return response(refused_by.answer)
    except Exception as error:
        if out is None:
            raise
        await _broken_off(request, out, error, gate.timeout)
    return out


async def _begun(request: web.Request) -> web.StreamResponse:
    headers = {
        "Content-Type": events.MEDIA_TYPE,
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",  # a proxy of nginx's kind would collect the pieces
        REQUEST_ID_HEADER: request[REQUEST_ID],
    }
    out = web.StreamResponse(headers=headers)
    if request.version < HttpVersion11:  # which has no chunks: the end of the connection is that of the answer
        out.force_close()
    await out.prepare(request)
    return out


async def _broken_off(request: web.Request, out: web.StreamResponse, error: Exception, patience: float) -> None:
    """The event that says why there will be no more; nobody to be told if it is the client who has gone.

    A client that does not read any more is not waited for without end: nothing else would close its connection.
    """
    if isinstance(error, ConnectionError):
        return
    told = refusal(error, request[REQUEST_ID], request.raw_path)
    try:
        async with asyncio.timeout(patience):
            await out.write(events.failure(told))
            await out.write_eof()
    except ConnectionError:
        pass
    except (TimeoutError, asyncio.CancelledError):
        # aiohttp's wait for a slow client, once it was cancelled, is so whenever it is entered again
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        if request.transport:
            request.transport.abort()


async def from_triton(relay: Relay, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
    """Triton's own events, byte for byte."""
    async with relay.stream(path, body) as stream:
        if stream.status != 200:
            raise _Refused(stream.status, await stream.whole())
        async for piece in stream.pieces:
            yield piece


class PredictStream:
    """The predict route for clients that accept events.

    Args:
        gate: lets requests in.
        loaded: gives the service.
    """

    def __init__(self, gate: Gate, loaded: Loaded) -> None:
        self._gate, self._loaded = gate, loaded

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        return await written(request, self._gate, partial(self._source, request))

    async def _source(self, request: web.Request, permit: Permit) -> AsyncGenerator[bytes, None]:
        serving, headers, chosen = self._loaded(), lowered(request), chosen_by_path(request)
        context = Context(request[REQUEST_ID], headers, model=chosen.model, version=chosen.version, stay=permit)
        form = media.wanted(headers).form
        body = await body_of(request)
        said = generate_form(body) if form is Form.JSON else None
        if said is not None:
            step, call = await serving.router.choose_step(_empty(said, context))
            return from_triton(serving.relay, *step.generate_request(call, said))
        node, call = await serving.router.choose(_call(body, form, context))
        return _said(node, call._replace(context=call.context._replace(deadline=permit.deadline)))


def generate_form(body: bytes) -> dict[str, Json] | None:
    """A body as Triton's generate extension has it, with its inputs at the top; None: it has instances or columns."""
    said = instances.document(body)
    return None if {"instances", "inputs"} & said.keys() else said


def _empty(said: dict[str, Json], context: Context) -> Call:
    """A call that carries nothing but the choice of a model."""
    parameters = said.get("parameters")
    return Call((), context._replace(parameters=parameters if isinstance(parameters, dict) else {}))


def _call(body: bytes, form: Form, context: Context) -> Call:
    call = None if form is Form.BINARY else read_call(body, form, context)
    if call is None:
        raise BadRequest("an answer in the Open Inference Protocol does not come in events; leave Accept out")
    return call


async def _said(node: Node, call: Call) -> AsyncGenerator[bytes, None]:
    """A node's events."""
    from listener.decoupled import Raw  # these need numpy, which is there once the service is loaded
    from listener.graph.streaming import stream

    async with aclosing(stream(node, call)) as pieces:
        async for piece in pieces:
            yield piece.data if type(piece) is Raw else _event(piece, node)
            await asyncio.sleep(0)  # a generator that never waits must not hold up everybody else


def _event(value: Json, node: Node) -> bytes:
    try:
        return events.event(value)
    except TypeError as error:
        why = f"an event cannot be said in JSON: {error}"
        raise HandlerFailed("predict", getattr(node, "name", None), why) from error  # a step has a name
