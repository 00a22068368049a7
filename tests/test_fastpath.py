"""The fast path over real sockets: what it answers itself, what it hands over, and that nobody can tell the two apart.

The twin is the same application behind aiohttp's own server. Answers that name a `Server` are aiohttp's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import logging
import random
import re
import socket
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
import pytest
import uvloop
from aiohttp import web

from listener import app, fastpath, pace, settings
from listener.call import Call, Reply
from listener.contract import instances
from listener.errors import InstanceError, ListenerError, Overloaded
from listener.fastpath import FastPath
from listener.gate import Phase


class Teapot(ListenerError):
    status = 499
    code = "teapot"


class Stub(app.Listener):
    """Ready at once, and answers by itself: each instance is its own prediction, but for a few words."""

    cancelled = 0

    def serving(self) -> Any:
        return SimpleNamespace(router=self.answer, lease=lambda nbytes: None)

    def missing(self) -> list[str]:
        return []

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        self.gate.phase = Phase.READY
        yield

    async def answer(self, call: Call) -> Reply:
        match call.instances[0]:
            case "boom":
                raise RuntimeError("a secret")
            case b"bytes":
                return Reply(["bytes"])
            case "bad":
                raise InstanceError("is bad", 0)
            case "full":
                raise Overloaded("come back later")
            case "teapot":
                raise Teapot("short and stout")
            case "stubborn":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(9)
                self.cancelled += 1
            case "cancelled":
                raise asyncio.CancelledError
            case ["sleep", float() | int() as seconds]:
                try:
                    await asyncio.sleep(seconds)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            case ["large", int() as size]:
                return Reply(["x" * size])
        return Reply(call.instances)


@dataclass
class Served:
    """A listener that answers, and what is inside it."""

    listener: Stub
    port: int
    paths: list[FastPath]


@contextlib.asynccontextmanager
async def served(fast: bool = True, **overrides: Any) -> AsyncIterator[Served]:
    configured = settings.read({}, **{"service": Path("."), "host": "127.0.0.1", "max_body": 4096, **overrides})
    listener, bound, paths = Stub(configured), socket.create_server(("127.0.0.1", 0)), list[FastPath]()

    def path(*args: Any) -> FastPath:
        paths.append(FastPath(*args))
        return paths[0]

    found = Served(listener, bound.getsockname()[1], paths)
    if fast:
        with mock.patch.object(app, "FastPath", path):
            async with app.serving(listener, bound):
                yield found
        return
    runner = app.runner(app.make(listener))
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(partial(app.odd(runner), lambda: None), sock=bound)
    yield found
    server.close()
    await runner.cleanup()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def by_aiohttp(self) -> bool:
        assert self.headers.get("server") in (None, "listener"), "versions are nobody's business"
        return "server" in self.headers

    @property
    def told(self) -> tuple[int, dict[str, str], bytes]:
        """What must be the same on both ways."""
        assert self.status == 100 or self.headers["x-content-type-options"] == "nosniff"
        kept = ("content-type", "content-length", "x-request-id", "retry-after", "allow")
        return self.status, {name: value for name, value in self.headers.items() if name in kept}, self.body


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *parts: bytes) -> None:
        """Each part in a packet of its own."""
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.002)
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = [line.partition(": ") for line in head[1:-2]]
            headers = {name.lower(): value for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split(" ")[1]), headers, body)

    async def ask(self, *parts: bytes) -> Answer:
        await self.send(*parts)
        return await self.answer()

    async def closed(self) -> bool:
        """Whether the listener closes within a moment."""
        try:
            async with asyncio.timeout(2):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@contextlib.asynccontextmanager
async def client(server: Served, **options: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def json(*given: Any) -> bytes:
    return orjson.dumps({"instances": given})


def post(body: bytes, *headers: str, first: str = "POST /predict HTTP/1.1") -> bytes:
    lines = [first, "Host: here", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def raw(head: str, body: bytes = b"") -> bytes:
    """A request with lines as they are written here."""
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def on_both_loops(test: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def run(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(60):
                await test()

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(limited())

    run.__doc__ = test.__doc__
    return run


# Plain requests


@on_both_loops
async def test_a_request_may_be_split_at_any_byte() -> None:
    request = post(json([1.5, 2]), "X-Request-Id: me")
    async with served() as server, client(server) as caller:
        for cut in range(1, len(request)):
            answer = await caller.ask(request[:cut], request[cut:])
            assert answer.told[::2] == (200, b'{"predictions":[[1.5,2]]}'), cut
            assert not answer.by_aiohttp, cut


@on_both_loops
async def test_a_request_may_come_byte_by_byte() -> None:
    request = post(json(1))
    async with served() as server, client(server) as caller:
        for _ in range(2):
            answer = await caller.ask(*(request[at : at + 1] for at in range(len(request))))
            assert (answer.status, answer.by_aiohttp) == (200, False)


@on_both_loops
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as server, client(server) as caller:
        slow_first = post(json(["sleep", 0.05]))
        await caller.send(slow_first + b"".join(post(json(number)) for number in range(50)))
        assert (await caller.answer()).body == b'{"predictions":[["sleep",0.05]]}'
        assert [(await caller.answer()).body for _ in range(50)] == [b'{"predictions":[%d]}' % n for n in range(50)]


@on_both_loops
async def test_what_is_sent_ahead_is_bounded() -> None:
    request, count, largest = post(json(1)), 20_000, 0
    async with served() as server, client(server) as caller:
        sending = asyncio.create_task(caller.send(request * count))
        for number in range(count):
            assert (await caller.answer()).status == 200
            if number % 50 == 0:
                largest = max([largest, *(len(made._rest) for made in server.paths[0].connections)])
        await sending
    assert 0 < largest < 512 * 1024  # what is kept at most, and one packet more


@on_both_loops
async def test_ahead_of_a_slow_request_reading_pauses_and_goes_on() -> None:
    async with served() as server, client(server) as caller:
        many = post(json("x" * 1000)) * 2000
        sending = asyncio.create_task(
            caller.send(post(json(["sleep", 0.3])) + many + raw("GET /health HTTP/1.1\nHost: h"))
        )
        await asyncio.sleep(0.2)
        (connection,) = server.paths[0].connections
        assert connection._paused
        assert [(await caller.answer()).status for _ in range(2001)] == [200] * 2001
        assert (await caller.answer()).by_aiohttp
        await sending


@on_both_loops
async def test_the_connection_changes_hands_and_stays_usable() -> None:
    health, plain = raw("GET /health HTTP/1.1\nHost: h"), post(json(1))
    async with served() as server, client(server) as caller:
        assert not (await caller.ask(plain)).by_aiohttp
        assert len(server.paths[0].connections) == 1
        for request in (health, plain, raw("GET /nowhere HTTP/1.1\nHost: h"), plain, health):
            answer = await caller.ask(request)
            assert answer.by_aiohttp
            assert answer.status == (404 if b"nowhere" in request else 200)
        assert server.paths[0].connections == set()
    async with served() as server, client(server) as caller:  # all of them at once
        await caller.send(plain + health + plain)
        assert [(await caller.answer()).by_aiohttp for _ in range(3)] == [False, True, True]


@on_both_loops
async def test_a_large_answer_waits_for_a_slow_reader() -> None:
    async with served() as server, client(server, limit=1024) as caller:
        await caller.send(post(json(["large", 8_000_000])), post(json(1)))
        await asyncio.sleep(0.2)
        (connection,) = server.paths[0].connections
        assert connection._writable is not None
        assert len((await caller.answer()).body) > 8_000_000
        assert (await caller.answer()).body == b'{"predictions":[1]}'


@on_both_loops
async def test_a_stop_lets_clients_take_their_answers() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(served())
        caller = await stack.enter_async_context(client(server, limit=1024))
        await caller.send(post(json(["large", 8_000_000])))
        await until(lambda: any(made._writable for made in server.paths[0].connections))
        reading = asyncio.create_task(caller.answer())
        stack.push_async_callback(asyncio.wait_for, reading, 5)
    assert len(reading.result().body) > 8_000_000


# The same answers on both ways

SAME = {
    "fine": post(json([1, 2.5, None, "ä"])),
    "no json": post(b"{"),
    "empty instances": post(b'{"instances": []}'),
    "blank body": post(b"  "),
    "no body": post(b""),
    "no length": raw("POST /predict HTTP/1.1\nHost: h"),
    "another media type": post(json(1)).replace(b"application/json", b"text/html"),
    "bytes": post(b"bytes").replace(b"application/json", b"application/octet-stream"),
    "no bytes": post(b"").replace(b"application/json", b"application/octet-stream"),
    "boom": post(json("boom")),
    "bad": post(json("bad")),
    "full": post(json("full")),
    "teapot": post(json("teapot")),
    "late": post(json(["sleep", 9])),
    "too large": post(json("x" * 5000)),
    "id": post(json(1), "X-Request-Id: abc-1.2:3"),
    "wrong id": post(json(1), "X-Request-Id: a b"),
    "query": post(json(1), first="POST /predict?a=1 HTTP/1.1"),
    "empty query": post(json(1), first="POST /predict? HTTP/1.1"),
    "fragment": post(json(1), first="POST /predict#x HTTP/1.1"),
    "percent-encoded": post(json(1), first="POST /%70redict HTTP/1.1"),
    "slash": post(json(1), first="POST /predict/ HTTP/1.1"),
    "two slashes": post(json(1), first="POST //predict HTTP/1.1"),
    "dots": post(json(1), first="POST /x/../predict HTTP/1.1"),
    "absolute": post(json(1), first="POST http://here/predict HTTP/1.1"),
    "small letters": post(json(1), first="post /predict HTTP/1.1"),
    "get": post(json(1), first="GET /predict HTTP/1.1"),
    "close": post(json(1), "Connection: close"),
    "keep-alive": post(json(1), "Connection: Keep-Alive"),
    "1.0": post(json(1), first="POST /predict HTTP/1.0"),
    "1.2": post(json(1), first="POST /predict HTTP/1.2"),
    "2.0": post(json(1), first="POST /predict HTTP/2.0"),
    "continue": post(json(1), "Expect: 100-continue"),
    "expects more": post(json(1), "Expect: a miracle"),
    "gzip": post(gzip.compress(json(1), mtime=0), "Content-Encoding: gzip"),
    "no gzip": post(json(1), "Content-Encoding: gzip"),
    "chunked": raw(
        "POST /predict HTTP/1.1\nHost: h\nTransfer-Encoding: chunked", b"11\r\n" + json(123) + b"\r\n0\r\n\r\n"
    ),
    "line break before": b"\r\n" + post(json(1)),
    # what one parser may read differently from the next
    "two lengths": post(json(1), "Content-Length: 17"),
    "two equal lengths": post(json(1), f"Content-Length: {len(json(1))}"),
    "length list": post(json(1)).replace(b"Length: 17", b"Length: 17, 17"),
    "signed length": post(json(1)).replace(b"Length: 17", b"Length: +17"),
    "negative length": post(json(1)).replace(b"Length: 17", b"Length: -17"),
    "length in two words": post(json(1)).replace(b"Length: 17", b"Length: 1 7"),
    "hex length": post(json(1)).replace(b"Length: 17", b"Length: 0x11"),
    "empty length": post(json(1)).replace(b"Length: 17", b"Length: "),
    "huge length": post(json(1)).replace(b"Length: 17", b"Length: 99999999999999999999"),
    "padded length": post(json(1)).replace(b"Length: 17", b"Length: \t 17 \t"),
    "zeros before the length": post(json(1)).replace(b"Length: 17", b"Length: 00017"),
    "length and chunks": post(json(1), "Transfer-Encoding: chunked"),
    "other transfer": post(json(1), "Transfer-Encoding: xchunked"),
    "folded": post(json(1), "X-Me: a\r\n b"),
    "folded length": post(json(1)).replace(b"Length: 17", b"Length:\r\n 17"),
    "bare line feeds": post(json(1)).replace(b"\r\n", b"\n"),
    "a bare line feed": post(json(1), "X-Me: a\nX-You: b"),
    "a bare carriage return": post(json(1), "X-Me: a\rX-You: b"),
    "nul in a value": post(json(1), "X-Me: a\0b"),
    "control in a value": post(json(1), "X-Me: a\x01b"),
    "delete in a value": post(json(1), "X-Me: a\x7fb"),
    "nul in a name": post(json(1), "X\0Me: a"),
    "blank in a name": post(json(1), "X Me: a"),
    "blank before the colon": post(json(1), "X-Me : a"),
    "blank before the length's colon": post(json(1)).replace(b"Length:", b"Length :"),
    "no colon": post(json(1), "X-Me"),
    "no name": post(json(1), ": a"),
    "latin": raw("POST /predict HTTP/1.1\nHost: h\nContent-Length: 17\nX-Me: \xe4", json(1)),
    "no host": post(json(1)).replace(b"Host: here\r\n", b""),
    "two hosts": post(json(1), "Host: there"),
    "empty host": post(json(1)).replace(b"Host: here", b"Host:"),
    "odd host": post(json(1)).replace(b"Host: here", b"Host: a b/c@d"),
    "long header": post(json(1), "X-Me: " + "x" * 8100),
    "too long header": post(json(1), "X-Me: " + "x" * 9000),
    "long head": post(json(1), *(f"X-{n}: {'x' * 500}" for n in range(50))),
    "many headers": post(json(1), *(f"X-{n}: 1" for n in range(120))),
    "too many headers": post(json(1), *(f"X{n}:" for n in range(300))),
    "upgrade": post(json(1), "Connection: upgrade", "Upgrade: h2c"),
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "a blank in the line": post(json(1), first="POST  /predict HTTP/1.1"),
    "no version": post(json(1), first="POST /predict"),
    "no headers": b"POST /predict HTTP/1.1\r\n\r\n",
}
#: What is left open: the rest of a request that never comes.
NO_ANSWER = {"negative length"}
#: All others are aiohttp's.
PLAIN = {
    *(
        "fine",
        "no json",
        "empty instances",
        "blank body",
        "another media type",
        "bytes",
        "boom",
        "bad",
        "full",
        "teapot",
    ),
    *("late", "id", "wrong id", "keep-alive", "padded length", "zeros before the length", "empty host", "odd host"),
}


async def everything(server: Served, *parts: bytes) -> list[Answer]:
    """All answers on a connection until nothing more comes for a moment."""
    answers: list[Answer] = []
    async with client(server) as caller:
        await caller.send(*parts)
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            while True:
                async with asyncio.timeout(0.7):
                    answers.append(await caller.answer())
    return answers


def comparable(answers: list[Answer]) -> list[Any]:
    """Without the rest of ids that are made."""
    told = [answer.told for answer in answers]
    return [
        (status, {**headers, "x-request-id": headers.get("x-request-id", "")[:2]}, body)
        for status, headers, body in told
    ]


async def test_both_ways_give_the_same_answer() -> None:
    async with served(timeout=0.3) as fast, served(fast=False, timeout=0.3) as twin:

        async def compare(name: str, request: bytes) -> None:
            async with few:
                ours, theirs = await asyncio.gather(everything(fast, request), everything(twin, request))
            assert comparable(ours) == comparable(theirs), name
            assert {a.by_aiohttp for a in ours if a.status != 100} <= {name not in PLAIN}, name
            assert ours or name in NO_ANSWER

        few = asyncio.Semaphore(10)
        await asyncio.gather(*(compare(name, request) for name, request in SAME.items()))


async def test_damaged_requests_get_the_same_answer_on_both_ways() -> None:
    chance = random.Random(1)
    whole = post(json(1), "X-Request-Id: me", "Accept: */*") + post(json(2), "X-Request-Id: me")
    pieces = [
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"\x80",
        b"0",
        b"9",
        b"x",
        b",",
        b"Content-Length: 3\r\n",
    ]

    def damaged() -> bytes:
        at = chance.randrange(len(whole))
        return whole[:at] + chance.choice([b"", *pieces]) + whole[at + chance.randrange(4) :]

    async with served(timeout=0.2) as fast, served(fast=False, timeout=0.2) as twin:

        async def compare(request: bytes) -> None:
            async with few:
                ours, theirs = await asyncio.gather(everything(fast, request), everything(twin, request))
            expected, got = comparable(theirs), comparable(ours)
            if expected and b"the request is not HTTP/1.1" in expected[-1][2]:
                # its parser found a mistake; what was right before that it answers only if it came in another packet
                expected, got = expected[-1:], got[-1:]
            assert got == expected, request

        few = asyncio.Semaphore(25)
        await asyncio.gather(*(compare(damaged()) for _ in range(250)))


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [(r.levelname, r.getMessage(), vars(r)["fields"]) for r in caplog.records if r.name == "listener.http"]


@pytest.mark.parametrize("word", ["boom", "bad", "full", "teapot"])
async def test_both_ways_log_the_same(word: str, caplog: pytest.LogCaptureFixture) -> None:
    # of refusals of an overload each has a line only for debugging
    caplog.set_level(logging.DEBUG if word == "full" else logging.INFO, "listener.http")
    request = post(json(word), "X-Request-Id: me")
    logged = []
    for fast in (True, False):
        caplog.clear()
        async with served(fast) as server, client(server) as caller:
            assert (await caller.ask(request)).by_aiohttp is not fast
        logged.append(lines(caplog))
    assert logged[0] == logged[1]
    assert len(logged[0]) == 1


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY], ids=lambda phase: phase.value)
async def test_both_ways_refuse_alike(phase: Phase) -> None:
    told = []
    for fast in (True, False):
        async with served(fast) as server, client(server) as caller:
            server.listener.gate.phase = phase
            told.append((await caller.ask(post(json(1), "X-Request-Id: me"))).told)
    assert told[0] == told[1]
    assert told[0][0] == 503


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
async def test_answers_say_where_their_time_went_unless_told_not_to(fast: bool) -> None:
    async with served(fast) as server, client(server) as caller:
        said = (await caller.ask(post(json(["sleep", 0.1])))).headers["server-timing"]
        phases = dict(re.findall(r"(\w+);dur=([\d.]+)", said))
        assert list(phases) == ["queue", "preprocess", "encode"]
        assert float(phases["preprocess"]) >= 100
        assert "server-timing" not in (await caller.ask(post(json("bad")))).headers
    async with served(fast, server_timing="false") as server, client(server) as caller:
        assert "server-timing" not in (await caller.ask(post(json(1)))).headers


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
async def test_of_the_answered_requests_some_have_a_line(fast: bool, caplog: pytest.LogCaptureFixture) -> None:
    """As many a second as are wanted, and nothing of what was asked."""
    caplog.set_level(logging.INFO, "listener.access")
    for rate, count in (("1", 1), ("1000", 3), ("0", 0)):
        caplog.clear()
        async with served(fast, access_log=rate) as server, client(server) as caller:
            for _ in range(3):
                assert (await caller.ask(post(json(["sleep", 0.01])))).status == 200
            assert (await caller.ask(post(json("bad")))).status == 400
        found = [record for record in caplog.records if record.name == "listener.access"]
        assert len(found) == count, rate
        for record in found:
            assert re.fullmatch(r"POST /predict 200 in \d+\.\d ms", record.getMessage())
            http = record.figures["httpRequest"]  # type: ignore[attr-defined]
            assert (http["requestUrl"], http["status"], http["requestSize"]) == ("/predict", 200, "30")
            assert float(http["latency"].rstrip("s")) >= 0.01
            assert set(http) & {"userAgent", "remoteIp"} == set()


async def test_no_permit_left_is_429_on_both_ways() -> None:
    for fast in (True, False):
        async with served(fast, max_requests=1) as server, client(server) as first, client(server) as second:
            await first.send(post(json(["sleep", 0.2])))
            await until(lambda server=server: server.listener.gate.inside == 1)  # type: ignore[misc]
            refused = await second.ask(post(json(1), "X-Request-Id: me"))
            assert (refused.status, refused.headers["retry-after"], refused.by_aiohttp) == (429, "1", not fast)
            assert (await first.answer()).status == 200
            assert (await second.ask(post(json(1)))).status == 200  # the connection goes on


async def test_whoever_comes_back_at_once_from_too_many_refusals_is_read_from_later() -> None:
    """A burst of two is free, and four a second; connections without a refusal of their own do not wait for that."""
    rate = mock.patch.multiple(fastpath, _REFUSALS=4.0, _BURST=0.5, _HELD=1.0)
    async with served(max_requests=1, queue=0) as server, client(server) as first, client(server) as second:
        await first.send(post(json(["sleep", 2.0])))
        await until(lambda: server.listener.gate.inside == 1)
        with rate:
            begin, took = time.monotonic(), list[float]()
            for _ in range(4):
                assert (await second.ask(post(json(1)))).status == 429
                took.append(time.monotonic() - begin)
            async with client(server) as third:
                assert (await third.ask(post(json(1)))).status == 429
                took.append(time.monotonic() - begin)
        assert took[2] < 0.2
        assert took[3] - took[2] > 0.2
        assert took[4] - took[3] < 0.2
        assert (await first.answer()).status == 200
        assert (await second.ask(post(json(1)))).status == 200


# Bodies that come late or never


def parts(request: bytes) -> tuple[bytes, bytes]:
    """Head and body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


@on_both_loops
async def test_a_refused_request_is_answered_before_its_body_and_the_connection_goes_on() -> None:
    head, body = parts(post(json("x" * 3000)))
    async with served(max_requests=1) as server, client(server) as first, client(server) as second:
        await first.send(post(json(["sleep", 0.3])))
        await until(lambda: server.listener.gate.inside == 1)
        assert (await second.ask(head)).status == 429
        await second.send(body[:100], body[100:])
        assert (await first.answer()).status == 200
        answer = await second.ask(post(json(1)))
        assert (answer.status, answer.by_aiohttp) == (200, False)


@on_both_loops
async def test_before_the_start_a_request_is_refused_and_its_connection_closed() -> None:
    head, body = parts(post(json(1)))
    async with served() as server, client(server) as caller:
        server.listener.gate.phase = Phase.STARTING
        answer = await caller.ask(head)
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        await caller.send(body)
        assert await caller.closed()


@on_both_loops
async def test_a_large_refused_body_does_not_cost_the_answer() -> None:
    head, body = parts(post(json("x" * 4_000_000)))
    async with served(max_body=8 << 20) as server, client(server) as caller:
        server.listener.gate.phase = Phase.DRAINING
        await caller.send(head, body)
        assert (await caller.answer()).status == 503
        assert await caller.closed()


@on_both_loops
async def test_the_rest_of_a_refused_body_is_not_waited_for_long() -> None:
    head, _ = parts(post(json(1)))
    with mock.patch.object(fastpath, "_LINGER", 0.1):
        async with served() as server, client(server) as caller:
            server.listener.gate.phase = Phase.DRAINING
            assert (await caller.ask(head)).status == 503
            assert await caller.closed()
            await until(lambda: not server.paths[0].connections)


@on_both_loops
async def test_a_body_that_never_comes_is_504_and_the_end() -> None:
    head, body = parts(post(json(1)))
    with mock.patch.object(fastpath, "_LINGER", 0.1):
        async with served(timeout=0.2) as server, client(server) as caller:
            await caller.send(head + body[:3])
            await until(lambda: server.listener.gate.inside == 1)
            assert (await caller.answer()).status == 504
            assert server.listener.gate.inside == 0
            assert await caller.closed()


@on_both_loops
async def test_a_body_that_comes_too_slowly_is_408_and_the_end() -> None:
    """On both ways; and one that comes at the least pace is waited for."""
    head, body = parts(post(json("x" * 3000)))
    with mock.patch.multiple(pace, GRACE=0.2, RATE=5000.0), mock.patch.multiple(fastpath, _SWEEP=0.05, _LINGER=0.1):
        for fast in (True, False):
            async with served(fast) as server, client(server) as slow, client(server) as steady:
                await slow.send(head + body[:10])
                await steady.send(head)
                for place in range(0, len(body), 300):
                    await steady.send(body[place : place + 300])
                    await asyncio.sleep(0.04)
                assert (await steady.answer()).status == 200
                refused = await slow.answer()
                assert (refused.status, refused.by_aiohttp) == (408, not fast)
                assert b"the body came too slowly: 10 bytes after 0 s" in refused.body
                assert server.listener.gate.inside == 0
                assert not fast or await slow.closed()  # aiohttp waits ten seconds for the rest


@on_both_loops
async def test_a_large_body_is_not_read_while_its_request_waits_for_a_permit() -> None:
    """Else all that wait could fill the memory with what nobody counts."""
    size = 6_000_000
    limits = {"max_requests": 1, "queue": 1, "max_body": 8 << 20, "max_bytes": 1 << 30}
    async with served(True, **limits) as server, client(server) as first, client(server) as second:
        await first.send(post(json(["sleep", 0.5])))
        await until(lambda: server.listener.gate.inside == 1)
        sending = asyncio.create_task(second.send(post(json("x" * size))))
        await until(lambda: server.listener.gate.waiting == 1)
        await asyncio.sleep(0.2)
        taken = [sum(map(len, connection._chunks)) for connection in server.paths[0].connections]
        assert 0 < max(taken) < 1_000_000
        assert (await first.answer()).status == 200
        assert len((await second.answer()).body) > size
        await sending


@on_both_loops
async def test_a_body_that_is_whole_before_anybody_reads_it_holds_up_nothing() -> None:
    """All of its packets may come in one turn of the loop, before the request's task has begun."""
    request = post(json("x" * 3000))
    async with served(max_requests=1) as server, client(server) as caller:
        await caller.ask(post(json(1)))
        (connection,) = server.paths[0].connections

        async def in_pieces(cut: int, status: int) -> None:
            for piece in (request[:cut], request[cut : cut + 1], request[cut + 1 :]):
                if piece:
                    connection.data_received(piece)
            assert (await caller.answer()).status == status

        for cut in (200, len(request) - 1):
            await in_pieces(cut, 200)
            assert (await caller.ask(post(json(2)))).body == b'{"predictions":[2]}'
        async with client(server) as other:
            await other.send(post(json(["sleep", 0.3])))
            await until(lambda: server.listener.gate.inside == 1)
            await in_pieces(200, 429)  # nobody ever read it
            assert (await other.answer()).status == 200
        assert (await caller.ask(post(json(3)))).body == b'{"predictions":[3]}'


async def test_one_client_has_its_share_on_both_ways() -> None:
    for fast in (True, False):
        async with (
            served(fast, max_requests=4, client_share=0.5) as server,
            client(server) as one,
            client(server) as two,
            client(server) as three,
            client(server, local_addr=("127.0.0.2", 0)) as other,
        ):
            await one.send(post(json(["sleep", 0.3])))
            await two.send(post(json(["sleep", 0.3])))
            await until(lambda server=server: server.listener.gate.inside == 2)  # type: ignore[misc]
            refused = await three.ask(post(json(1)))
            assert (refused.status, refused.by_aiohttp) == (429, not fast)
            assert b"the client '127.0.0.1' has 2 requests here already (LISTENER_CLIENT_SHARE)" in refused.body
            assert (await other.ask(post(json(1)))).status == 200
            assert [(await each.answer()).status for each in (one, two)] == [200, 200]


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
async def test_bytes_in_flight_have_a_limit_on_both_ways(fast: bool) -> None:
    """A body counts with its length; one that does not say it counts as the largest there may be."""
    limits = {"queue": 0, "max_body": 1 << 20, "max_bytes": (1 << 20) + 4096}
    chunked = raw("POST /predict HTTP/1.1\nHost: a\nContent-Type: application/json\nTransfer-Encoding: chunked")
    async with served(fast, **limits) as server, client(server) as first, client(server) as second:
        await first.send(post(json(["sleep", 0.3], "x" * (1_000_000))))
        await until(lambda: server.listener.gate.inside == 1)
        assert (await second.ask(post(json(1)))).status == 200
        refused = await second.ask(chunked)
        assert (refused.status, refused.by_aiohttp) == (429, True)
        assert b"requests of 1 MiB are being worked on already (LISTENER_MAX_BYTES)" in refused.body
        assert (await first.answer()).status == 200


# Clients that leave, and other ends


@on_both_loops
async def test_a_caller_may_give_a_request_less_time() -> None:
    for fast in (True, False):
        async with served(fast) as server, client(server) as caller:
            late = await caller.ask(post(json(["sleep", 9]), "X-Request-Timeout: 0.1"))
            assert (late.status, late.by_aiohttp) == (504, not fast)
            assert b"the request's time is up (X-Request-Timeout)" in late.body
            assert (await caller.ask(post(json(1), "X-Request-Timeout: soon"))).status == 400
            assert (await caller.ask(post(json(1), "X-Request-Timeout: 5"))).status == 200


@on_both_loops
async def test_a_client_that_leaves_gives_its_permit_back() -> None:
    head, body = parts(post(json(["sleep", 9])))
    async with served() as server:
        for sent in (head, head + body[:3], head + body):
            async with client(server) as caller:
                await caller.send(sent)
                await until(lambda: server.listener.gate.inside == 1)
                await asyncio.sleep(0.02)
            await until(lambda: server.listener.gate.inside == 0)
            await until(lambda: not server.paths[0].connections)
        assert server.listener.cancelled == 1


@on_both_loops
async def test_a_client_that_leaves_leaves_nothing_to_the_garbage_collector() -> None:
    """A thousand of them were 6 MB that waited for a full collection."""
    async with served() as server:
        gc.disable()
        try:
            async with client(server) as caller:
                await caller.send(post(json(["sleep", 9])))
                await until(lambda: server.listener.gate.inside == 1)
                left = weakref.ref(next(iter(server.paths[0].connections)))
            await until(lambda: left() is None)
        finally:
            gc.enable()


@on_both_loops
async def test_a_handler_that_does_not_heed_the_cancellation_of_a_caller_that_left_is_no_failure() -> None:
    with mock.patch.object(fastpath.log, "error") as complaint:
        async with served() as server:
            async with client(server) as caller:
                await caller.send(post(json("stubborn")))
                await until(lambda: server.listener.gate.inside == 1)
            await until(lambda: server.listener.gate.inside == 0)
            await until(lambda: not server.paths[0].connections)
    assert server.listener.cancelled == 1
    assert not complaint.called


@on_both_loops
async def test_in_a_drain_a_running_request_finishes_and_its_connection_is_closed() -> None:
    async with served() as server, client(server) as caller:
        await caller.send(post(json(["sleep", 0.1])))
        await until(lambda: server.listener.gate.inside == 1)
        assert await server.listener.gate.drain(5)
        answer = await caller.answer()
        assert (answer.status, answer.headers["connection"], answer.by_aiohttp) == (200, "close", False)
        assert await caller.closed()


@on_both_loops
async def test_what_is_cut_off_is_503() -> None:
    async with served() as server, client(server) as caller:
        await caller.send(post(json(["sleep", 9])))
        await until(lambda: server.listener.gate.inside == 1)
        assert not await server.listener.gate.drain(0.01)
        server.listener.gate.cut_off()
        assert (await caller.answer()).status == 503


@on_both_loops
async def test_what_comes_in_the_last_moment_of_a_stop_is_answered() -> None:
    """Its client cannot know of the stop yet. An idle connection that nothing comes on is closed soon after."""
    async with served() as server, client(server) as caller, client(server) as silent:
        assert (await caller.ask(post(json(1)))).status == 200
        await server.listener.gate.drain(1)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        closing = asyncio.create_task(server.paths[0].close())
        await asyncio.sleep(0.03)
        answer = await caller.ask(post(json(1)))
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await caller.closed()
        assert await silent.closed()
        await closing
        assert loop.time() - begin < 1.0  # 0.1 s, and no connection has to be broken off after 1 s


@on_both_loops
async def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    with mock.patch.multiple(fastpath, _IDLE=0.1, _SWEEP=0.05):
        async with served() as server, client(server) as idle, client(server) as half, client(server) as busy:
            await busy.send(post(json(["sleep", 0.5])))
            await half.send(b"POST /pre")
            assert (await idle.ask(post(json(1)))).status == 200
            assert await idle.closed()
            assert await half.closed()
            assert (await busy.answer()).status == 200
            assert await busy.closed()
            assert server.paths[0].connections == set()


@on_both_loops
async def test_a_client_that_never_takes_its_answer_is_cut_off() -> None:
    with mock.patch.multiple(fastpath, _IDLE=0.1, _SWEEP=0.05):
        async with served() as server, client(server, limit=1024) as caller:
            await caller.send(post(json(["large", 20_000_000])))
            await until(lambda: any(made._writable for made in server.paths[0].connections))
            await until(lambda: not server.paths[0].connections)


@on_both_loops
async def test_a_client_of_aiohttp_that_never_takes_its_answer_is_cut_off() -> None:
    with mock.patch.multiple(fastpath, _IDLE=0.2, _SWEEP=0.05):
        async with served() as server, client(server, limit=1024) as caller, client(server) as patient:
            await caller.send(post(json(["large", 20_000_000]), "TE: trailers"))
            assert (await patient.ask(post(json(1), "TE: trailers"))).by_aiohttp
            (path,) = server.paths
            await until(lambda: len(path._handed_over) == 2)
            await until(lambda: len(path._handed_over) == 1)
            assert (await patient.ask(post(json(2), "TE: trailers"))).status == 200


@on_both_loops
async def test_one_connection_more_than_there_may_be_takes_the_place_of_an_idle_one() -> None:
    with mock.patch.object(app, "most_connections", lambda: 3):
        async with served() as server, client(server) as busy, client(server) as idle, client(server) as of_aiohttp:
            await busy.send(post(json(["sleep", 2])))
            assert (await idle.ask(post(json(1)))).status == 200
            assert (await of_aiohttp.ask(post(json(1), "TE: trailers"))).by_aiohttp
            async with client(server) as another:
                assert (await another.ask(post(json(2)))).status == 200
                assert await idle.closed()
            assert (await busy.answer()).status == 200
            assert (await of_aiohttp.ask(post(json(3)))).status == 200


@on_both_loops
async def test_where_all_connections_are_busy_one_more_is_broken_off() -> None:
    with mock.patch.multiple(app, most_connections=lambda: 2), mock.patch.multiple(fastpath, _SWEEP=0.05):
        async with served() as server, client(server) as one, client(server) as other:
            for busy in (one, other):
                await busy.send(post(json(["sleep", 2])))
            await until(lambda: server.listener.gate.inside == 2)
            async with client(server) as another:
                assert await another.closed()
            assert [(await busy.answer()).status for busy in (one, other)] == [200, 200]
            async with client(server) as another:
                assert (await another.ask(post(json(1)))).status == 200


async def test_with_the_port_of_requests_that_of_metrics_is_left() -> None:
    """A successor needs both, however long requests run on."""
    configured = settings.read({}, service=Path("."), host="127.0.0.1")
    bound, metrics = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    taken = [made.getsockname() for made in (bound, metrics)]
    async with app.serving(Stub(configured), bound, metrics) as ports:
        for address in taken:
            _, writer = await asyncio.open_connection(*address)
            writer.transport.abort()
        ports.close()
        for address in taken:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)


async def test_what_was_broken_off_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "listener.http")
    with mock.patch.multiple(app, most_connections=lambda: 1), mock.patch.multiple(fastpath, _SWEEP=0.05):
        async with served() as server, client(server) as busy:
            await busy.send(post(json(["sleep", 2])))
            await until(lambda: server.listener.gate.inside == 1)
            for _ in range(3):
                async with client(server) as another:
                    assert await another.closed()
            assert (await busy.answer()).status == 200
    told = [record.getMessage() for record in caplog.records]
    assert sum(int(line.rpartition(": ")[2]) for line in told if "as 1 are open already" in line) == 3


def test_some_descriptors_are_not_for_clients() -> None:
    with mock.patch("resource.getrlimit", lambda which: (65_536, 65_536)):
        assert app.most_connections() == 64_512
    with mock.patch("resource.getrlimit", lambda which: (256, 256)):
        assert app.most_connections() == 128


@pytest.mark.parametrize(
    ("place", "name"),
    [(instances, "encode_error"), (fastpath, "refusal"), (FastPath, "date"), (fastpath, "request_id")],
)
async def test_a_failure_around_an_answer_ends_the_connection(
    place: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server, client(server) as caller:
        with mock.patch.object(place, name, side_effect=KeyError("a secret")):
            await caller.send(post(json("bad")))
            assert await caller.closed()
    assert server.listener.gate.inside == 0
    assert "a connection failed" in caplog.text


async def test_a_cancellation_from_nowhere_ends_the_connection() -> None:
    async with served() as server, client(server) as caller:
        await caller.send(post(json("cancelled")))
        assert await caller.closed()
        assert server.listener.gate.inside == 0
