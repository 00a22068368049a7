"""The Open Inference Protocol under /v2 and Triton's redirect header: what is asked of Triton, and what is answered."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import numpy as np
import orjson
import pytest
from aiohttp import web

from listener.contract.answer import Answer
from listener.endpoints import inference
from listener.gate import Phase
from listener.triton.paths import model_path
from listener.triton.wire import Answer as TritonAnswer
from tests.endpoints.caller import calling
from tests.endpoints.conftest import Serve, Served

REDIRECT = "X-Vertex-Ai-Triton-Redirect"


async def redirected(served: Served, target: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    headers = {REDIRECT: target, "Content-Type": "application/json", **headers}
    return await served.ask("POST", "/predict", data=body, headers=headers)


def infer(**more: Any) -> bytes:
    entry = {"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    return orjson.dumps({"inputs": [entry], **more})


# What reads

READING = [
    "/v2/models/stats",
    *(
        f"/v2/models/twice{version}{end}"
        for version in ("", "/versions/2")
        for end in ("", "/ready", "/config", "/stats")
    ),
]


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize("way", ["path", "redirect"])
async def test_what_reads_is_answered_by_triton(served: Served, path: str, way: str) -> None:
    status, body = await (served.ask("GET", path) if way == "path" else redirected(served, path[1:]))
    assert status == 200
    expected: Any = b""
    if path.endswith("stats"):
        names = list(served.triton.models) if path == "/v2/models/stats" else ["twice"]
        expected = {"model_stats": [{"name": name} for name in names]}
    elif path.endswith("config"):
        expected = served.triton.models["twice"].config("twice")
    elif not path.endswith("ready"):
        expected = served.triton.models["twice"].metadata("twice")
    assert body == expected
    assert [asked.path for asked in served.triton.asked if asked.method == "GET"].count(path) == 1


async def test_the_servers_metadata_names_what_can_be_used_from_here(served: Served) -> None:
    body = {"name": "fake", "version": "0", "extensions": ["classification", "binary_tensor_data", "generate"]}
    assert await served.ask("GET", "/v2") == (200, body)
    status, tritons = await redirected(served, "v2")
    assert (status, "model_repository" in tritons["extensions"]) == (200, True)


@pytest.mark.parametrize("said", [b"{", b"[]", b'"x"', b'{"extensions": 5}'])
async def test_metadata_that_is_none_is_tritons_failure(served: Served, said: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=said)

    served.triton.answer = answer
    assert await served.ask("GET", "/v2") == (502, {"error": "Triton's metadata cannot be read"})


async def test_the_repositorys_index(served: Served) -> None:
    for ask in (
        served.ask("POST", "/v2/repository/index", data=b'{"ready": true}'),
        served.ask("POST", "/v2/repository/index"),
    ):
        status, body = await ask
        assert status == 200
        assert {"name": "twice", "version": "10", "state": "READY"} in body
    assert (await redirected(served, "v2/repository/index", b'{"ready": true}'))[0] == 200
    asked = served.triton.asked_for("/v2/repository/index")
    assert [each.body for each in asked if each.body] == [b'{"ready": true}'] * 2


@pytest.mark.parametrize(
    "path", ["/v2/models/no", "/v2/models/no/config", "/v2/models/no/stats", "/v2/models/twice/versions/7"]
)
async def test_what_is_not_there_has_tritons_status(served: Served, path: str) -> None:
    name = "no" if "no" in path else "twice"
    expected = (404, {"error": f"Request for unknown model: '{name}' is not found"})
    assert await served.ask("GET", path) == expected
    assert await redirected(served, path[1:]) == expected


async def test_a_model_that_is_not_ready_has_tritons_status_and_our_body(served: Served) -> None:
    served.triton.models["twice"].ready = False
    assert await served.ask("GET", "/v2/models/twice/ready") == (400, {"error": "Triton answered with status 400"})


@pytest.mark.parametrize(
    ("path", "triton"),
    [
        ("/v2/models/a%20b%25%C3%A4", "/v2/models/a%20b%25%C3%A4"),
        ("/v2/models/t%77ice", "/v2/models/twice"),
        ("/v2/models/twice/versions/02", "/v2/models/twice/versions/2"),
        ("/v2/models/a%3Fb%23c/ready?x=y", "/v2/models/a%3Fb%23c/ready"),
        ("/v2/models/twice?x=y", "/v2/models/twice"),
        ("/v2/models/%C3%A4", "/v2/models/%C3%A4"),
        ("/v2/models/%FF", "/v2/models/%25FF"),  # no text, and so no name that anything could have
        ("/v2/models/a:b,c;d=e@f", "/v2/models/a%3Ab%2Cc%3Bd%3De%40f"),
        ("/v2/models/%252e%252e", "/v2/models/%252e%252e"),
        ("/v2/models/...", "/v2/models/..."),
    ],
)
async def test_a_name_is_decoded_once_and_written_anew(served: Served, path: str, triton: str) -> None:
    await served.ask("GET", path)
    assert [asked.path for asked in served.triton.asked if asked.path != "/v2/health/ready"][-1] == triton


@pytest.mark.parametrize(
    "name",
    ["a%2Fb", "a%5Cb", "%2e%2e", "%2E", "a%0Ab", "a%0D%0Ab", "%00", "a%7Fb", "%2e%2e%2fconfig", "..%5c..", "a%1Bb"],
)
@pytest.mark.parametrize("end", ["", "/ready", "/infer", "/versions/1/infer", "/generate_stream"])
async def test_what_is_no_name_never_reaches_triton(served: Served, name: str, end: str) -> None:
    method = "POST" if "infer" in end or "generate" in end else "GET"
    status, body = await served.ask(method, f"/v2/models/{name}{end}", data=infer())
    assert (status, body.keys()) == (404, {"error"})
    assert [asked for asked in served.triton.asked if "/models/" in asked.path and "twice" not in asked.path] == []


@pytest.mark.parametrize("version", ["x", "-1", "1.0", "+1", "%31x", "", "1" * 19, "%D9%A1"])
async def test_a_version_is_a_number(served: Served, version: str) -> None:
    assert (await served.ask("GET", f"/v2/models/twice/versions/{version}"))[0] == 404
    assert (await served.ask("POST", f"/v2/models/twice/versions/{version}/infer", data=infer()))[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/twice/load"),
        ("POST", "/v2/repository/models/twice/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("POST", "/v2/cudasharedmemory/region/r/unregister"),
        ("POST", "/v2/trace/setting"),
        ("POST", "/v2/models/twice/trace/setting"),
        ("POST", "/v2/logging"),
        ("GET", "/metrics"),
        ("GET", "/v2/health"),
        ("GET", "/v2/models"),
        ("GET", "/v2/"),
        ("GET", "//v2"),
        ("GET", "/v2/models/../health/live"),
        ("GET", "/v2/models/twice/"),
    ],
)
async def test_there_is_no_path_for_anything_else(served: Served, method: str, path: str) -> None:
    status, body = await served.ask(method, path, data=b"{}")
    assert (status, body.keys()) == (404, {"error"})


# Health


async def test_health_is_answered_from_memory(served: Served) -> None:
    served.triton.answer = lambda request: asyncio.sleep(9)  # type: ignore[assignment, return-value]
    assert await served.ask("GET", "/v2/health/live") == (200, b"")
    assert await served.ask("GET", "/v2/health/ready") == (200, b"")


async def test_it_says_what_the_health_route_says(served: Served) -> None:
    served.triton.ready = False
    async with asyncio.timeout(5):
        while (await served.ask("GET", "/health"))[0] != 503:
            await asyncio.sleep(0.02)
    assert await served.ask("GET", "/v2/health/ready") == (400, b"")
    assert await served.ask("GET", "/v2/health/live") == (200, b"")
    assert await redirected(served, "v2/health/ready") == (400, {"error": "Triton answered with status 400"})
    assert await redirected(served, "v2/health/live") == (200, b"")


async def test_in_a_drain_it_is_not_ready_and_alive(served: Served) -> None:
    served.listener.gate.phase = Phase.DRAINING
    assert (await served.ask("GET", "/health"))[0] == 503
    assert await served.ask("GET", "/v2/health/ready") == (400, b"")
    assert await served.ask("GET", "/v2/health/live") == (200, b"")


# A Triton that does not answer


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v2", {}),
        ("GET", "/v2/models/twice/config", {}),
        ("GET", "/v2/models/stats", {}),
        ("POST", "/v2/repository/index", {}),
        ("POST", "/predict", {REDIRECT: "metrics"}),
        ("POST", "/predict", {REDIRECT: "v2/models/twice"}),
        ("POST", "/v2/models/twice/infer", {}),
        ("POST", "/v2/models/twice/generate", {}),
        ("POST", "/v2/models/twice/generate_stream", {}),
        ("POST", "/predict", {"Content-Type": "application/json"}),
    ],
)
async def test_what_triton_does_not_answer_is_504(
    serve: Serve, method: str, path: str, headers: dict[str, str]
) -> None:
    async with serve(timeout=0.3) as served:
        served.triton.answer = lambda request: asyncio.sleep(9)  # type: ignore[assignment, return-value]
        status, body = await served.ask(method, path, data=infer(), headers=headers)
        assert (status, body.keys()) == (504, {"error"})


async def test_nor_is_a_body_waited_for_without_end(serve: Serve) -> None:
    async with serve(timeout=0.3) as served, calling(served.port) as caller:
        await caller.send(b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        assert (caller.status, (await caller.body()).keys()) == (504, {"error"})


async def test_a_triton_that_is_gone_is_503(serve: Serve) -> None:
    async def gone(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serve() as served:
        served.triton.answer = gone
        for method, path in (("GET", "/v2"), ("GET", "/v2/models/twice"), ("POST", "/v2/models/twice/infer")):
            assert await served.ask(method, path, data=infer()) == (503, {"error": "Triton cannot be reached"})
        assert (await redirected(served, "metrics"))[0] == 503


# Inference


@pytest.mark.parametrize("version", ["", "/versions/2"])
@pytest.mark.parametrize("way", ["path", "redirect"])
async def test_inference_passes_as_it_is(served: Served, version: str, way: str) -> None:
    path, body = f"/v2/models/twice{version}/infer", infer(id="5", parameters={"model": "pair", "version": 9})
    if way == "path":
        status, said = await served.ask("POST", path, data=body, headers={"X-Me": "secret", "Authorization": "secret"})
    else:
        status, said = await redirected(served, path[1:], body, Authorization="secret")
    assert status == 200
    assert said["outputs"][0]["data"] == [2, 4]
    assert said["model_version"] == (version[-1:] or "10")
    (asked,) = served.triton.asked_for(path)
    assert asked.body == body
    assert asked.headers.keys() <= {"host", "content-type", "content-length", "accept-encoding"}


@pytest.mark.parametrize("way", ["path", "redirect"])
async def test_binary_inference(served: Served, way: str) -> None:
    entry = {"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    header = orjson.dumps({"inputs": [entry]})
    body = header + np.array([1, 2], "<f4").tobytes()
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    if way == "redirect":
        headers[REDIRECT] = "v2/models/twice/infer"
    path = "/predict" if way == "redirect" else "/v2/models/twice/infer"
    status, head, said = await served.told("POST", path, data=body, headers=headers)
    assert status == 200
    assert said[int(head["inference-header-content-length"]) :] == np.array([2, 4], "<f4").tobytes()
    for wrong in ("-1", str(len(body) + 1), "4294967296", "x"):
        headers["Inference-Header-Content-Length"] = wrong
        assert (await served.ask("POST", path, data=body, headers=headers))[0] == 400
    assert len(served.triton.asked_for("/v2/models/twice/infer")) == 1


async def test_a_compressed_body_reaches_triton_as_it_was(served: Served) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    status, _ = await served.ask("POST", "/v2/models/twice/infer", data=gzip.compress(infer()), headers=headers)
    assert status == 200
    (asked,) = served.triton.asked_for("/v2/models/twice/infer")
    assert (asked.body, "content-encoding" in asked.headers) == (infer(), False)


async def test_an_answer_that_triton_compressed_passes_so(served: Served) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "gzip"
        return web.Response(body=gzip.compress(b'{"outputs": []}'), headers={"Content-Encoding": "gzip"})

    served.triton.answer = answer
    async with served.http.post(
        f"{served.url}/v2/models/twice/infer", data=infer(), headers={"Accept-Encoding": "gzip"}
    ) as got:
        assert got.headers["Content-Encoding"] == "gzip"
        assert await got.json(content_type=None) == {"outputs": []}


@pytest.mark.parametrize("status", [400, 404, 500, 501, 503])
@pytest.mark.parametrize("way", ["path", "redirect"])
async def test_tritons_refusal_has_its_status_and_our_body(served: Served, status: int, way: str) -> None:
    served.triton.fail_with = status
    ask = served.ask("POST", "/v2/models/twice/infer", data=infer())
    assert await (ask if way == "path" else redirected(served, "v2/models/twice/infer", infer())) == (
        status,
        {"error": "the fake was told to fail"},
    )
    if way == "redirect":
        ask.close()


async def test_inference_needs_a_permit_and_questions_do_not(serve: Serve) -> None:
    async with serve(max_requests=1) as served:
        served.triton.delay = 0.5
        first = asyncio.create_task(served.ask("POST", "/v2/models/twice/infer", data=infer()))
        async with asyncio.timeout(5):
            while not served.triton.asked_for("/v2/models/twice/infer"):
                await asyncio.sleep(0.01)
        for path in ("/v2/models/twice/infer", "/v2/models/talk/generate", "/v2/models/talk/generate_stream"):
            status, head, _ = await served.told("POST", path, data=b"{}")
            assert (status, head["retry-after"]) == (429, "1")
        assert (await redirected(served, "v2/models/twice/infer", infer()))[0] == 429
        for path in ("/v2", "/v2/models/twice", "/v2/models/stats"):
            assert (await served.ask("GET", path))[0] == 200
        assert (await redirected(served, "metrics"))[0] == 200
        assert (await first)[0] == 200


def tensor(shape: list[int], **outputs: Any) -> bytes:
    entry = {"name": "X", "shape": shape, "datatype": "FP32", "data": []}
    return orjson.dumps({"inputs": [entry], "outputs": [{"name": "Y", "parameters": outputs}]})


async def infer_everywhere(served: Served, model: str, body: bytes) -> list[tuple[int, Any]]:
    """The answers of each path that leads to a model's inference."""
    headers = {"Content-Type": "application/json"}
    asked = [f"/v2/models/{model}/infer", f"/v2/models/{model}/versions/1/infer", f"/v1/models/{model}:predict"]
    answers = [await served.ask("POST", path, data=body, headers=headers) for path in asked]
    return [*answers, await redirected(served, f"v2/models/{model}/infer", body)]


async def test_a_batch_of_no_rows_does_not_reach_triton(served: Served) -> None:
    """Which would never answer it."""
    for answer in await infer_everywhere(served, "twice", tensor([0, 0])):
        told = "a tensor for model 'twice' has no rows: the first size of its shape is 0"
        assert answer == (400, {"error": told})
    assert not [asked for asked in served.triton.asked if asked.method == "POST"]


async def test_a_model_without_batching_may_have_an_empty_tensor(served: Served) -> None:
    await infer_everywhere(served, "matrix", tensor([0, 2]))
    assert len([asked for asked in served.triton.asked if asked.path.endswith("/infer")]) == 4


async def test_classes_of_texts_do_not_reach_triton(served: Served) -> None:
    """Which would end."""
    for answer in await infer_everywhere(served, "text", tensor([1, 1], classification=1)):
        assert answer == (400, {"error": "output 'Y' of model 'text' is BYTES, of which there are no classes"})
    await infer_everywhere(served, "twice", tensor([1, 2], classification=1))
    assert len([asked for asked in served.triton.asked if asked.path.endswith("/infer")]) == 4


async def test_of_a_model_that_is_not_there_triton_says_so(served: Served) -> None:
    for body in (tensor([0, 2]), tensor([1, 2], classification=1)):
        await served.ask("POST", "/v2/models/nobody/infer", data=body)
        assert served.triton.asked[-1].path == "/v2/models/nobody/infer"


# The redirect header


async def test_metrics_are_tritons(served: Served) -> None:
    assert await redirected(served, "metrics") == (200, b"nv_inference_request_success 0\n")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("v2/repository/models/twice/load", 403),
        ("v2/repository/models/twice/unload", 403),
        ("v2/systemsharedmemory/region/r/register", 403),
        ("v2/systemsharedmemory/unregister", 403),
        ("v2/cudasharedmemory/region/r/unregister", 403),
        ("v2/models/twice/generate", 400),
        ("v2/models/twice/generate_stream", 400),
        ("v2/logging", 400),
        ("v2/trace/setting", 400),
        ("/v2", 400),
        ("v2/models/../logging", 400),
        ("", 400),
        ("x" * 3000, 400),
    ],
)
async def test_what_is_refused_never_reaches_triton(served: Served, target: str, status: int) -> None:
    got, body = await redirected(served, target, b"{}")
    assert (got, body.keys()) == (status, {"error"})
    assert body["error"].endswith("is not served")
    assert [asked for asked in served.triton.asked if asked.path != "/v2/health/ready"] == []


async def test_the_header_goes_before_the_body_and_before_events(served: Served) -> None:
    for headers in ({"Accept": "text/event-stream"}, {"Content-Type": "image/jpeg"}):
        assert (await redirected(served, "v2/models/twice", b"whatever", **headers))[0] == 200


async def test_the_header_counts_on_the_predict_route_alone(served: Served) -> None:
    headers = {REDIRECT: "v2/logging"}
    status, body = await served.ask("POST", "/v1/models/plain:predict", json={"instances": [[1, 2]]}, headers=headers)
    assert (status, body) == (200, {"predictions": [[2, 4]]})
    assert (await served.ask("GET", "/v2/models/twice", headers=headers))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_with_another_method_it_is_405(served: Served, method: str) -> None:
    status, head, _ = await served.told(method, "/predict", headers={REDIRECT: "v2"})
    assert (status, head["allow"]) == (405, "POST")


@pytest.mark.parametrize("route", ["/p", "/health:predict"])
async def test_also_where_get_asks_for_health(serve: Serve, route: str) -> None:
    health = "/p" if route == "/p" else "/health"
    async with serve(predict_route=route, health_route=health) as served:
        async with asyncio.timeout(5):
            while (await served.ask("GET", route))[0] != 200:
                await asyncio.sleep(0.02)
        for method in ("GET", "HEAD"):
            status, head, body = await served.told(method, route, headers={REDIRECT: "v2"})
            assert (status, head["allow"]) == (405, "POST")
            assert body == (
                {"error": "a request with x-vertex-ai-triton-redirect has to be POST"} if method == "GET" else b""
            )
        assert (await served.ask("POST", route, headers={REDIRECT: "v2"}))[0] == 200


# Names that are no text


async def raw(served: Served, *lines: bytes) -> bytes:
    """The whole answer to a head that is written here; the connection ends behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"\r\n".join([*lines, b"Host: x", b"Connection: close", b"Content-Length: 0", b"", b""]))
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("name", ["\xff".encode("latin-1"), "ä".encode(), b"a\x01b"])
async def test_a_path_is_ascii(served: Served, name: bytes) -> None:
    answer = await raw(served, b"GET /v2/models/" + name + b" HTTP/1.1")
    assert answer.split(b" ")[1] == b"400"
    assert b'{"error":"the request is not HTTP/1.1: ' in answer


async def test_bytes_in_the_redirect_header_reach_triton_as_they_are(served: Served) -> None:
    answer = await raw(served, b"POST /predict HTTP/1.1", REDIRECT.encode() + b": v2/models/\xff\xfe/config")
    assert answer.split(b" ")[1] == b"404"
    assert served.triton.asked[-1].path == "/v2/models/%FF%FE/config"
    answer = await raw(served, b"POST /predict HTTP/1.1", REDIRECT.encode() + b": v2/models/\xff/infer")
    assert answer.split(b" ")[1] == b"404"
    assert served.triton.asked[-1].path == "/v2/models/%FF/infer"
    answer = await raw(served, b"POST /predict HTTP/1.1", REDIRECT.encode() + b": \xff")
    assert answer.split(b" ")[1] == b"400"


# Triton's answers


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (TritonAnswer(200, {}, b""), Answer(b"")),
        (TritonAnswer(200, {"content-type": "text/plain"}, b"x"), Answer(b"x", 200, "text/plain")),
        (
            TritonAnswer(200, {"inference-header-content-length": "5", "x-me": "1", "connection": "close"}, b"x"),
            Answer(b"x", 200, headers={"Inference-Header-Content-Length": "5"}),
        ),
        (
            TritonAnswer(400, {"content-type": "text/html"}, b"<html>"),
            Answer(b'{"error":"Triton answered with status 400"}', 400),
        ),
        (TritonAnswer(404, {}, b'{"error": "no\\nsecret"}'), Answer(b'{"error":"no"}', 404)),
        (TritonAnswer(400, {}, b'data: {"error": "no"}\n\n'), Answer(b'{"error":"no"}', 400)),
        (TritonAnswer(500, {}, b'{"error": "Unable to parse it"}'), Answer(b'{"error":"Unable to parse it"}', 400)),
        (
            TritonAnswer(503, {"content-encoding": "gzip"}, b""),
            Answer(b'{"error":"Triton answered with status 503"}', 503),
        ),
    ],
)
def test_of_tritons_headers_pass_those_that_are_known(answer: TritonAnswer, passed: Answer) -> None:
    assert inference.passed(answer) == passed


@pytest.mark.parametrize(
    ("model", "version", "path"),
    [
        ("m", "", "/v2/models/m"),
        ("m", "3", "/v2/models/m/versions/3"),
        ("a b/c", "", "/v2/models/a%20b%2Fc"),
        ("\udcff", "", "/v2/models/%FF"),
    ],
)
def test_a_models_path(model: str, version: str, path: str) -> None:
    assert model_path(model, version) == path
