"""The table of all paths, over HTTP: which methods each has, and what becomes of the platform's two routes among them.

docs/reference/contract.md, "Routes".
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import yarl

from listener import app, settings
from listener.testing import FakeModel, FakeTriton

GET, POST = "GET,HEAD", "POST"
#: Of a listener whose routes are the local ones.
PATHS: dict[str, str] = {
    "/predict": POST,
    "/health": GET,
    "/": GET,
    "/openapi.json": GET,
    "/v1/models": GET,
    "/v1/models/m": GET,
    "/v1/models/m/versions/1": GET,
    "/v1/models/m:predict": POST,
    "/v1/models/m/versions/1:predict": POST,
    "/v2": GET,
    "/v2/health/live": GET,
    "/v2/health/ready": GET,
    "/v2/models/stats": GET,
    "/v2/repository/index": POST,
    **{
        f"/v2/models/m{version}{end}": GET
        for version in ("", "/versions/1")
        for end in ("", "/ready", "/config", "/stats")
    },
    **{
        f"/v2/models/m{version}/{end}": POST
        for version in ("", "/versions/1")
        for end in ("infer", "generate", "generate_stream")
    },
}
DOUBLED = {"predictions": [[2.0, 4.0]]}
Ask = Callable[..., Any]


def twice(given: Any) -> Any:
    return {"Y": given["X"] * np.float32(2)}


@contextlib.asynccontextmanager
async def serving(folder: Path, **routes: str) -> AsyncIterator[Ask]:
    """Gives a function that asks: status, headers with names in lower case, body."""
    model = FakeModel({"X": ("FP32", [2])}, {"Y": ("FP32", [2])}, twice)
    (folder / "listener.yaml").write_text("default: m\nroutes:\n  m: {}\n")
    async with FakeTriton({"m": model, "other": model}).running() as triton:
        given = {"triton_url": triton, "triton_metrics_url": triton, "host": "127.0.0.1", "timeout": 5, **routes}
        listener = app.Listener(settings.read({}, service=folder, **given))
        bound = socket.create_server(("127.0.0.1", 0))
        async with app.serving(listener, bound), aiohttp.ClientSession() as http:
            async with asyncio.timeout(10):
                while listener.missing():
                    await asyncio.sleep(0.01)

            async def ask(method: str, path: str, **more: Any) -> tuple[int, dict[str, str], Any]:
                url = yarl.URL(f"http://127.0.0.1:{bound.getsockname()[1]}{path}", encoded=True)
                if method == "POST" and not more:
                    more = {"json": {"instances": [[1, 2]]}}
                async with http.request(method, url, **more) as answer:
                    headers = {name.lower(): value for name, value in answer.headers.items()}
                    body = await answer.read()
                    is_json = body and answer.content_type == "application/json"
                    return answer.status, headers, await answer.json() if is_json else body

            yield ask


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    async with serving(tmp_path) as found:
        yield found


def methods(allow: str) -> set[str]:
    return set(allow.split(","))


# Methods


async def test_every_path_says_which_methods_it_has(ask: Ask) -> None:
    for path, allowed in PATHS.items():
        status, headers, body = await ask("OPTIONS", path)
        assert (status, methods(headers["allow"]), body) == (204, methods(allowed), b""), path
        assert headers["x-request-id"]


async def test_every_other_method_is_405_with_those_that_there_are(ask: Ask) -> None:
    for path, allowed in PATHS.items():
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"} - methods(allowed):
            status, headers, body = await ask(method, path)
            assert (status, methods(headers["allow"])) == (405, methods(allowed)), (method, path)
            assert body == {"error": f"{method} is not allowed on {path}"}


async def test_every_get_has_its_head(ask: Ask) -> None:
    """The same head, and no body."""
    for path, allowed in PATHS.items():
        status, headers, body = await ask("HEAD", path)
        if allowed == POST:
            assert (status, headers["allow"], body) == (405, POST, b""), path
            continue
        got, expected, _ = await ask("GET", path)
        assert (status, got, body) == (200, 200, b""), path
        assert headers.get("content-type") == expected.get("content-type"), path
        assert headers.get("content-length", "0") == expected["content-length"], path


async def test_the_head_of_a_refusal_is_that_of_the_get(ask: Ask) -> None:
    for path in ("/nowhere", "/v1/models/no", "/v2/models/no", "/v2/models/no/ready"):
        status, headers, body = await ask("HEAD", path)
        got, expected, _ = await ask("GET", path)
        assert (status, body) == (got, b"")
        assert (status, headers["content-length"]) == (got, expected["content-length"])


async def test_no_path_but_these_is_served(ask: Ask) -> None:
    for path in ("/nowhere", "/predict/", "/health/", "//", "/v1", "/v2/", "/v2/models", "/metrics", "/v1/models/m/"):
        for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
            status, headers, body = await ask(method, path)
            assert (status, "allow" in headers) == (404, False), (method, path)
            assert body == (b"" if method == "HEAD" else {"error": f"no such path: {path}"})


@pytest.mark.parametrize("name", ["a%2Fb", "%2e%2e", "a%5Cb", "a%00b", "%7F"])
async def test_what_is_no_name_is_no_path_whatever_the_method(ask: Ask, name: str) -> None:
    for path, method in (
        (f"/v1/models/{name}", "GET"),
        (f"/v1/models/{name}:predict", "POST"),
        (f"/v2/models/{name}", "HEAD"),
    ):
        assert (await ask(method, path))[0] == 404


async def test_a_query_changes_nothing(ask: Ask) -> None:
    assert (await ask("POST", "/predict?model=other"))[::2] == (200, DOUBLED)
    assert (await ask("GET", "/v1/models/m?x=:predict"))[0] == 200


# The platform's routes


def answers(path: str, health: str) -> bool:
    return path in (health, f"{health}:predict")


@pytest.mark.parametrize(
    ("predict", "health"),
    [
        ("/", "/health"),
        ("/openapi.json", "/"),
        ("/v1/models", "/v2"),
        ("/v2/repository/index", "/v2/health/ready"),
        ("/v2/models/m/infer", "/v2/models/m/ready"),
        ("/v1/models/m:predict", "/v1/models/m"),
        ("/v1/models/other:predict", "/health"),
        ("/v1/models/m/versions/1:predict", "/v1/models/m/versions/1"),
        ("/v1/models/M/versions/V:predict", "/v1/models/M/versions/V"),
        ("/v1/models/m", "/v1/models/m"),
        ("/v2/health/live", "/v2/models/stats"),
        ("/v1/endpoints/1/deployedModels/2:predict", "/v1/endpoints/1/deployedModels/2"),
        ("/v1/models/{model}:predict", "/v1/models/{model}"),
        ("/a{b", "/a}b"),
    ],
)
async def test_the_platforms_routes_take_whatever_path_they_are(tmp_path: Path, predict: str, health: str) -> None:
    """And leave all others as they are."""
    async with serving(tmp_path, predict_route=predict, health_route=health) as ask:
        assert (await ask("POST", predict))[::2] == (200, DOUBLED)
        status, _, body = await ask("GET", health)
        assert (status, body["status"]) == (200, "ready")
        assert (await ask("HEAD", health))[0] == 200
        _, headers, _ = await ask("OPTIONS", predict)
        assert methods(headers["allow"]) == methods(f"{GET},{POST}" if answers(predict, health) else POST)
        for path, allowed in PATHS.items():
            if path not in (predict, health, "/predict", "/health"):
                status, headers, _ = await ask("OPTIONS", path)
                assert (status, methods(headers["allow"])) == (204, methods(allowed)), path
        for path in {"/predict", "/health"} - {predict, health}:
            assert (await ask("GET", path))[0] == 404


async def test_the_platforms_route_has_the_default_model_whatever_it_looks_like(tmp_path: Path) -> None:
    """Its names are the platform's, not those of models; the other paths of that form choose by them."""
    async with serving(tmp_path, predict_route="/v1/models/M:predict", health_route="/v1/models/M") as ask:
        assert (await ask("POST", "/v1/models/M:predict"))[::2] == (200, DOUBLED)
        assert (await ask("POST", "/v1/models/other:predict"))[::2] == (200, DOUBLED)
        assert (await ask("POST", "/v1/models/N:predict"))[0] == 404
        assert (await ask("GET", "/v1/models/M"))[2]["status"] == "ready"
        assert (await ask("GET", "/v1/models/m"))[2]["ready"] is True
