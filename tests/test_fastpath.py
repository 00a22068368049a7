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
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
import pytest
import uvloop
from aiohttp import web

from listener import app, fastpath, settings
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
    server = await asyncio.get_running_loop().create_server(app.odd(runner), sock=bound)
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
        return "server" in self.headers

    @property
    def told(self) -> tuple[int, dict[str, str], bytes]:
        """What must be the same on both ways."""
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
    caplog.set_level(logging.INFO, "listener.http")
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


async def test_no_permit_left_is_429_on_both_ways() -> None:
    for fast in (True, False):
        async with served(fast, max_requests=1) as server, client(server) as first, client(server) as second:
            await first.send(post(json(["sleep", 0.2])))
            await until(lambda server=server: server.listener.gate.inside == 1)  # type: ignore[misc]
            refused = await second.ask(post(json(1), "X-Request-Id: me"))
            assert (refused.status, refused.headers["retry-after"], refused.by_aiohttp) == (429, "1", not fast)
            assert (await first.answer()).status == 200
            assert (await second.ask(post(json(1)))).status == 200  # the connection goes on


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


# Clients that leave, and other ends


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
