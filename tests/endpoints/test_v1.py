"""`/v1/models`: docs/reference/contract.md, "Routes"."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from listener.testing import listening
from tests.endpoints.conftest import Serve, Served

AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
LOADING = {"state": "LOADING", "status": {"error_code": "UNAVAILABLE", "error_message": ""}}


def status(name: str, ready: bool, *versions: str) -> dict[str, Any]:
    said = AVAILABLE if ready else LOADING
    return {"name": name, "ready": ready, "model_version_status": [{"version": v, **said} for v in versions]}


async def test_the_models_are_all_routes_and_the_models_beside_them(served: Served) -> None:
    names = ["plain", "media", "telling", "once", *sorted(served.triton.models)]
    assert await served.ask("GET", "/v1/models") == (200, {"models": names})


@pytest.mark.parametrize("name", ["plain", "once", "twice"])
async def test_a_status_is_that_of_the_model_under_the_name_that_was_asked_for(served: Served, name: str) -> None:
    assert await served.ask("GET", f"/v1/models/{name}") == (200, status(name, True, "1", "2", "10"))
    for version in ("2", "02"):
        path = f"/v1/models/{name}/versions/{version}"
        assert await served.ask("GET", path) == (200, status(name, True, "2"))


async def test_a_name_is_decoded_once(served: Served) -> None:
    assert await served.ask("GET", "/v1/models/a%20b%25%C3%A4") == (200, status("a b%ä", True, "1"))
    assert (await served.ask("GET", "/v1/models/a%2520b%2525%25C3%25A4"))[0] == 404


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/models/no", "no route or model 'no'; there are 'plain', 'media', 'telling', 'once', "),
        ("/v1/models/no/versions/1", "no route or model 'no'; "),
        ("/v1/models/twice/versions/3", "model 'twice' has no version 3"),
        ("/v1/models/plain/versions/0", "model 'plain' has no version 0"),
        ("/v1/models/" + "x" * 500, "no route or model '" + "x" * 100 + "'; "),
    ],
)
async def test_what_is_not_there_is_404(served: Served, path: str, sentence: str) -> None:
    code, body = await served.ask("GET", path)
    assert code == 404
    assert body["error"].startswith(sentence)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/",
        "/v1/models/a%2Fb",
        "/v1/models/%2e%2e",
        "/v1/models/a%5Cb",
        "/v1/models/a%00",
        "/v1/models/twice/versions/x",
        "/v1/models/twice/versions/",
        "/v1/models/twice/versions",
        "/v1/models/twice/ready",
        "/v1",
        "/v1/",
    ],
)
async def test_what_is_no_name_is_no_path(served: Served, path: str) -> None:
    code, body = await served.ask("GET", path)
    assert code == 404
    assert body["error"].startswith("no such path: ")


async def test_a_model_that_is_loading_says_so(served: Served) -> None:
    served.triton.models["twice"].ready = False
    assert await served.ask("GET", "/v1/models/plain") == (200, status("plain", False, "1", "2", "10"))
    assert await served.ask("GET", "/v1/models/plain/versions/2") == (200, status("plain", False, "2"))


async def test_before_triton_has_said_what_it_has_nobody_can(serve: Serve, tmp_path: Path) -> None:
    """503 for a while, and never that there is no such model."""
    async with serve() as served, listening(tmp_path, "http://127.0.0.1:1") as url, aiohttp.ClientSession() as http:

        async def ask(method: str, path: str) -> tuple[int, Any]:
            async with http.request(method, f"{url}{path}", json={"instances": [[1, 2]]}) as answer:
                return answer.status, await answer.json()

        async with asyncio.timeout(5):
            while "Triton is not ready" not in str(await ask("GET", "/health")):
                await asyncio.sleep(0.02)
        for _ in range(3):
            for method, path in (
                ("GET", "/v1/models"),
                ("GET", "/v1/models/pair"),
                ("GET", "/v1/models/plain"),
                ("GET", "/v1/models/pair/versions/1"),
                ("POST", "/v1/models/pair:predict"),
                ("POST", "/v1/models/twice/versions/1:predict"),
                ("POST", "/predict"),
                ("GET", "/v2/models/pair"),
            ):
                code, body = await ask(method, path)
                assert (code, body.keys()) == (503, {"error"}), (path, body)
        assert served.triton.asked_for("/v2/models/pair") == []


async def test_a_model_that_has_come_since_is_found(served: Served) -> None:
    served.triton.models["new"] = served.triton.models["pair"]
    async with asyncio.timeout(5):
        while (await served.ask("GET", "/v1/models/new"))[0] != 200:
            await asyncio.sleep(0.1)
    assert "new" in (await served.ask("GET", "/v1/models"))[1]["models"]
