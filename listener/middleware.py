"""Around every request: an id, errors as the one body, a log line for what went wrong."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import HttpVersion10, HttpVersion11, web

from listener.call import REQUEST
from listener.contract import instances
from listener.contract.compression import DAMAGED
from listener.contract.media import JSON
from listener.errors import BadRequest, BodyTooLarge, InternalError, ListenerError, Overloaded, UnknownPath, WrongMethod
from listener.observe import Sums

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
    REQUEST.set(None)  # the task of a connection has that of the request before
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
        if request.version < HttpVersion10:  # what the parser makes of a line that names none
            return _unreadable(request, "the request is not HTTP/1.1: its first line has no version")
        if request.version < HttpVersion11 and "Transfer-Encoding" in request.headers:
            # such a framing is faulty: https://www.rfc-editor.org/rfc/rfc9112#section-6.1
            return _unreadable(request, "HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
        if (coding := request.headers.get("Content-Encoding", "").strip().lower()) not in _CODINGS:
            return _unreadable(request, f"Content-Encoding {coding!r} is not handled; send gzip, deflate or neither")
        return await handler(request)
    except web.HTTPException as error:
        return translated(request, error)
    except web.RequestPayloadError:
        return _unreadable(request, DAMAGED)
    except Exception as error:
        return refused(request, error)


async def guard(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Headers of every answer (an `on_response_prepare`): no browser guesses what it is, nobody learns versions.

    `nosniff`: https://fetch.spec.whatwg.org/#x-content-type-options-header. aiohttp would say in `Server` that it is
    aiohttp, and which Python runs it.
    """
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "listener"


def refuse_too_large(request: web.BaseRequest) -> None:
    """By what the head says, before anything of the body is read; aiohttp counts the rest.

    Raises:
        HTTPRequestEntityTooLarge: the body is over the limit.
    """
    length, limit = request.content_length or 0, request.client_max_size
    if length > limit:
        raise web.HTTPRequestEntityTooLarge(limit, length)


def _unreadable(request: web.BaseRequest, sentence: str) -> web.StreamResponse:
    """The last answer on a connection: what comes after a body that cannot be read is not a request."""
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
    """What the caller is told of a failure, which gets its log line here.

    That line has nothing of the request's body, headers and query unless the log's level is debug. Below it, the
    refusals of an overload are told in numbers: a line for each would cost as much as all else of a refusal.
    """
    if type(error) is Overloaded and not log.isEnabledFor(logging.DEBUG) and not _overload.is_first(error.message):
        return error
    fields: dict[str, object] = {"request_id": request_id, "path": path.partition("?")[0]}  # keys stand in queries
    if not isinstance(error, ListenerError):
        told = InternalError()
        fields |= {"status": told.status, "code": told.code}
        log.error("unexpected failure", exc_info=error, extra={"fields": fields})
        return told
    level = logging.ERROR if error.status in (500, 502) else logging.INFO
    fields |= {"status": error.status, "code": error.code}
    log.log(level, "%s", error.for_log(log.isEnabledFor(logging.DEBUG)), extra={"fields": fields})
    return error


def _more_of(sentence: str, count: int) -> None:
    fields = {"status": Overloaded.status, "code": Overloaded.code, "refused": count}
    log.info("%s: %d more refused within a second", sentence, count, extra={"fields": fields})


_overload = Sums(_more_of)
