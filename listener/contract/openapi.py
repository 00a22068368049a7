"""The OpenAPI 3.0 document of what is served: `GET /openapi.json`. Pure.

Every model has paths of its own, so that each has its exact schemas. Routes and forms: docs/reference/contract.md.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from listener.contract import oip_schema as oip
from listener.contract.media import EVENTS, JSON, NPY, RAW
from listener.contract.schema import REFERENCE, Schema, any_of, elements
from listener.contract.served import Components, Forms, ModelForms, Served

VERSION = "3.0.3"
#: Where the document names the schemas of each served thing; `listener schema --url` reads them there.
EXTENSION = "x-listener"

#: A piece of the document.
Part: TypeAlias = dict[str, Any]
#: A path, a method, and what they do.
Operation: TypeAlias = tuple[str, str, Part]

_TEXT = "text/plain"
_BINARY: Schema = {"type": "string", "format": "binary"}

_ABOUT = """A listener in front of NVIDIA Triton.

Each route with GET answers HEAD as well, and each OPTIONS with `Allow`. Binary tensors of the Open Inference Protocol
are told by the header `Inference-Header-Content-Length`, or by the media type
`application/vnd.vertex-ai-triton.binary+json;json-header-size=N`, and come back as `application/octet-stream`. On the
predict route the header `X-Vertex-Ai-Triton-Redirect: PATH` asks for one of the paths below /v2 instead."""

#: What each status of an error means.
_ERRORS: Mapping[int, str] = {
    400: "The body, a parameter or an instance is wrong; the sentence says which.",
    403: "A path of Triton's that is never served.",
    404: "There is no such model, or no such version of it.",
    413: "The body is larger than LISTENER_MAX_BODY.",
    429: "As many requests are inside as may be; come back later.",
    500: "A handler or the listener itself failed, or Triton did, below /v2.",
    501: "Triton does not support this.",
    502: "Triton failed, or what it answered cannot be read.",
    503: "Starting, stopping, or a model is not ready; come back later.",
    504: "The request's time was over before the answer was there.",
}
_COME_BACK = (429, 503)
#: Those that a route may answer with: with a body to read, with one for Triton, and without.
_PREDICTING = (400, 403, 404, 413, 429, 500, 501, 502, 503, 504)
_INFERRING = (400, 404, 413, 429, 500, 501, 502, 503, 504)
_ASKING = (400, 404, 429, 500, 501, 502, 503, 504)

_STRING: Schema = {"type": "string"}
_ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What was wrong, and where."}},
    "required": ["error"],
    "additionalProperties": False,
}
_HEALTH: Schema = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["starting", "downloading", "ready", "not ready", "draining", "failed"]},
        "missing": {"type": "array", "items": _STRING, "description": "What stands before the next prediction."},
    },
    "required": ["status", "missing"],
    "additionalProperties": False,
}
_NAMES: Schema = {
    "type": "object",
    "properties": {"models": {"type": "array", "items": _STRING}},
    "required": ["models"],
}
_VERSION_STATUS: Schema = {
    "type": "object",
    "properties": {
        "version": _STRING,
        "state": _STRING,
        "status": {"type": "object", "properties": {"error_code": _STRING, "error_message": _STRING}},
    },
    "required": ["version", "state", "status"],
}
_STATUS: Schema = {
    "type": "object",
    "properties": {
        "name": _STRING,
        "ready": {"type": "boolean"},
        "model_version_status": {"type": "array", "items": _VERSION_STATUS},
    },
    "required": ["name", "ready", "model_version_status"],
}


@dataclass(frozen=True, slots=True)
class Routes:
    """The two paths that the environment names, and what a request on the first gets that chooses nothing."""

    predict: str
    health: str
    default: str | None


def document(title: str, version: str, routes: Routes, served: Sequence[Served]) -> Part:
    """The whole document.

    Args:
        title: of the service.
        version: of the listener.
        routes: from the environment.
        served: everything that can be chosen, names unlike one another.
    """
    datatypes = {datatype for one in served for datatype in one.datatypes}
    components = Components(Error=_ERROR, Health=_HEALTH, **elements(datatypes))
    things = _Things(served, components, routes.default)
    paths: dict[str, Part] = {}
    for path, method, operation in _operations(routes, things):
        paths.setdefault(path, {}).setdefault(method, operation)
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components.schemas, "responses": {str(status): _error(status) for status in _ERRORS}},
        EXTENSION: {"default": routes.default, "served": things.listed()},
    }


class _Things:
    """What can be chosen, and the models behind it, each with its bodies.

    Attributes:
        served: with the forms of their requests and answers.
        models: by Triton's name, with versions and the forms of the Open Inference Protocol.
    """

    def __init__(self, served: Sequence[Served], components: Components, default: str | None) -> None:
        self.served = [(one, Forms(one, components, one.name == default)) for one in served]
        self.models: dict[str, tuple[tuple[str, ...], ModelForms]] = {}
        for one in served:
            if one.model and one.model not in self.models:
                self.models[one.model] = one.versions, ModelForms(one.model, one.spec, components)

    def model(self, served: Served) -> Iterator[ModelForms]:
        """The model behind one thing, if it is one."""
        if served.model:
            yield self.models[served.model][1]

    def listed(self) -> Part:
        """Where to find the schemas of one instance, of the parameters and of one prediction."""
        return {
            one.name: {"instance": forms.instance, "parameters": forms.parameters, "prediction": forms.prediction}
            for one, forms in self.served
        }


def _operations(routes: Routes, things: _Things) -> Iterator[Operation]:
    """Everything; of a path and method that come twice, the first counts."""
    yield _path(routes.predict), "post", _predict_route(routes, things)
    if routes.predict == f"{routes.health}:predict":  # as where the platform's documents leave that open
        yield _path(routes.predict), "get", _health()
    yield _path(routes.health), "get", _health()
    yield "/", "get", _operation("One line that leads here", {200: _response("A sentence.", _TEXT, _STRING)})
    here = {200: _response("An OpenAPI document.", JSON, {"type": "object"})}
    yield "/openapi.json", "get", _operation("This document", here, (500, 503, 504))
    names = {200: _response("Their names.", JSON, _NAMES)}
    yield "/v1/models", "get", _operation("What can be chosen", names, (500, 503))
    for served, forms in things.served:
        path = f"/v1/models/{_segment(served.name)}"
        for place in _places(path, served.versions):
            requests, answers = list(forms.requests_by_path(version=place != path)), list(forms.answers())
            for model in things.model(served):
                requests += model.requests()
                answers += model.answers()
            yield from _one_served(place, served, requests, answers)
    yield from _server()
    for name, (versions, models) in things.models.items():
        for place in _places(f"/v2/models/{_segment(name)}", versions):
            yield from _one_model(place, name, models)


def _places(path: str, versions: Iterable[str]) -> list[str]:
    return [path, *(f"{path}/versions/{_segment(version)}" for version in versions)]


def _predict_route(routes: Routes, things: _Things) -> Part:
    requests: list[Schema] = []
    answers: list[Schema] = []
    media: tuple[str, ...] = ()
    for served, forms in things.served:
        requests += forms.requests()
        answers += forms.answers()
        if served.name == routes.default:
            media = served.media
            for model in things.model(served):
                requests += model.requests()
                answers += model.answers()
    return _prediction("Predictions of what parameters.model names, or of the default", requests, answers, media)


def _one_served(path: str, served: Served, requests: list[Schema], answers: list[Schema]) -> Iterator[Operation]:
    status = {200: _response("Its versions and their states.", JSON, _STATUS)}
    yield path, "get", _operation(f"Status of {served.name}", status, (404, 429, 500, 502, 503, 504))
    yield f"{path}:predict", "post", _prediction(f"Predictions of {served.name}", requests, answers, served.media)


def _prediction(summary: str, requests: list[Schema], answers: list[Schema], media: Iterable[str]) -> Part:
    """The operation of a route for predictions, whose body may come in many forms."""
    content = {JSON: {"schema": any_of(*requests)} if requests else {}, **{name: {"schema": _BINARY} for name in media}}
    answer = {
        JSON: {"schema": any_of(*answers)} if answers else {},
        RAW: {"schema": _BINARY},
        NPY: {"schema": _BINARY},
        EVENTS: {},
    }
    done = {200: {"description": "One prediction for each instance, in order.", "content": answer}}
    return {**_operation(summary, done, _PREDICTING), "requestBody": {"required": True, "content": content}}


def _server() -> Iterator[Operation]:
    yield "/v2", "get", _told("Triton's name, version and extensions", oip.SERVER)
    yield "/v2/health/live", "get", _asked("Whether Triton lives")
    yield "/v2/health/ready", "get", _asked("Whether Triton and its models are ready")
    yield "/v2/models/stats", "get", _told("Statistics of all models", oip.STATISTICS)
    listed = {200: _response("Each with its state.", JSON, oip.INDEX)}
    index = _operation("The models of the repository", listed, _INFERRING)
    body = {"content": {JSON: {"schema": oip.INDEX_REQUEST}}}
    yield "/v2/repository/index", "post", {**index, "requestBody": body}


def _one_model(path: str, name: str, forms: ModelForms) -> Iterator[Operation]:
    yield path, "get", _told(f"Inputs and outputs of {name}", oip.METADATA)
    yield f"{path}/ready", "get", _asked(f"Whether {name} is ready")
    yield f"{path}/config", "get", _told(f"Configuration of {name}", oip.CONFIG)
    yield f"{path}/stats", "get", _told(f"Statistics of {name}", oip.STATISTICS)
    if not forms.decoupled:
        yield f"{path}/infer", "post", _infer(name, forms)
    once = {200: _response("The outputs by name, or why there are none.", JSON, any_of(oip.GENERATED, _ERROR))}
    yield f"{path}/generate", "post", _posted(f"One answer of {name}", forms.generate_request, once)
    stream = {200: {"description": "An event for each answer.", "content": {EVENTS: {}}}}
    yield f"{path}/generate_stream", "post", _posted(f"Answers of {name} as they come", forms.generate_request, stream)


def _infer(name: str, forms: ModelForms) -> Part:
    answer = {JSON: {"schema": forms.infer_response}, RAW: {"schema": _BINARY}}
    done = {200: {"description": "The outputs.", "content": answer}}
    made = _posted(f"Inference with {name}, by the Open Inference Protocol", forms.infer_request, done)
    made["requestBody"]["content"][RAW] = {"schema": _BINARY}
    return made


def _health() -> Part:
    schema = {"$ref": f"{REFERENCE}Health"}
    return {
        "summary": "Whether a prediction can be made",
        "responses": {
            "200": _response("It can.", JSON, schema),
            "503": _response("It cannot, and why.", JSON, schema),
        },
    }


def _asked(summary: str) -> Part:
    """A question that the status answers."""
    return _operation(summary, {200: {"description": "Yes."}, 400: {"description": "No."}}, _ASKING)


def _told(summary: str, schema: Schema) -> Part:
    return _operation(summary, {200: _response("As Triton says it.", JSON, schema)}, _ASKING)


def _posted(summary: str, request: Schema, responses: Mapping[int, Part]) -> Part:
    body = {"required": True, "content": {JSON: {"schema": request}}}
    return {**_operation(summary, responses, _INFERRING), "requestBody": body}


def _operation(summary: str, responses: Mapping[int, Part], errors: Iterable[int] = ()) -> Part:
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in errors}
    return {"summary": summary, "responses": {str(s): part for s, part in sorted({**refused, **responses}.items())}}


def _response(description: str, media_type: str, schema: Schema) -> Part:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _error(status: int) -> Part:
    made: Part = _response(_ERRORS[status], JSON, {"$ref": f"{REFERENCE}Error"})
    if status in _COME_BACK:
        made["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
    return made


def _segment(name: str) -> str:
    """A name as one segment of a path; braces would be a template."""
    return urllib.parse.quote(name, safe="!$&'()*+,;=:@")


def _path(route: str) -> str:
    """A literal path, which may hold anything but what would be a template."""
    return route.replace("{", "%7B").replace("}", "%7D")
