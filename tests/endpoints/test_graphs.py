"""Routes of several steps on every path that knows of models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from listener.contract import openapi
from tests.endpoints.conftest import Serve, Served
from tests.endpoints.test_description import document, told

SERVICE = """\
default: kinds
routes:
  kinds:
    switch:
      parameter: kind
      cases: {telling: words, talk: talk, twice: twice}
  safe: {fallback: [missing, twice]}
  chain: {sequence: [twice, "twice@2"]}
nodes:
  words: {handler: "said_by_endpoints:Telling", timeout: 5}
"""
SEVERAL = "route 'chain' has several steps, and no versions"


@pytest.fixture
async def served(serve: Serve, tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "listener.yaml").write_text(SERVICE)
    async with serve() as found:
        yield found


async def events(served: Served, document: Any) -> list[Any]:
    status, headers, body = await served.told(
        "POST", "/predict", json=document, headers={"Accept": "text/event-stream"}
    )
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), body
    return [json.loads(part.removeprefix("data: ")) for part in body.decode().split("\n\n") if part]


def asking(kind: str, instance: Any) -> dict[str, Any]:
    return {"instances": [instance], "parameters": {"kind": kind}}


async def test_a_switch_streams_as_the_step_that_it_chooses(served: Served) -> None:
    assert await events(served, asking("telling", ["a", "deadline"])) == ["a", True]
    assert [event["Y"] for event in await events(served, asking("talk", "some words"))] == ["some", "words"]
    assert await events(served, asking("twice", [1, 2])) == [{"predictions": [[2.0, 4.0]]}]


async def test_what_fails_before_the_first_event_is_an_ordinary_answer(served: Served) -> None:
    headers = {"Accept": "text/event-stream"}
    status, told = await served.ask("POST", "/predict", json=asking("no", 1), headers=headers)
    assert (status, told) == (400, {"error": "parameters.kind is 'no'; it can be telling, talk, twice"})
    status, told = await served.ask("POST", "/predict", json=asking("telling", ["bug"]), headers=headers)
    assert (status, told) == (500, {"error": "the handler of 'words.node' failed in predict; the log has the reason"})
    status, told = await served.ask("POST", "/predict", json=asking("talk", "fail"), headers=headers)
    assert (status, told) == (400, {"error": "model 'talk': failed in between"})


async def test_tritons_own_requests_are_refused_with_a_sentence(served: Served) -> None:
    sentence = "route 'kinds' has several steps, so a request to it has instances, or inputs by columns"
    infer = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    for path in ("/predict", "/v1/models/kinds:predict"):
        assert await served.predict(infer, path) == (400, {"error": sentence})
    named = {**infer, "parameters": {"model": "kinds"}}
    assert await served.predict(named) == (400, {"error": sentence})
    assert await served.predict({"X": "generate"}, Accept="text/event-stream") == (400, {"error": sentence})
    assert await served.predict({"inputs": {"X": [[1, 2]]}, "parameters": {"model": "safe"}}) == (
        200,
        {"outputs": [[2.0, 4.0]]},
    )


@pytest.mark.parametrize("end", ["", "/ready", "/config", "/stats"])
async def test_triton_knows_nothing_of_such_a_route(served: Served, end: str) -> None:
    assert (await served.ask("GET", f"/v2/models/kinds{end}"))[0] == (await served.ask("GET", f"/v2/models/no{end}"))[0]


async def test_one_by_its_path(served: Served) -> None:
    assert await served.predict({"instances": [[1, 2]]}, "/v1/models/chain:predict") == (
        200,
        {"predictions": [[4.0, 8.0]]},
    )
    for path, method in (("/v1/models/chain/versions/1:predict", "POST"), ("/v1/models/chain/versions/1", "GET")):
        status, body = await served.ask(method, path, **({"json": {"instances": [[1, 2]]}} if method == "POST" else {}))
        assert (status, body) == (404, {"error": SEVERAL})
    by_parameter = {"instances": [[1, 2]], "parameters": {"model": "chain", "version": 1}}
    assert await served.predict(by_parameter) == (400, {"error": f"parameters.version: {SEVERAL}"})


async def test_its_status_is_that_of_what_it_needs(served: Served) -> None:
    async def ready(name: str) -> bool:
        status, body = await served.ask("GET", f"/v1/models/{name}")
        assert (status, body) == (200, {"name": name, "ready": body["ready"], "model_version_status": []})
        return bool(body["ready"])

    assert [await ready(name) for name in ("kinds", "safe", "chain")] == [True, True, True]
    served.triton.models["twice"].versions = ("1", "10")
    readiness = served.listener.serving().readiness
    readiness._tell(await readiness._look())
    assert [await ready(name) for name in ("kinds", "safe", "chain")] == [True, True, False]
    served.triton.models["twice"].ready = False
    readiness._tell(await readiness._look())
    assert [await ready(name) for name in ("kinds", "safe", "chain")] == [False, False, False]
    _, health = await served.ask("GET", "/health")
    assert health["missing"] == [
        "model 'twice' is not ready",
        "route 'safe' has no alternative that is ready: model 'missing' is not in the repository; "
        "model 'twice' is not ready",
        "model 'twice' has no version 2 that is ready",
    ]


async def test_the_description_has_what_its_steps_tell(served: Served) -> None:
    made = await document(served)
    listed = (await served.ask("GET", "/v1/models"))[1]["models"]
    assert list(made[openapi.EXTENSION]["served"]) == listed
    assert told(made, "chain") == told(made, "twice")
    assert told(made, "chain", "prediction") == told(made, "twice", "prediction")
    assert told(made, "safe", "prediction").keys() == {"description"}  # one of its models is not known
    assert "The handlers of its steps may tell" in told(made, "kinds")["description"]
    version = told(made, "chain", "parameters")["properties"]["version"]
    assert version["enum"] == [None]
    assert not [path for path in made["paths"] if path.startswith(("/v2/models/chain", "/v1/models/chain/versions"))]
