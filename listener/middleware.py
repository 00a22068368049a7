"""Around every request: an id, errors as the one body, a log line for what went wrong."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import web

from listener.contract import instances
from listener.contract.compression import DAMAGED
from listener.contract.media import JSON
from listener.errors import BadRequest, BodyTooLarge, InternalError, ListenerError, UnknownPath, WrongMethod

log = logging.getLogger("listener.http")

REQUEST_ID = web.RequestKey("request_id", str)
REQUEST_ID_HEADER = "X-Request-Id"
_ACCEPTED_ID = re.compile(r"[\w.:\-]{1,128}", re.ASCII)
#: Ids that are made here: unlike any other process's, and cheaper than a random one for each request.
_OURS, _NUMBERS = secrets.token_hex(8), itertools.count(1)

_CODINGS = frozenset({"", "identity", "gzip", "deflate"})

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_id(given: str) -> str:
    """The caller's id if it is harmless, else a new one."""
    return given if given and _ACCEPTED_ID.fullmatch(given) else f"{_OURS}{next(_NUMBERS):016x}"


@web.middleware
async def identify(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Takes the caller's request id if it is harmless, else makes one; the answer carries it."""
    request[REQUEST_ID] = request_id(request.headers.get(REQUEST_ID_HEADER, ""))
    response = await handler(request)
    if not response.prepared:  # a stream has it already
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
    return response


@web.middleware
async def errors_to_bodies(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every failure, whatever its kind, as `{"error": "<one sentence>"}` with its status."""
    try:
        refuse_too_large(request)
        if (coding := request.headers.get("Content-Encoding", "").strip().lower()) not in _CODINGS:
            return _unreadable(request, f"Content-Encoding {coding!r} is not handled; send gzip, deflate or neither")
        return await handler(request)
    except web.HTTPException as error:
        return translated(request, error)
    except web.RequestPayloadError:
        return _unreadable(request, DAMAGED)
    except Exception as error:
        return refused(request, error)


def refuse_too_large(request: web.BaseRequest) -> None:
    """By what the head says, before anything of the body is read; aiohttp counts the rest.

    Raises:
        HTTPRequestEntityTooLarge: the body is over the limit.
    """
    length, limit = request.content_length or 0, request.client_max_size
    if length > limit:
        raise web.HTTPRequestEntityTooLarge(limit, length)


def _unreadable(request: web.BaseRequest, sentence: str) -> web.StreamResponse:
    """The last answer on a connection: aiohttp does not go on after a body that it cannot decode."""
    response = refused(request, BadRequest(sentence))
    response.force_close()
    return response


def translated(request: web.BaseRequest, error: web.HTTPException) -> web.StreamResponse:
    """aiohttp's own refusals in our words; 417, for an Expect that is not 100-continue, becomes 400."""
    if not isinstance(error, web.HTTPMethodNotAllowed):
        return refused(request, _ours(request, error))
    allow = {"Allow": error.headers["Allow"]}
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=allow)
    return refused(request, WrongMethod(f"{request.method} is not allowed on {request.path}"), allow)


def _ours(request: web.BaseRequest, error: web.HTTPException) -> ListenerError:
    if isinstance(error, web.HTTPNotFound):
        return UnknownPath(f"no such path: {request.path}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(f"the body is larger than {request.client_max_size} bytes (LISTENER_MAX_BODY)")
    if error.status < 500:
        return BadRequest(error.text or error.reason)
    return InternalError()


def refused(
    request: web.BaseRequest, error: Exception, headers: Mapping[str, str] = MappingProxyType({})
) -> web.StreamResponse:
    identifier = request.get(REQUEST_ID) or request_id("")
    told = refusal(error, identifier, request.raw_path)
    response = web.Response(status=told.status, body=instances.encode_error(told), content_type=JSON, headers=headers)
    response.headers[REQUEST_ID_HEADER] = identifier
    if told.retry_after is not None:
        response.headers["Retry-After"] = str(told.retry_after)
    return response


def refusal(error: Exception, request_id: str, path: str) -> ListenerError:
    """What the caller is told of a failure, which gets its log line here."""
    fields: dict[str, object] = {"request_id": request_id, "path": path}
    if not isinstance(error, ListenerError):
        told = InternalError()
        fields |= {"status": told.status, "code": told.code}
        log.error("unexpected failure", exc_info=error, extra={"fields": fields})
        return told
    level = logging.ERROR if error.status in (500, 502) else logging.INFO
    notes = getattr(error, "__notes__", [])
    fields |= {"status": error.status, "code": error.code}
    log.log(level, "%s", "; ".join([error.message, *notes]), extra={"fields": fields})
    return error
