"""The table of all paths that are served; nothing else is.

The platform's two routes come first: they are exact, and may take a path that is also one of ours. A model's name in a
path is decoded once and must be a name, no part of a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import HttpVersion11, web
from aiohttp.web_urldispatcher import PlainResource, Resource

from listener.contract import media
from listener.contract.vertex_triton import REDIRECT
from listener.endpoints import pages
from listener.endpoints.oip import Oip
from listener.endpoints.serving import Endpoint
from listener.endpoints.stream import PredictStream
from listener.endpoints.v1 import V1
from listener.errors import UnknownPath, WrongMethod
from listener.middleware import refuse_too_large, refused
from listener.settings import Settings

#: In a name nothing that separates the parts of a path, or does not print.
_NO_NAME = re.compile(r"\.\.?|.*[/\\\x00-\x1f\x7f].*", re.DOTALL)
#: A version of a model is a number.
_VERSION = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All there are, by file."""

    health: Endpoint
    predict: Endpoint
    stream: PredictStream
    oip: Oip
    v1: V1
    openapi: Endpoint


def add(app: web.Application, settings: Settings, ends: Endpoints) -> None:
    """Adds every path to an application."""
    predict, health = settings.predict_route, settings.health_route
    resource = _exactly(app, predict)
    _add(resource, "POST", _whichever(ends, ends.oip.redirect))
    if predict in (health, f"{health}:predict"):
        # the platform's documents disagree whether its default health route ends in :predict
        _add_get(resource, _not_redirected(ends.health))
    if predict != health:
        _add_get(_exactly(app, health), ends.health)
    resources: dict[str, Resource] = {}
    for method, path, endpoint in _table(ends):
        if path in (predict, health) and "{" not in path:
            continue
        if path not in resources:
            resources[path] = app.router.add_resource(path)
        _add(resources[path], method, _named(endpoint))


def _table(ends: Endpoints) -> list[tuple[str, str, Endpoint]]:
    own = [("GET", "/", pages.root), ("GET", pages.OPENAPI, ends.openapi)]
    models = ("/v1/models/{model}:predict", "/v1/models/{model}/versions/{version}:predict")
    predictions = [("POST", path, _whichever(ends, None)) for path in models]
    return [*own, *predictions, *ends.v1.resources(), *ends.oip.resources()]


def _add(resource: Resource, method: str, endpoint: Endpoint) -> None:
    if method == "GET":
        _add_get(resource, endpoint)
    else:
        resource.add_route(method, endpoint, expect_handler=_expected)


def _add_get(resource: Resource, endpoint: Endpoint) -> None:
    """With HEAD, as RFC 9110, section 9.1, wants it; aiohttp leaves the body out."""
    for method in ("GET", "HEAD"):
        resource.add_route(method, endpoint, expect_handler=_expected)


async def _expected(request: web.Request) -> None:
    """Answers `Expect` before the body is asked for (RFC 9110, section 10.1.1)."""
    refuse_too_large(request)
    if request.version >= HttpVersion11:
        if request.headers["Expect"].lower() != "100-continue":
            raise web.HTTPExpectationFailed(text="the header Expect can only say 100-continue")
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


def _exactly(app: web.Application, path: str) -> PlainResource:
    """A resource whose path is taken to the letter: platform routes contain ':' and may contain '{'."""
    resource = PlainResource(path)
    app.router.register_resource(resource)
    return resource


def _whichever(ends: Endpoints, redirect: Endpoint | None) -> Endpoint:
    """A prediction, at once or in events, or what Triton's redirect header asks for where that counts."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        if redirect and REDIRECT in request.headers:
            return await redirect(request)
        if any(media.accepts(accept, media.EVENTS) for accept in request.headers.getall("Accept", ())):
            return await ends.stream(request)
        return await ends.predict(request)

    return endpoint


def _not_redirected(endpoint: Endpoint) -> Endpoint:
    async def checked(request: web.Request) -> web.StreamResponse:
        if REDIRECT in request.headers:
            return refused(request, WrongMethod(f"a request with {REDIRECT} has to be POST"), {"Allow": "POST"})
        return await endpoint(request)

    return checked


def _named(endpoint: Endpoint) -> Endpoint:
    """Only where the names in the path are names."""

    async def checked(request: web.Request) -> web.StreamResponse:
        named = request.match_info
        if _NO_NAME.fullmatch(named.get("model", "")) or not _VERSION.fullmatch(named.get("version", "1")):
            raise UnknownPath(f"no such path: {request.path}")
        return await endpoint(request)

    return checked
