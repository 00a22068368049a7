"""Predictions: whatever a body on the predict route may be, and what is answered to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from listener.access import AccessLog
from listener.call import NOTHING, REQUEST, Body, Call, Columns, Context, Reply
from listener.contract import instances, media, oip
from listener.contract.answer import Answer
from listener.contract.compression import chosen, compressed
from listener.contract.media import Form, Wanted
from listener.endpoints.inference import infer
from listener.endpoints.serving import Endpoint, Loaded, Reader, body_of, most_bytes, pattern, response
from listener.errors import HandlerFailed
from listener.gate import TIME, Gate, Permit
from listener.metrics.times import Times
from listener.middleware import REQUEST_ID

#: Looking a member up in an enumeration costs more than all else that is done with it.
_JSON, _NPY, _BINARY = Form.JSON, Form.NPY, Form.BINARY


class Choice(NamedTuple):
    """Model and version, as far as a path says them; "" = it does not."""

    model: str = ""
    version: str = ""


NONE = Choice()


class Predict:
    """A prediction, from headers and body to the answer; aiohttp's endpoint and the fast path share it.

    Args:
        gate: lets requests in.
        loaded: gives the service; called only once the gate is open.
        compress_from: bytes of an answer from which on it is compressed where the client takes that.
        access: says now and then what was answered.
        tells_times: whether the answer to a request whose time is measured says where it went.
    """

    def __init__(
        self, gate: Gate, loaded: Loaded, compress_from: int, access: AccessLog, tells_times: bool = False
    ) -> None:
        self.gate, self._access, self._tells_times = gate, access, tells_times
        self._loaded, self._compress_from = loaded, compress_from

    async def __call__(
        self,
        headers: Mapping[str, str],
        wanted: Wanted,
        request_id: str,
        read: Reader,
        by_path: Choice = NONE,
        nbytes: int = 0,
        client: str = "",
        path: str = "",
        route: str = "",
    ) -> Answer:
        """Holds a permit from before the body is read until the answer is encoded.

        Args:
            headers: names in lower case.
            wanted: what they say of the body and the answer.
            request_id: for the context.
            read: gives the body.
            by_path: model and version, where the path says them.
            nbytes: of the body, at most.
            client: its address.
            path: that it came to.
            route: the same with names in braces; "" = it has none.

        Raises:
            ListenerError: as the answer shall say it.
        """
        spans = self.gate.spans
        recording = spans.recording(headers, path, route or path, request_id) if spans else None
        with self.gate.enter(headers.get(TIME), nbytes, client, recording) as permit:
            if permit.turn:
                await permit.wait()
            context = Context(request_id, headers, NOTHING, NOTHING, permit.deadline, *by_path, stay=permit)
            REQUEST.set(context)
            body, times = await read(), permit.times
            if times:
                times.read = monotonic()
            call = None if wanted.form is _BINARY else read_call(body, wanted.form, context)
            if call is None:
                return await self._infer(bytes(body), context, permit)
            reply = await self._loaded().router(call)
            if times:
                times.replied = monotonic()
            answer = _as_npy(reply) if wanted.as_npy else _as_json(reply, call)
            if times:
                answer = self._told(answer, times, permit, path)
            return answer if len(answer.body) < self._compress_from else await _smaller(answer, headers)

    def _told(self, answer: Answer, times: Times, permit: Permit, path: str) -> Answer:
        """The answer to a request whose time is measured: the caller is told of it, and so is the log now and then."""
        (entered, begun), now = permit.began(), monotonic()
        sizes = permit.nbytes, len(answer.body)
        self._access.answered(path, permit.route, answer.status, sizes, now - entered, now)
        if not self._tells_times:
            return answer
        return answer._replace(headers={**answer.headers, "Server-Timing": times.header(begun - entered, now)})

    async def _infer(self, body: bytes, context: Context, permit: Permit) -> Answer:
        """A request of the Open Inference Protocol goes to the chosen model as it is, past its handler."""
        serving = self._loaded()
        request = oip.request(body, context.headers)
        call = Call((), context._replace(parameters=oip.parameters(request)))
        step, call = await serving.router.choose_step(call)
        permit.took(step.name, step.model)
        answer = await infer(serving, step.past_handler(), call.context.version, request, context.headers)
        permit.status = answer.status
        return answer


def predict(answer: Predict) -> Endpoint:
    """POST on the predict route, or on a model's own."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        headers = lowered(request)
        wanted = media.wanted(headers)
        identifier, read, chosen = request[REQUEST_ID], partial(body_of, request), chosen_by_path(request)
        given = await answer(
            headers,
            wanted,
            identifier,
            read,
            chosen,
            most_bytes(request),
            request.remote or "",
            request.path,
            pattern(request) if answer.gate.spans else "",
        )
        return response(given)

    return endpoint


def chosen_by_path(request: web.Request) -> Choice:
    """As the path says it, the version without zeros before it."""
    named = request.match_info
    version = named.get("version", "")
    return Choice(named.get("model", ""), str(int(version)) if version else "")


def lowered(request: web.Request) -> Mapping[str, str]:
    """The request's headers, names in lower case; values that came several times are joined by commas, as a list is."""
    found: dict[str, str] = {}
    for given, value in request.headers.items():
        name = given.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return MappingProxyType(found)


def read_call(body: Body, form: Form, context: Context) -> Call | None:
    """What a body asks for; None: the Open Inference Protocol.

    Raises:
        BadRequest: it cannot be read.
    """
    if form is _JSON:
        return instances.call(bytes(body), context)
    if form is _NPY:
        from listener.contract import npy  # needs numpy, which is there once the gate is open

        return Call(npy.read(bytes(body)), context)
    named = media.media_type(context.headers.get("content-type", ""))
    return Call([body], context if named == media.RAW else context._replace(media_type=named))


def _as_npy(reply: Reply) -> Answer:
    from listener.contract import npy  # as above

    return Answer(npy.write(reply), 200, media.NPY)


def _as_json(reply: Reply, call: Call) -> Answer:
    try:
        return Answer(instances.encode(reply, type(call.instances) is Columns))
    except TypeError as error:
        raise HandlerFailed("postprocess", why=f"a prediction cannot be said in JSON: {error}") from error


async def _smaller(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """The answer compressed, if the client takes that; in a thread, as it takes longer than most predictions."""
    coding = chosen(headers.get("accept-encoding", ""))
    if not coding:
        return answer
    body = await asyncio.to_thread(compressed, answer.body, coding)
    more = {"Content-Encoding": coding, "Vary": "Accept-Encoding"}
    return answer._replace(body=body, headers={**answer.headers, **more})
