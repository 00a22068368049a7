"""The application with production's flags over HTTP, in front of a fake Triton: what belongs to the listener alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.test_utils
import numpy as np
import pytest
from aiohttp import web

from listener import app, settings
from listener.errors import ConfigError
from listener.gate import Phase
from listener.testing import FakeModel, FakeTriton, Tensors, listening, until_ready
from listener.testing.serving import prepared, serving

HANDLER = """\
from listener import Call, Handler, InstanceError, Reply


class Doubled(Handler):
    model = "twice"
    example = [1.0, 2.0]

    def preprocess(self, instance, context):
        if instance == "seen":
            raise InstanceError(f"{sorted(context.extras)} {sorted(context.parameters)} {context.headers['x-me']}")
        if instance == "bug":
            raise RuntimeError("a secret")
        return {"X": instance}

    def postprocess(self, outputs):
        return {"twice": outputs["Y"].tolist()}


class Unencodable(Handler):
    model = "twice"

    def postprocess(self, outputs):
        return object()


class Length(Handler):
    def preprocess(self, instance):
        return {"X": [float(len(instance)), float(instance[0])]}


class Short(Handler):
    async def predict(self, call: Call) -> Reply:
        return Reply(call.instances[:-1])
"""
SERVICE = """\
default: doubled
routes:
  doubled: {handler: "things:Doubled"}
  plain: {model: twice}
  unencodable: {handler: "things:Unencodable"}
  short: {handler: "things:Short", model: twice}
  length: {handler: "things:Length", model: twice}
"""


def twice(inputs: Tensors) -> Tensors:
    return {"Y": inputs["X"] * 2}


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton({"twice": FakeModel({"X": ("FP32", [2])}, {"Y": ("FP32", [2])}, twice, max_batch_size=4)})


@pytest.fixture
def service(tmp_path: Path) -> Path:
    (tmp_path / "things.py").write_text(HANDLER)
    (tmp_path / "listener.yaml").write_text(SERVICE)
    return tmp_path


@pytest.fixture
async def url(fake: FakeTriton, service: Path) -> AsyncIterator[str]:
    async with fake.running() as triton, listening(service, triton, max_body=4096, timeout=2) as base:
        await until_ready(base)
        fake.batches.clear()
        yield base


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def predict(http: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> tuple[int, Any]:
    async with http.post(f"{url}/predict", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_instances_in_predictions_out_in_order(http: aiohttp.ClientSession, url: str) -> None:
    status, body = await predict(http, url, {"instances": [[1, 2], [3, 4]]})
    assert (status, body) == (200, {"predictions": [{"twice": [2, 4]}, {"twice": [6, 8]}]})


async def test_a_large_batch_is_split_and_joined(http: aiohttp.ClientSession, url: str, fake: FakeTriton) -> None:
    rows = [[float(n), -float(n)] for n in range(11)]
    _, body = await predict(http, url, {"instances": rows})
    assert [p["twice"] for p in body["predictions"]] == [[2 * a, 2 * b] for a, b in rows]
    assert sorted(fake.batches) == [3, 4, 4]


@pytest.mark.parametrize("names", ["", "other", "twice", "*"])
async def test_requests_share_a_call_unless_the_settings_say_no(
    fake: FakeTriton, service: Path, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with fake.running() as triton, listening(service, triton, not_coalesced=names) as base:
        await until_ready(base)
        fake.batches.clear()
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(predict(http, base, {"instances": [[n, n]]}) for n in range(32)))
    assert sum(fake.batches) == 32
    assert (max(fake.batches) == 1) == (names in ("twice", "*"))
    unknown = "LISTENER_NOT_COALESCED: no route of this service uses a model 'other'"
    assert (unknown in caplog.messages) == (names == "other")


async def test_a_route_without_a_handler_is_chosen_by_name(http: aiohttp.ClientSession, url: str) -> None:
    body = {"instances": [[1, 2], {"X": [3, 4]}], "parameters": {"model": "plain"}}
    assert await predict(http, url, body) == (200, {"predictions": [[2, 4], [6, 8]]})


async def test_bytes_stand_for_a_tensor(http: aiohttp.ClientSession, url: str) -> None:
    raw = base64.b64encode(np.array([1.5, 2.5], "<f4").tobytes()).decode()
    body = {"instances": [{"X": {"b64": raw}}], "parameters": {"model": "plain"}}
    assert await predict(http, url, body) == (200, {"predictions": [[3.0, 5.0]]})


async def raw_body(url: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "application/octet-stream"}
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_raw_body_is_one_instance(fake: FakeTriton, service: Path) -> None:
    for default, sent, expected in [
        ("plain", np.array([0.1, 2.5], "<f4").tobytes(), [0.2, 5.0]),
        ("length", b"\xff{}", [6.0, 510.0]),
    ]:
        (service / "listener.yaml").write_text(SERVICE.replace("default: doubled", f"default: {default}"))
        async with fake.running() as triton, listening(service, triton, max_body=4096) as url:
            await until_ready(url)
            assert await raw_body(f"{url}/predict", sent) == (200, {"predictions": [expected]})
            assert (await raw_body(f"{url}/predict", b"x" * 5000))[0] == 413
            if default == "plain":
                sentence = "instances[0]: input 'X': 3 bytes do not make FP32 [2]"
                assert await raw_body(f"{url}/predict", b"abc") == (400, {"error": sentence})


@pytest.mark.parametrize("batch", [64, 2, 0], ids=["one part", "parts", "no batching"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
async def test_numbers_are_printed_in_their_shortest_form(
    http: aiohttp.ClientSession, tmp_path: Path, batch: int, outputs: int, datatype: str
) -> None:
    shape = {name: (datatype, [2]) for name in "YZ"[:outputs]}
    model = FakeModel({"X": (datatype, [2])}, shape, lambda given: dict.fromkeys(shape, given["X"]), batch)
    (tmp_path / "listener.yaml").write_text("default: m\nroutes:\n  m: {model: m}\n")
    async with FakeTriton({"m": model}).running() as triton, listening(tmp_path, triton) as url:
        await until_ready(url)
        async with http.post(f"{url}/predict", json={"instances": [[0.1, 2]] * 3}) as answer:
            row = "[0.1,2.0]" if outputs == 1 else '{"Y":[0.1,2.0],"Z":[0.1,2.0]}'
            assert await answer.text() == f'{{"predictions":[{row},{row},{row}]}}'


async def test_the_context_reaches_the_handler(http: aiohttp.ClientSession, url: str) -> None:
    body = {"instances": ["seen"], "parameters": {"a": 1}, "signature_name": "x", "other": None}
    _, answer = await predict(http, url, body, **{"X-Me": "hello"})
    assert answer["error"] == "instances[0]: ['other', 'signature_name'] ['a'] hello"


@pytest.mark.parametrize(
    ("instances", "route", "hook", "status"),
    [(["bug"], "doubled", "preprocess", 500), ([[1, 2]], "short", "predict", 500)],
)
async def test_a_handlers_bug_is_a_fixed_sentence(
    http: aiohttp.ClientSession,
    url: str,
    instances: list[Any],
    route: str,
    hook: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    got = await predict(http, url, {"instances": instances, "parameters": {"model": route}})
    assert got == (status, {"error": f"the handler of {route!r} failed in {hook}; the log has the reason"})
    assert any(record.exc_info for record in caplog.records)


async def test_a_prediction_that_json_cannot_say_is_500(http: aiohttp.ClientSession, url: str) -> None:
    got = await predict(http, url, {"instances": [[1, 2]], "parameters": {"model": "unencodable"}})
    assert got == (500, {"error": "a handler failed in postprocess; the log has the reason"})


@pytest.mark.parametrize(
    ("model", "instance", "sentence"),
    [
        ("plain", {"Z": 1}, "unknown input 'Z'; model 'twice' takes 'X' (FP32 [2])"),
        ("plain", {}, "input 'X' is missing"),
        ("plain", [1, 2, 3], "input 'X' has shape [3]; the model takes [2]"),
        ("plain", ["1", "2"], "input 'X' is FP32 and takes numbers, not '1' at [0]"),
        ("plain", [[1], [1, 2]], "input 'X' is ragged: its lists differ in length or depth"),
    ],
)
async def test_an_instance_that_is_no_tensor_is_named(
    http: aiohttp.ClientSession, url: str, model: str, instance: Any, sentence: str
) -> None:
    got = await predict(http, url, {"instances": [[1, 2], instance], "parameters": {"model": model}})
    assert got == (400, {"error": f"instances[1]: {sentence}"})


@pytest.mark.parametrize(
    ("triton_status", "status", "sentence"),
    [
        (400, 400, "model 'twice': the fake was told to fail"),
        (404, 400, "model 'twice': the fake was told to fail"),
        (500, 502, "model 'twice' failed in Triton"),
        (503, 503, "model 'twice' cannot take the request now"),
    ],
)
async def test_tritons_statuses(
    http: aiohttp.ClientSession, url: str, fake: FakeTriton, triton_status: int, status: int, sentence: str
) -> None:
    fake.fail_with = triton_status
    assert await predict(http, url, {"instances": [[1, 2]]}) == (status, {"error": sentence})


async def test_what_takes_too_long_is_504(http: aiohttp.ClientSession, url: str, fake: FakeTriton) -> None:
    fake.delay = 10
    got = await predict(http, url, {"instances": [[1, 2]]})
    assert got == (504, {"error": "the request's time is up (LISTENER_TIMEOUT)"})


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_damaged_compressed_body_is_400(http: aiohttp.ClientSession, url: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    async with http.post(f"{url}/predict", data=b"not compressed at all", headers=headers) as answer:
        assert answer.status == 400
        assert await answer.json() == {"error": "the body is damaged: it ends early, or is not in its Content-Encoding"}


async def test_a_compressed_body_is_read(http: aiohttp.ClientSession, url: str) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = gzip.compress(b'{"instances": [[1, 2]]}')
    async with http.post(f"{url}/predict", data=body, headers=headers) as answer:
        assert await answer.json() == {"predictions": [{"twice": [2, 4]}]}


async def test_a_body_over_the_limit_is_413(http: aiohttp.ClientSession, url: str) -> None:
    got = await predict(http, url, {"instances": ["x" * 5000]})
    assert got == (413, {"error": "the body is larger than 4096 bytes (LISTENER_MAX_BODY)"})


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3", True), ("", False), ("a b", False), ("x" * 129, False)])
async def test_the_request_id_is_taken_over_if_harmless(
    http: aiohttp.ClientSession, url: str, given: str, kept: bool
) -> None:
    async with http.get(f"{url}/health", headers={"X-Request-Id": given}) as answer:
        assert (answer.headers["X-Request-Id"] == given) is kept
        assert answer.headers["X-Request-Id"]


async def test_health_says_what_is_missing(http: aiohttp.ClientSession, fake: FakeTriton, service: Path) -> None:
    fake.ready = False
    async with fake.running() as triton, listening(service, triton) as url:

        async def health() -> tuple[int, Any]:
            async with http.get(f"{url}/health") as answer:
                return answer.status, await answer.json()

        async def until(missing: str) -> None:
            async with asyncio.timeout(5):
                while missing not in str(await health()):
                    await asyncio.sleep(0.02)

        assert (await health())[0] == 503
        await until("Triton is not ready")
        models, fake.models, fake.ready = fake.models, {}, True
        await until("model 'twice' is not in the repository")
        fake.models = models
        fake.models["twice"].ready = False
        await until("model 'twice' is not ready")
        fake.fail_with, fake.models["twice"].ready = 500, True
        await until("the warm-up of route 'doubled' failed: model 'twice' failed in Triton")
        fake.fail_with = None
        await until_ready(url)
        assert await health() == (200, {"status": "ready", "missing": []})


async def test_a_service_that_cannot_load_is_failed(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text("routes: []\n")
    async with listening(tmp_path, "http://127.0.0.1:1") as url:
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5), http.get(f"{url}/health") as answer:
            assert answer.status == 503
            assert (await answer.json())["status"] in ("failed", "starting")
        status, body = await predict(http, url, {"instances": [1]})
        assert (status, body["error"]) == (503, "the service cannot be served; the log has the reason")


async def test_no_permit_left_is_429(http: aiohttp.ClientSession, fake: FakeTriton, service: Path) -> None:
    async with fake.running() as triton, listening(service, triton, max_requests=1) as url:
        await until_ready(url)
        fake.delay = 0.5
        answers = await asyncio.gather(*(predict(http, url, {"instances": [[1, 2]]}) for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 429, 429]
    assert (429, {"error": "1 requests are being worked on already (LISTENER_MAX_REQUESTS)"}) in answers


async def test_a_client_that_leaves_gives_its_permit_back(
    http: aiohttp.ClientSession, fake: FakeTriton, service: Path
) -> None:
    async with fake.running() as triton, listening(service, triton, max_requests=1) as url:
        await until_ready(url)
        fake.delay = 5
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await predict(http, url, {"instances": [[1, 2]]})
        fake.delay = 0
        async with asyncio.timeout(2):
            while (await predict(http, url, {"instances": [[1, 2]]}))[0] != 200:
                await asyncio.sleep(0.05)


async def test_platform_routes_are_taken_to_the_letter(
    http: aiohttp.ClientSession, fake: FakeTriton, service: Path
) -> None:
    base = "/v1/endpoints/12/deployedModels/34"
    async with (
        fake.running() as triton,
        listening(service, triton, predict_route=f"{base}:predict", health_route=base) as url,
    ):

        async def status(method: str, path: str) -> int:
            async with http.request(method, f"{url}{path}", json={"instances": [[1, 2]]}) as answer:
                return answer.status

        async with asyncio.timeout(5):
            while await status("GET", base) != 200:
                await asyncio.sleep(0.02)
        assert await status("POST", f"{base}:predict") == 200
        # sources disagree on which of the two the platform asks: docs/reference/contract.md, "Routes"
        assert await status("GET", f"{base}:predict") == 200
        assert await status("POST", base) == 405
        assert await status("GET", "/v1/endpoints/12/deployedModels/35") == 404


async def test_both_routes_may_be_the_same_path(http: aiohttp.ClientSession, fake: FakeTriton, service: Path) -> None:
    async with fake.running() as triton, listening(service, triton, predict_route="/x", health_route="/x") as url:
        async with asyncio.timeout(5):
            while (await http.get(f"{url}/x")).status != 200:
                await asyncio.sleep(0.02)
        async with http.post(f"{url}/x", json={"instances": [[1, 2]]}) as answer:
            assert answer.status == 200


async def test_nothing_is_served_before_the_service_is_loaded(service: Path) -> None:
    """A worker's first answers, before any handler is imported."""
    listener = app.Listener(settings.read({}, service=service))
    assert listener.gate.phase is Phase.STARTING
    assert listener.missing() == ["the service is being loaded"]
    made = app.make(listener)
    made.cleanup_ctx.clear()  # which would load it
    async with aiohttp.test_utils.TestClient(aiohttp.test_utils.TestServer(made)) as client:
        for path in ("/health", "/v2", "/v1/models", "/v2/models/twice/config"):
            assert (await client.get(path)).status == 503
        assert (await client.post("/predict", json={"instances": [1]})).status == 503


async def test_the_test_server_and_production_have_the_same_flags(service: Path) -> None:
    runner = app.runner(app.make(app.Listener(settings.read({}, service=service))))
    assert isinstance(runner, web.AppRunner)
    await runner.setup()
    assert runner.server is not None
    assert runner.server.handler_cancellation is True
    await runner.cleanup()


# Traces


def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "listener.spans", raising=False)
    monkeypatch.delattr("listener.spans", raising=False)


async def test_traces_without_their_extra_end_the_start_with_one_sentence(
    service: Path, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_extra(monkeypatch)
    async with fake.running() as triton, serving(service, triton, traces="otlp") as (listener, _):
        with pytest.raises(ConfigError, match=r"^LISTENER_TRACES needs the extra `otel`: pip install "):
            await prepared(listener)


NOTHING_OF_IT = """
import asyncio, sys
from pathlib import Path
import aiohttp
from listener.testing import FakeModel, FakeTriton
from listener.testing.serving import prepared, serving

async def main():
    model = FakeModel({"X": ("FP32", [2])}, {"Y": ("FP32", [2])}, lambda given: {"Y": given["X"]})
    folder, given = Path(sys.argv[1]), dict(map(str.split, sys.argv[2:]))
    async with FakeTriton({"twice": model}).running() as behind, serving(folder, behind, **given) as (listener, url):
        await prepared(listener)
        async with aiohttp.ClientSession() as http:
            sent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
            async with http.post(f"{url}/predict", json={"instances": [[1, 2]]}, headers=sent) as answer:
                assert answer.status == 200, await answer.text()
    print(sum(name.startswith("opentelemetry") for name in sys.modules))

asyncio.run(main())
"""


@pytest.mark.parametrize(("words", "some"), [([], False), (["traces otlp", "trace_share 0"], True)])
def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for(
    tmp_path: Path, words: list[str], some: bool
) -> None:
    (tmp_path / "listener.yaml").write_text("default: plain\nroutes:\n  plain: {model: twice}\n")
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_OF_IT, str(tmp_path), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert bool(int(done.stdout.split()[-1])) == some
