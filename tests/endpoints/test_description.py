"""`GET /openapi.json`: made of what is served, and anew when that changes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV30SpecValidator

from listener import app
from listener.contract import openapi, schema
from listener.testing import FakeModel
from tests.endpoints.conftest import Serve, Served


async def document(served: Served) -> openapi.Part:
    status, found = await served.ask("GET", "/openapi.json")
    assert status == 200
    OpenAPIV30SpecValidator(found).validate()
    made: openapi.Part = found
    return made


def told(made: openapi.Part, name: str, part: str = "instance") -> Any:
    """A part's schema of one thing that is served."""
    reference = made[openapi.EXTENSION]["served"][name][part]
    return schema.resolved(reference, made["components"]["schemas"])


async def test_it_names_what_can_be_chosen(served: Served) -> None:
    made = await document(served)
    _, listed = await served.ask("GET", "/v1/models")
    assert list(made[openapi.EXTENSION]["served"]) == listed["models"]
    assert made[openapi.EXTENSION]["default"] == "plain"


async def test_it_has_every_path_and_method_of_the_table(served: Served) -> None:
    """With names in the place of what stands for them; `infer` is refused by models with any number of responses."""
    made = await document(served)
    found = {(path, method.upper()) for path, item in made["paths"].items() for method in item}
    for route in app.make(served.listener).router.routes():
        assert route.resource is not None
        path = re.sub(r"\{version[^}]*\}", "1", route.resource.canonical)
        names = ["a%20b%25%C3%A4", "talk"] if "infer" not in path else ["pair"]
        if "{" not in path or route.method == "HEAD":
            names = [""]
        for name in names:
            method = "GET" if route.method == "HEAD" else route.method
            assert (re.sub(r"\{model[^}]*\}", name or "talk", path), method) in found


async def test_handlers_and_tensors(served: Served) -> None:
    made = await document(served)
    assert "anyOf" in told(made, "plain")
    assert told(made, "media").keys() == {"description"}
    assert told(made, "media", "prediction")["title"] == "A prediction of twice"
    assert told(made, "telling", "prediction").keys() == {"description"}
    assert told(made, "plain", "parameters")["properties"]["version"]["enum"] == [1, 2, 10, "1", "2", "10", None]


async def test_the_platforms_routes_are_the_first(serve: Serve) -> None:
    async with serve(predict_route="/v1/models/M:predict", health_route="/v1/models/M") as served:
        made = await document(served)
        assert list(made["paths"])[:2] == ["/v1/models/M:predict", "/v1/models/M"]
        assert set(made["paths"]["/v1/models/M:predict"]) == {"get", "post"}


async def test_a_model_that_is_not_known_yet_has_its_name_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(FakeModel, "config")
        assert told(await document(served), "pair").keys() == {"description"}
    assert told(await document(served), "pair")["required"] == ["A", "B"]


async def test_without_triton_it_tells_what_is_known(serve: Serve) -> None:
    async with serve() as served:
        before = await document(served)
        served.triton.models.clear()
        made = await document(served)
        assert told(made, "plain") == told(before, "plain")


async def test_a_triton_that_does_not_answer_is_not_waited_for_longer_than_a_request_lasts(serve: Serve) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with serve(timeout=0.5) as served:
        served.triton.answer = never
        told = "there was no answer within the request's time (LISTENER_TIMEOUT)"
        assert await served.ask("GET", "/openapi.json") == (504, {"error": told})
        served.triton.answer = None
        await document(served)


async def test_before_the_service_is_loaded_there_is_none(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.listener, "_serving", None)
    status, headers, body = await served.told("GET", "/openapi.json")
    assert (status, headers["retry-after"]) == (503, "1")
    assert body == {"error": "the service is not loaded yet"}
