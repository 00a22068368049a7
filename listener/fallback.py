"""aiohttp's protocol, for connections whose requests are not plain; its own refusals are said in our one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from listener.errors import BadRequest, InternalError
from listener.middleware import guard, refused, translated


class Fallback(web.RequestHandler):
    """Reads and answers like its base, but for the errors that no endpoint sees: heads that are not HTTP.

    Args:
        gone: called when the connection is lost.
    """

    __slots__ = ("_gone",)

    def __init__(self, gone: Callable[[], object], manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gone = gone

    def connection_lost(self, exc: BaseException | None) -> None:
        """As its base, and tells."""
        self._gone()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last answer on this connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = refused(request, _cause(status, exc, message))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What a client did wrong has its line already, and is no reason for a trace."""
        if not isinstance(kw.get("exc_info"), HttpProcessingError | web.RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """A refusal from outside the middlewares, such as one of the header Expect, gets our form first."""
        if isinstance(resp, web.HTTPException):
            resp = translated(request, resp)
        if not resp.prepared:
            await guard(request, resp)  # for those of no application
        return await super().finish_response(request, resp, start_time)


class _NoHttp(BadRequest):
    """Whose sentence is the parser's own, and quotes nothing."""

    @property
    def discreet(self) -> str:
        return self.message


def _cause(status: int, exc: BaseException | None, message: str | None) -> Exception:
    if status >= 500:
        return exc if isinstance(exc, Exception) else InternalError()
    reason = message or (exc.message if isinstance(exc, HttpProcessingError) else "")
    first, _, _ = reason.strip().partition("\n")  # the rest quotes what came
    return _NoHttp(f"the request is not HTTP/1.1: {first.rstrip(':')}".removesuffix(": "))
