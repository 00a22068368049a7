"""Answers that come in pieces: docs/reference/contract.md, "Streaming"."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
import pytest

from listener.fallback import Fallback
from tests.endpoints.caller import EVENTS, Caller, calling, post
from tests.endpoints.conftest import Serve, Served

GENERATE = "/v2/models/talk/generate_stream"


def telling(*words: Any, **parameters: Any) -> dict[str, Any]:
    """For the handler whose predict is an async generator."""
    return {"instances": [list(words)], "parameters": {"model": "telling", **parameters}}


def talking(text: str, **parameters: Any) -> dict[str, Any]:
    """For the decoupled model, by instances."""
    return {"instances": [text], "parameters": {"model": "talk", **parameters}}


def generate(text: str, **more: Any) -> dict[str, Any]:
    """For the decoupled model, as Triton has it."""
    return {"X": text, **more}


@pytest.fixture
async def caller(served: Served) -> AsyncGenerator[Caller, None]:
    async with calling(served.port) as found:
        yield found


async def until(true: Callable[[], bool], patience: float = 5) -> None:
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.01)


def ended() -> list[str]:
    """Ids of the requests whose generator has come to its end."""
    found: list[str] = sys.modules["said_by_endpoints"].ended
    return found


def open_connections() -> list[asyncio.Transport]:
    """Those of clients that aiohttp has; it keeps no list of them that is public."""
    protocols = [found for found in gc.get_objects() if type(found) is Fallback]
    return [protocol.transport for protocol in protocols if protocol.transport]


# What comes

TRITONS = b'data: {"model_name":"talk","model_version":"1","Y":"%b"}\n\n'


@pytest.mark.parametrize("path", [GENERATE, "/v2/models/talk/versions/1/generate_stream"])
async def test_tritons_events_pass_byte_for_byte(served: Served, caller: Caller, path: str) -> None:
    body = b'{ "X" : "one two" ,"parameters":{"model":"kept"}}'
    await caller.ask(path, body, "X-Request-Id: me", accept="*/*")
    assert (caller.status, caller.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (caller.headers["x-request-id"], caller.headers["cache-control"]) == ("me", "no-cache")
    assert await caller.pieces() == TRITONS % b"one" + TRITONS % b"two"
    (asked,) = served.triton.asked_for(path)
    assert asked.body == body


@pytest.mark.parametrize(
    ("document", "path", "triton"),
    [
        (talking("one two"), "/predict", GENERATE),
        (talking("one two", version=1), "/predict", "/v2/models/talk/versions/1/generate_stream"),
        (talking("one two"), "/v1/models/talk:predict", GENERATE),
        (
            {"instances": [{"X": "one two"}]},
            "/v1/models/talk/versions/1:predict",
            "/v2/models/talk/versions/1/generate_stream",
        ),
        ({"inputs": ["one two"]}, "/v1/models/talk:predict", GENERATE),
        (generate("one two", parameters={"model": "talk"}), "/predict", GENERATE),
        (generate("one two"), "/v1/models/talk:predict", GENERATE),
    ],
)
async def test_a_decoupled_model_answers_with_tritons_events(
    served: Served, caller: Caller, document: Any, path: str, triton: str
) -> None:
    await caller.ask(path, document)
    assert caller.status == 200
    assert await caller.pieces() == TRITONS % b"one" + TRITONS % b"two"
    (asked,) = served.triton.asked_for(triton)
    said = orjson.loads(asked.body)
    assert (said["X"], said.get("parameters", {})) == ("one two", {})


async def test_a_handlers_generator_answers_with_an_event_for_each_value(caller: Caller) -> None:
    words = ["a", None, {"b": [1.5, "ä"]}, ["c"], 7, "\n"]
    await caller.ask("/predict", telling(*words))
    assert (caller.status, caller.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert await caller.events() == words


async def test_a_generator_that_yields_nothing_is_an_empty_stream(caller: Caller) -> None:
    await caller.ask("/predict", telling())
    assert (caller.status, await caller.events()) == (200, [])
    await caller.ask(GENERATE, generate(""))
    assert (caller.status, await caller.events()) == (200, [])


@pytest.mark.parametrize(
    ("document", "event"),
    [
        ({"instances": [[1, 2]]}, {"predictions": [[2, 4]]}),
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[2, 4], [6, 8]]}),
        ({"instances": [1], "parameters": {"model": "once"}}, {"predictions": [[True, "", "list"]]}),
        ({"inputs": [[1, 2]], "parameters": {"version": 2}}, {"predictions": [[2, 4]]}),
    ],
)
async def test_any_other_answers_with_one_event(caller: Caller, document: Any, event: Any) -> None:
    await caller.ask("/predict", document)
    assert (caller.status, await caller.events()) == (200, [event])


async def test_bytes_are_an_instance_here_too(caller: Caller) -> None:
    await caller.ask("/v1/models/media:predict", b"abc", "Content-Type: image/jpeg")
    assert await caller.events() == [{"predictions": [[6, 20]]}]
    await caller.ask("/v1/models/talk:predict", "ä ö".encode(), "Content-Type: application/octet-stream")
    assert [event["Y"] for event in await caller.events()] == ["ä", "ö"]


async def test_without_the_header_a_prediction_is_the_list_of_events(served: Served) -> None:
    for accept in ("*/*", "text/*", "text/event-stream;q=0", "application/json"):
        assert await served.predict(telling("a", 1), Accept=accept) == (200, {"predictions": [["a", 1]]})
        assert await served.predict(talking("one two"), Accept=accept) == (200, {"predictions": [["one", "two"]]})


async def test_generate_gives_one_response(served: Served) -> None:
    path = "/v2/models/talk/generate"
    assert await served.ask("POST", path, json=generate("one")) == (
        200,
        {"model_name": "talk", "model_version": "1", "Y": "one"},
    )
    for text in ("", "one two"):
        status, body = await served.ask("POST", path, json=generate(text))
        assert (status, body) == (400, {"error": "generate expects model to produce exactly 1 response"})


@pytest.mark.parametrize(("path", "document"), [("/predict", telling("a", 0.3, "b")), (GENERATE, generate("a 0.3 b"))])
async def test_each_piece_is_written_as_it_comes(caller: Caller, path: str, document: Any) -> None:
    await caller.ask(path, document)
    first = time.monotonic()
    await caller.event()
    await caller.event()
    assert time.monotonic() - first > 0.2


async def test_two_streams_at_once_do_not_wait_for_one_another(served: Served) -> None:
    async with calling(served.port) as slow, calling(served.port) as other, calling(served.port) as fast:
        await slow.ask("/predict", telling("a", 1.0, "b"))
        await other.ask(GENERATE, generate("a 0.9 b"))
        begin = time.monotonic()
        for caller, document in ((fast, telling("c")), (fast, talking("d"))):
            await caller.ask("/predict", document)
            assert len(await caller.events()) == 1
        assert time.monotonic() - begin < 0.8
        assert await slow.events() == ["a", "b"]
        assert [event["Y"] for event in await other.events()] == ["a", "b"]


async def test_a_connection_goes_on_after_a_stream(served: Served, caller: Caller) -> None:
    for document in (telling("a"), talking("b"), telling("a", "bug"), telling("bug"), talking("fail"), telling("c")):
        await caller.ask("/predict", document)
        if caller.status == 200:
            assert await caller.events()
        else:
            assert (await caller.body()).keys() == {"error"}
    await caller.ask("/predict", {"instances": [[1, 2]]}, accept="*/*")
    assert await caller.body() == {"predictions": [[2, 4]]}
    assert served.listener.gate.inside == 0


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize(("path", "document"), [("/predict", telling("a", "b")), (GENERATE, generate("a b"))])
async def test_to_http_1_0_they_come_without_chunks_and_then_the_end(
    served: Served, path: str, document: Any, connection: str
) -> None:
    async with calling(served.port) as caller:
        await caller.ask(path, document, f"Connection: {connection}", version="1.0")
        assert caller.status == 200
        assert "transfer-encoding" not in caller.headers
        rest = await caller.rest()
        assert [event[:6] for event in rest.split(b"\n\n")] == [b"data: ", b"data: ", b""]


async def test_an_error_to_http_1_0_is_an_ordinary_one(served: Served) -> None:
    async with calling(served.port) as caller:
        await caller.ask("/predict", telling("bug"), version="1.0")
        assert (caller.status, orjson.loads(await caller.rest()).keys()) == (500, {"error"})


# Failures

SECRET = "the handler of 'telling' failed in predict; the log has the reason"


@pytest.mark.parametrize(
    ("word", "status", "sentence"),
    [
        ("bug", 500, SECRET),
        ("unsayable", 500, SECRET),
        ("bad", 400, "instances[0]: is bad"),
        ("third is bad", 400, "instances[3]: is bad"),
    ],
)
async def test_a_generators_failure(
    served: Served, caller: Caller, word: str, status: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first event an ordinary error, after it the last event."""
    await caller.ask("/predict", telling(word))
    assert (caller.status, caller.headers["content-type"]) == (status, "application/json")
    assert await caller.body() == {"error": sentence}
    caplog.clear()
    caplog.set_level("INFO")
    await caller.ask("/predict", telling("fine", word, "never"), "X-Request-Id: me")
    assert (caller.status, await caller.events()) == (200, ["fine", {"error": sentence}])
    (record,) = [record for record in caplog.records if record.name == "listener.http"]
    assert getattr(record, "fields", {}) == {"request_id": "me", "path": "/predict", "status": status} | {
        "code": "handler_failed" if status == 500 else "bad_instance"
    }
    assert served.listener.gate.inside == 0


@pytest.mark.parametrize("path", [GENERATE, "/predict"])
async def test_a_failure_of_tritons_is_its_own_event(caller: Caller, path: str) -> None:
    await caller.ask(path, generate("one fail", parameters={"model": "talk"}))
    assert caller.status == 200
    assert [event.get("Y") or event for event in await caller.events()] == ["one", {"error": "failed in between"}]


@pytest.mark.parametrize("path", [GENERATE, "/predict"])
async def test_before_the_first_event_it_is_tritons_status(caller: Caller, path: str) -> None:
    await caller.ask(path, generate("fail", parameters={"model": "talk"}))
    assert (caller.status, await caller.body()) == (400, {"error": "failed in between"})


@pytest.mark.parametrize(
    ("path", "document", "status", "sentence"),
    [
        ("/v2/models/no/generate_stream", {}, 404, "Request for unknown model: 'no' is not found"),
        ("/v2/models/talk/versions/7/generate_stream", {}, 404, "Request for unknown model: 'talk' is not found"),
        ("/predict", b"{", 400, "the body is not JSON: "),
        ("/predict", b"", 400, "the body is empty; "),
        ("/predict", [1], 400, "the body is a list, not an object; "),
        ("/predict", {"instances": []}, 400, "'instances' is empty; "),
        ("/predict", {"instances": 1}, 400, "'instances' is a number, not a list"),
        ("/predict", {"instances": [["a"], ["b"]], "parameters": {"model": "telling"}}, 400, "a stream answers one "),
        (
            "/predict",
            {"instances": ["a", "b"], "parameters": {"model": "talk"}},
            400,
            "a stream answers one instance, ",
        ),
        (
            "/predict",
            {"instances": [{"Z": 1}], "parameters": {"model": "talk"}},
            400,
            "instances[0]: unknown input 'Z'",
        ),
        ("/predict", {"instances": ["a"], "parameters": {"model": "no"}}, 400, "parameters.model: no route or model "),
        ("/predict", generate("a", parameters={"model": "no"}), 400, "parameters.model: no route or model 'no'"),
        ("/predict", generate("a", parameters={"model": 5}), 400, "parameters.model is not the name of a "),
        ("/predict", generate("a", parameters={"version": 7}), 400, "parameters.version: model 'twice' has no "),
        ("/v1/models/no:predict", generate("a"), 404, "no route or model 'no'"),
        ("/v1/models/talk/versions/2:predict", generate("a"), 404, "model 'talk' has no version 2; it has 1"),
        (
            "/predict",
            {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]},
            400,
            "an answer in the Open Inference Protocol does not come in events",
        ),
    ],
)
async def test_what_cannot_be_streamed_is_refused_as_ever(
    served: Served, caller: Caller, path: str, document: Any, status: int, sentence: str
) -> None:
    await caller.ask(path, document)
    assert (caller.status, caller.headers["content-type"]) == (status, "application/json")
    assert (await caller.body())["error"].startswith(sentence)
    assert served.listener.gate.inside == 0


@pytest.mark.parametrize("depth", [300, 900])
async def test_deep_nesting_is_the_callers_fault(caller: Caller, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for path, body in (
        ("/v1/models/talk:predict", b'{"X": ' + deep + b"}"),
        ("/v1/models/talk:predict", b'{"instances": [{"X": ' + deep + b"}]}"),
    ):
        await caller.ask(path, body)
        assert (caller.status, (await caller.body()).keys()) == (400, {"error"})


async def test_no_permit_no_stream(serve: Serve) -> None:
    async with serve(max_requests=1) as served, calling(served.port) as first, calling(served.port) as second:
        await first.ask("/predict", telling("a", 0.3))
        for path, document in (("/predict", telling("a")), (GENERATE, generate("a"))):
            await second.ask(path, document)
            assert (second.status, second.headers["retry-after"]) == (429, "1")
            await second.body()
        assert await first.events() == ["a"]
        await second.ask("/predict", telling("a"))
        assert await second.events() == ["a"]


# Time


@pytest.mark.parametrize(
    ("path", "document"), [("/predict", telling(*["a", 0.15] * 6)), (GENERATE, generate("a 0.15 " * 6))]
)
async def test_a_stream_lives_as_long_as_pieces_come(serve: Serve, path: str, document: Any) -> None:
    async with serve(timeout=0.4) as served, calling(served.port) as caller:
        begin = time.monotonic()
        await caller.ask(path, document)
        assert len(await caller.events()) == 6
        assert time.monotonic() - begin > 0.8


@pytest.mark.parametrize(
    ("path", "nothing", "something"),
    [
        ("/predict", telling(9.0, "a"), telling("a", 9.0, "b")),
        (GENERATE, generate("0.9 0.9 0.9 a"), generate("a 0.9 0.9 0.9 b")),
    ],
)
async def test_one_that_stalls_is_ended(serve: Serve, path: str, nothing: Any, something: Any) -> None:
    late = {"error": "the request's time is up (LISTENER_TIMEOUT)"}
    async with serve(timeout=0.4) as served, calling(served.port) as caller:
        await caller.ask(path, nothing)
        assert (caller.status, await caller.body()) == (504, late)
        await caller.ask(path, something, "X-Request-Id: stalled")
        first, last = await caller.events()
        assert (caller.status, first if isinstance(first, str) else first["Y"], last) == (200, "a", late)
        assert served.listener.gate.inside == 0
        if path == GENERATE:
            await until(lambda: served.triton.gone == 2)
        else:
            assert "stalled" in ended()


async def test_a_generator_has_no_deadline_and_others_have_theirs(caller: Caller) -> None:
    """The time of a generator begins anew with each event."""
    await caller.ask("/predict", telling("deadline"))
    assert await caller.events() == [True]
    await caller.ask("/predict", {"instances": [1], "parameters": {"model": "once"}})
    assert await caller.events() == [{"predictions": [[True, "", "list"]]}]


async def test_a_body_that_never_comes_is_504(serve: Serve) -> None:
    async with serve(timeout=0.3) as served, calling(served.port) as caller:
        await caller.send(post("/predict", telling("a"))[:-5])
        assert caller.status == 504
        assert served.listener.gate.inside == 0


async def test_a_generator_that_never_waits_holds_up_nobody(served: Served) -> None:
    """Not even where its client is fast, so that there is nothing to wait for."""
    asked = 0

    def read(connection: socket.socket) -> None:
        connection.sendall(post("/predict", telling("ticking")))
        while connection.recv(1 << 20) and asked < 5:
            pass

    with socket.create_connection(("127.0.0.1", served.port), 30) as connection:
        reading = asyncio.create_task(asyncio.to_thread(read, connection))
        await until(lambda: served.listener.gate.inside == 1)
        begin = time.monotonic()
        while asked < 5:
            assert (await served.ask("GET", "/health"))[0] == 200
            asked += 1
        assert time.monotonic() - begin < 2
        await reading


# Clients that leave, or do not read


@pytest.mark.parametrize("after", [0, 1])
async def test_a_client_that_leaves_ends_the_generator(served: Served, after: int) -> None:
    identifier = f"leaves-after-{after}"
    async with calling(served.port) as caller:
        words = ["a", 9.0] if after else [9.0]
        caller.writer.write(post("/predict", telling(*words), f"X-Request-Id: {identifier}"))
        await until(lambda: served.listener.gate.inside == 1)
        if after:
            assert b'data: "a"' in await caller.reader.readuntil(b'"a"')
        assert identifier not in ended()
    await until(lambda: identifier in ended())
    await until(lambda: served.listener.gate.inside == 0)


@pytest.mark.parametrize("path", [GENERATE, "/predict"])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_client_that_leaves_ends_the_call_in_triton(served: Served, path: str, after: int) -> None:
    async with calling(served.port) as caller:
        text = ("a " if after else "") + "0.9 " * 10
        caller.writer.write(post(path, generate(text, parameters={"model": "talk"})))
        await until(lambda: len(served.triton.asked_for(GENERATE)) == 1)
        if after:
            await caller.reader.readuntil(b'"a"')
        assert served.triton.gone == 0
    await until(lambda: served.triton.gone == 1)
    await until(lambda: served.listener.gate.inside == 0)


async def test_one_that_leaves_while_it_is_written_to_is_no_failure(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for path, document in (("/predict", telling("endless")), (GENERATE, generate("endless"))):
        for _ in range(5):
            async with calling(served.port) as caller:
                await caller.ask(path, document)
                await caller.piece()
        await until(lambda: served.listener.gate.inside == 0)
    assert [
        record for record in caplog.records if record.name.startswith(("listener.http", "aiohttp", "asyncio"))
    ] == []


async def test_where_a_client_left_the_one_prediction_is_not_made(served: Served) -> None:
    """A stream of one event is a stream, too."""
    served.triton.delay = 9
    async with calling(served.port) as caller:
        caller.writer.write(post("/predict", {"instances": [[1, 2]]}))
        await until(lambda: len(served.triton.asked_for("/v2/models/twice/infer")) == 1)
    await until(lambda: served.triton.gone == 1)


@pytest.mark.parametrize(("path", "document"), [("/predict", telling("endless")), (GENERATE, generate("endless"))])
async def test_a_slow_reader_holds_up_whoever_makes_the_pieces(serve: Serve, path: str, document: Any) -> None:
    """What is on its way is bounded by the buffers in between, and all of it arrives when it is read."""
    async with serve(timeout=60) as served, calling(served.port, limit=1024) as caller:
        await caller.ask(path, document)
        await asyncio.sleep(0.5)
        assert max(transport.get_write_buffer_size() for transport in open_connections()) < 1_000_000
        assert served.listener.gate.inside == 1
        for _ in range(2000):  # 20 MB: more than any of the buffers holds
            assert len(await caller.piece()) > 10_000


@pytest.mark.parametrize(("path", "document"), [("/predict", telling("endless")), (GENERATE, generate("endless"))])
async def test_one_that_does_not_read_any_more_is_ended(serve: Serve, path: str, document: Any) -> None:
    """Its permit is free when its time is up, and its connection is closed soon after."""
    async with serve(timeout=0.5) as served, calling(served.port, limit=1024) as caller:
        await caller.ask(path, document)
        await until(lambda: served.listener.gate.inside == 0)
        if path == GENERATE:
            await until(lambda: served.triton.gone == 1)
        await until(lambda: not open_connections())
        with contextlib.suppress(ConnectionError):
            assert not (await caller.rest()).endswith(b"0\r\n\r\n")


# A stop


async def test_in_a_drain_a_stream_finishes_and_no_other_begins(served: Served) -> None:
    async with calling(served.port) as caller, calling(served.port) as late:
        await caller.ask("/predict", telling("a", 0.4, "b"))
        draining = asyncio.create_task(served.listener.gate.drain(5))
        await asyncio.sleep(0.05)
        for path, document in (("/predict", telling("a")), (GENERATE, generate("a"))):
            await late.ask(path, document)
            assert (late.status, late.headers["retry-after"]) == (503, "1")
            assert await late.body() == {"error": "the listener is draining"}
        assert await caller.events() == ["a", "b"]
        assert await draining


@pytest.mark.parametrize("path", [GENERATE, "/predict"])
async def test_one_that_is_cut_off_says_why(served: Served, path: str) -> None:
    documents = {GENERATE: generate("a " + "0.9 " * 9), "/predict": telling("a", 9.0)}
    stopped = {"error": "the listener stopped before the answer was there"}
    async with calling(served.port) as caller, calling(served.port) as early:
        await caller.ask(path, documents[path])
        early.writer.write(post("/predict", telling(9.0)))
        await until(lambda: served.listener.gate.inside == 2)
        assert not await served.listener.gate.drain(0.1)
        assert served.listener.gate.cut_off() == 2
        events = await caller.events()
        assert (len(events), events[-1]) == (2, stopped)
        await early.send(b"")
        assert (early.status, await early.body()) == (503, stopped)


async def test_events_are_asked_for_by_any_of_several_headers(served: Served) -> None:
    async with calling(served.port) as caller:
        await caller.ask("/predict", telling("a"), f"Accept: {EVENTS}", accept="*/*")
        assert await caller.events() == ["a"]
