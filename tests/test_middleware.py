"""Around every request: an id, errors as the one body, a log line. docs/reference/contract.md, "Status codes"."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import web

from listener import app, middleware
from listener.endpoints.serving import body_of
from listener.errors import (
    BadRequest,
    DeadlineExceeded,
    Forbidden,
    HandlerFailed,
    InstanceError,
    InstancesFailed,
    ListenerError,
    Overloaded,
    TritonFailed,
    Unavailable,
    UnknownModel,
)

FAILURES: dict[str, Exception] = {
    "bad": BadRequest("no"),
    "instance": InstanceError("is bad", 3),
    "forbidden": Forbidden("no"),
    "model": UnknownModel("no such model"),
    "full": Overloaded("full"),
    "triton": TritonFailed("failed"),
    "later": Unavailable("later"),
    "late": DeadlineExceeded("late"),
    "handler": HandlerFailed("predict", "r"),
    "bug": KeyError("a secret"),
    "gone": web.HTTPGone(text="gone"),
    "server": web.HTTPInternalServerError(text="a secret"),
    "unprocessable": web.HTTPUnprocessableEntity(reason="No"),
}


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    made = web.Application(client_max_size=100, middlewares=[middleware.identify, middleware.errors_to_bodies])

    async def fail(request: web.Request) -> web.Response:
        raise FAILURES[request.match_info["kind"]]

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await body_of(request))

    made.router.add_get("/fail/{kind}", fail)
    made.router.add_post("/echo", echo)
    runner = app.runner(made)
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(partial(app.odd(runner), lambda: None), sock=bound)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{bound.getsockname()[1]}") as session:
        yield session
    server.close()
    await runner.cleanup()


async def told(answer: Any) -> tuple[int, Any]:
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    return answer.status, await answer.json()


# Ids


@pytest.mark.parametrize("given", ["a", "A-b_c.d:1", "x" * 128])
def test_a_harmless_id_is_taken_over(given: str) -> None:
    assert middleware.request_id(given) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\n", "a/b", "ä", "\u0663", "a,b", '"a"', "\udcff", "a{}"])
def test_for_any_other_one_is_made(given: str) -> None:
    made = middleware.request_id(given)
    assert made != given
    assert middleware.request_id(made) == made
    assert middleware.request_id(given) != made


async def test_the_answer_carries_it_whatever_the_answer_is(client: Any) -> None:
    for path in ("/echo", "/fail/bug", "/nowhere"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = await client.request(method, path, headers={"X-Request-Id": "me"})
            assert answer.headers["X-Request-Id"] == "me", (method, path)


# Failures


@pytest.mark.parametrize(
    ("kind", "status", "sentence", "code"),
    [
        ("bad", 400, "no", "bad_request"),
        ("instance", 400, "instances[3]: is bad", "bad_instance"),
        ("forbidden", 403, "no", "forbidden"),
        ("model", 404, "no such model", "unknown_model"),
        ("full", 429, "full", "overloaded"),
        ("triton", 502, "failed", "triton_failed"),
        ("later", 503, "later", "unavailable"),
        ("late", 504, "late", "deadline_exceeded"),
        ("handler", 500, "the handler of 'r' failed in predict; the log has the reason", "handler_failed"),
        ("bug", 500, "the listener failed on this request; the log has the reason", "internal"),
        ("server", 500, "the listener failed on this request; the log has the reason", "internal"),
        ("gone", 400, "gone", "bad_request"),
        ("unprocessable", 400, "422: No", "bad_request"),
    ],
)
async def test_a_failure_is_its_status_one_sentence_and_one_line_in_the_log(
    client: Any, caplog: pytest.LogCaptureFixture, kind: str, status: int, sentence: str, code: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = await client.get(f"/fail/{kind}?q", headers={"X-Request-Id": "me"})
    assert await told(answer) == (status, {"error": sentence})
    assert answer.headers.get("Retry-After") == ("1" if status in (429, 503) else None)
    (record,) = [record for record in caplog.records if record.name == "listener.http"]
    assert vars(record)["fields"] == {"request_id": "me", "path": f"/fail/{kind}", "status": status, "code": code}
    assert record.levelno == (logging.ERROR if status in (500, 502) else logging.INFO)
    assert (record.exc_info is not None) == (kind == "bug")


@pytest.mark.parametrize(
    ("kind", "discreet"),
    [
        ("bad", "the request is at fault"),
        ("instance", "instances[3] is at fault"),
        ("instances", "2 instances are at fault"),
        ("model", "no such model"),
        ("full", "full"),
    ],
)
async def test_what_the_caller_wrote_is_in_the_log_for_debugging_alone(
    client: Any, caplog: pytest.LogCaptureFixture, kind: str, discreet: str
) -> None:
    FAILURES["instances"] = InstancesFailed("instances[1]: a secret", [InstanceError("a", 1), InstanceError("b", 2)])
    for level in (logging.INFO, logging.DEBUG):
        caplog.clear()
        caplog.set_level(level, "listener.http")
        _, body = await told(await client.get(f"/fail/{kind}"))
        assert caplog.messages == [discreet if level == logging.INFO else body["error"]]


async def test_refusals_of_an_overload_are_summed_in_the_log(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.http")
    for _ in range(3):
        assert (await client.get("/fail/full")).status == 429
    assert caplog.messages == ["full"]
    async with asyncio.timeout(5):
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
    assert caplog.messages == ["full", "full: 2 more refused within a second"]
    assert vars(caplog.records[1])["fields"] == {"status": 429, "code": "overloaded", "refused": 2}


async def test_each_of_them_has_its_line_for_debugging(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "listener.http")
    for _ in range(3):
        assert (await client.get("/fail/full")).status == 429
    assert caplog.messages == ["full"] * 3


async def test_no_other_refusals_are(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.http")
    for _ in range(3):
        assert (await client.get("/fail/later")).status == 503
    assert caplog.messages == ["later"] * 3


async def test_notes_are_for_the_log_alone(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    failure = TritonFailed("failed")
    failure.add_note("what Triton said")
    FAILURES["noted"] = failure
    assert await told(await client.get("/fail/noted")) == (502, {"error": "failed"})
    assert "failed; what Triton said" in caplog.messages


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence", "allow"),
    [
        ("GET", "/nowhere", 404, "no such path: /nowhere", None),
        ("OPTIONS", "/nowhere", 404, "no such path: /nowhere", None),
        ("GET", "/%1b%0a%ff", 404, "no such path: /? %ff", None),
        ("GET", "/echo", 405, "GET is not allowed on /echo", "POST"),
        ("DELETE", "/fail/bad", 405, "DELETE is not allowed on /fail/bad", "GET,HEAD"),
    ],
)
async def test_paths_and_methods(
    client: Any, method: str, path: str, status: int, sentence: str, allow: str | None
) -> None:
    answer = await client.request(method, yarl.URL(path, encoded=True))
    assert await told(answer) == (status, {"error": sentence})
    assert answer.headers.get("Allow") == allow


async def test_options_are_answered_without_a_body(client: Any) -> None:
    answer = await client.options("/echo")
    assert (answer.status, answer.headers["Allow"], await answer.read()) == (204, "POST", b"")


# Bodies


async def test_a_body_is_refused_by_its_length_and_by_what_comes(client: Any) -> None:
    sentence = "the body is larger than 100 bytes (LISTENER_MAX_BODY)"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10

    for data in (b"x" * 101, pieces()):
        assert await told(await client.post("/echo", data=data)) == (413, {"error": sentence})
    packed = gzip.compress(b"x" * 101)
    assert len(packed) < 100
    answer = await client.post("/echo", data=packed, headers={"Content-Encoding": "gzip"})
    assert await told(answer) == (413, {"error": sentence})
    assert (await client.post("/echo", data=b"x" * 100)).status == 200


@pytest.mark.parametrize("coding", ["gzip, gzip", "x", "gzip;q=1", "identity, gzip"])
async def test_a_coding_that_is_not_known_is_the_callers_fault(client: Any, coding: str) -> None:
    answer = await client.post("/echo", data=b"abc", headers={"Content-Encoding": coding})
    assert await told(answer) == (
        400,
        {"error": f"Content-Encoding {coding!r} is not handled; send gzip, deflate or neither"},
    )
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("coding", ["br", "zstd"])
async def test_nor_does_it_matter_what_aiohttp_could_learn(client: Any, coding: str) -> None:
    """It refuses some codings itself where a package is missing."""
    status, body = await told(await client.post("/echo", data=b"abc", headers={"Content-Encoding": coding}))
    assert status == 400
    assert body["error"].startswith(("Content-Encoding", "the Content-Encoding"))
    assert body["error"].endswith(" is not handled; send gzip, deflate or neither")


@pytest.mark.parametrize(
    ("coding", "data"),
    [("identity", b"a"), ("GZIP", gzip.compress(b"a", mtime=0)), (" gzip ", gzip.compress(b"a", mtime=0))],
)
async def test_one_that_is_known_is_undone(client: Any, coding: str, data: bytes) -> None:
    answer = await client.post("/echo", data=data, headers={"Content-Encoding": coding})
    assert (answer.status, await answer.read()) == (200, b"a")


@pytest.mark.parametrize("data", [b"abc", gzip.compress(b"abc", mtime=0)[:10] + b"\xff\xff"])
async def test_a_damaged_body_is_the_callers_fault(client: Any, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = await client.post("/echo", data=data, headers={"Content-Encoding": "gzip"})
    assert await told(answer) == (
        400,
        {"error": "the body is damaged: it ends early, or is not in its Content-Encoding"},
    )
    assert not [record for record in caplog.records if record.exc_info]


# What is told of a failure


@pytest.mark.parametrize("error", [BadRequest("a"), Unavailable("b"), HandlerFailed("predict")])
def test_an_error_of_the_family_is_told_as_it_is(error: ListenerError) -> None:
    assert middleware.refusal(error, "me", "/p") is error


def test_any_other_is_told_as_ours() -> None:
    told = middleware.refusal(ValueError("a secret"), "me", "/p")
    assert (told.status, told.message) == (500, "the listener failed on this request; the log has the reason")
