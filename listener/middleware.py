"""Around every request: an id, errors as the one body, a log line for what went wrong."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from listener.contract import instances
from listener.errors import BadRequest, BodyTooLarge, InternalError, ListenerError, UnknownPath, WrongMethod

log = logging.getLogger("listener.http")

REQUEST_ID = web.RequestKey("request_id", str)
REQUEST_ID_HEADER = "X-Request-Id"
_ACCEPTED_ID = re.compile(r"[\w.:\-]{1,128}", re.ASCII)

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def identify(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Takes the caller's request id if it is harmless, else makes one; the answer carries it."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
    response = await handler(request)
    response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
    return response


@web.middleware
async def errors_to_bodies(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Every failure, whatever its kind, as `{"error": "<one sentence>"}` with its status."""
    try:
        return await handler(request)
    except ListenerError as error:
        return _answer(request, error)
    except web.RequestPayloadError:
        return _answer(request, BadRequest("the body is damaged: it ends early, or is not in its Content-Encoding"))
    except web.HTTPException as error:
        return _answer(request, _translated(request, error), error.headers.get("Allow"))
    except Exception as error:
        log.error("unexpected failure", exc_info=error, extra={"fields": _fields(request, InternalError())})
        return error_response(InternalError())


def error_response(error: ListenerError) -> web.Response:
    """The one error body."""
    response = web.Response(status=error.status, body=instances.encode_error(error), content_type=instances.MEDIA_TYPE)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _answer(request: web.Request, error: ListenerError, allow: str | None = None) -> web.StreamResponse:
    level = logging.ERROR if error.status in (500, 502) else logging.INFO
    notes = getattr(error, "__notes__", [])
    log.log(level, "%s", "; ".join([error.message, *notes]), extra={"fields": _fields(request, error)})
    response = error_response(error)
    if allow:
        response.headers["Allow"] = allow
    return response


def _translated(request: web.Request, error: web.HTTPException) -> ListenerError:
    """aiohttp's own refusals in our words."""
    if isinstance(error, web.HTTPNotFound):
        return UnknownPath(f"no such path: {request.path}")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return WrongMethod(f"{request.method} is not allowed on {request.path}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(f"the body is larger than {request.client_max_size} bytes (LISTENER_MAX_BODY)")
    if error.status < 500:
        return BadRequest(error.reason)
    return InternalError()


def _fields(request: web.Request, error: ListenerError) -> dict[str, object]:
    return {"request_id": request[REQUEST_ID], "path": request.raw_path, "status": error.status, "code": error.code}
