"""The connections to Triton against servers that behave badly, on both kinds of event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
import uvloop

from listener.triton.wire import Answer, ConnectionLost, ProtocolError, Wire, _Connection

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
ASK = HEAD % 0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = 20 << 20  # more than any socket takes at once

Script: TypeAlias = Callable[["Peer"], Awaitable[None]]
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine, at most 20 s, in which no task or future may be forgotten."""
    complaints: list[dict[str, Any]] = []

    def bounded(main: Coroutine[Any, Any, None]) -> None:
        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(20):
                await main

        runner.run(body())

    with asyncio.Runner(loop_factory=request.param) as runner:
        yield bounded
    assert complaints == []


@dataclass
class Peer:
    """One connection, as the server sees it; `number` counts from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    served: int = 0

    async def request(self) -> bytes:
        """The next one's body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.served += 1
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        return await self.reader.readexactly(int(length))

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)


@dataclass
class Server:
    """What its clients have done so far."""

    wire: Wire
    peers: list[Peer] = field(default_factory=list)
    open: int = 0

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(script: Script, limit: int = 8) -> AsyncIterator[Server]:
    """A server that follows a script on each connection, and hangs up at its end; all must be closed afterwards."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(state.peers) + 1, reader, writer)
        state.peers.append(peer)
        state.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(peer)
        finally:
            state.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        state = Server(Wire("127.0.0.1", server.sockets[0].getsockname()[1], limit))
        try:
            yield state
        finally:
            await state.wire.close()
            assert not state.wire._open
            await state.until(lambda: state.open == 0)


async def friendly(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.say(OK)


async def silent(peer: Peer) -> None:
    while await peer.reader.read(1 << 20):
        pass


def saying(*pieces: bytes) -> Script:
    """One request, these bytes, the end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)

    return script


# Answers


def test_a_connection_is_used_again(run: Run) -> None:
    async def main() -> None:
        async with serving(friendly) as server:
            for _ in range(5):
                assert (await server.wire.send(ASK)).body == b"ok"
            assert [peer.served for peer in server.peers] == [5]

    run(main())


def test_an_answer_is_read_wherever_it_is_cut(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            for cut in range(1, len(OK)):
                await peer.request()
                await peer.say(OK[:cut], OK[cut:])

        async with serving(script) as server:
            for _ in range(1, len(OK)):
                assert (await server.wire.send(ASK)).body == b"ok"
            assert len(server.peers) == 1

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_connection_that_does_not_last_is_not_used_again(run: Run, raw: bytes) -> None:
    async def main() -> None:
        async with serving(saying(raw)) as server:
            for _ in range(3):
                assert (await server.wire.send(ASK)).body == b"ok"
            assert [peer.served for peer in server.peers] == [1, 1, 1]

    run(main())


@pytest.mark.parametrize("sizes", [[1, 2, 3], [LARGE], [10, LARGE, 10, LARGE, 10], [0, 40000, 0, 40000]])
def test_every_part_arrives_in_its_place(run: Run, sizes: list[int]) -> None:
    parts = [memoryview(bytes([number]) * size) for number, size in enumerate(sizes)]

    async def main() -> None:
        async def script(peer: Peer) -> None:
            while True:
                assert await peer.request() == b"".join(parts)
                await peer.say(OK)

        async with serving(script) as server:
            for _ in range(2):
                assert (await server.wire.send(HEAD % sum(sizes), parts)).body == b"ok"
            assert len(server.peers) == 1

    run(main())


def test_a_large_answer(run: Run) -> None:
    async def main() -> None:
        body = b"0123456789abcdef" * (LARGE >> 4)
        async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE, body)) as server:
            assert (await server.wire.send(ASK)).body == body

    run(main())


REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("count", [1, 5])
def test_an_answer_before_the_whole_request_ends_the_connection(run: Run, count: int) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            if peer.number > 1:
                return await friendly(peer)
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.say(REFUSED)
            await asyncio.sleep(0.05)
            return await silent(peer)

        async with serving(script) as server:
            assert (await server.wire.send(HEAD % (LARGE * count), [bytes(LARGE)] * count)).status == 413
            assert (await server.wire.send(ASK)).status == 200

    run(main())


def test_one_that_comes_between_two_parts_does_so_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Connection, "resume_writing", lambda connection: None)  # the loop comes to it too late

    async def main() -> None:
        async def script(peer: Peer) -> None:
            if peer.number > 1:
                return await friendly(peer)
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.reader.readexactly(LARGE)
            await peer.say(REFUSED)
            return await silent(peer)

        async with serving(script) as server:
            assert (await server.wire.send(HEAD % (LARGE * 2), [bytes(LARGE)] * 2)).status == 413
            assert (await server.wire.send(ASK)).status == 200

    run(main())


def test_a_part_waits_until_the_one_before_has_gone(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await server.until(lambda: not server.wire._open)  # reads nothing

        async with serving(script) as server:
            call = asyncio.create_task(server.wire.send(HEAD % (LARGE * 3), [bytes(LARGE)] * 3))
            await server.until(lambda: server.open == 1)
            await asyncio.sleep(0.05)
            (connection,) = server.wire._open
            assert 0 < connection._transport.get_write_buffer_size() < LARGE + 1000
            call.cancel()
            await asyncio.wait([call])

    run(main())


# Failures


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 2", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
def test_an_end_before_the_answer(run: Run, raw: bytes) -> None:
    async def main() -> None:
        async with serving(saying(raw)) as server:
            with pytest.raises(ConnectionLost):
                await server.wire.send(ASK)
            assert len(server.peers) == 1

    run(main())


def test_an_end_while_the_request_is_written(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.reader.readexactly(100_000)

        async with serving(script) as server:
            with pytest.raises(ConnectionLost):
                await server.wire.send(HEAD % (2 * LARGE), [bytes(LARGE), bytes(LARGE)])

    run(main())


def test_a_half_closed_connection_is_lost_at_once(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            peer.writer.write_eof()
            await asyncio.sleep(0.2)  # and reads nothing: what is left to write would never go out
            await peer.reader.read()

        async with serving(script) as server:
            with pytest.raises(ConnectionLost):
                await server.wire.send(HEAD % LARGE, [bytes(LARGE)])

    run(main())


def test_garbage(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(b"SSH-2.0-OpenSSH_9.6\r\n")
            await peer.reader.read()

        async with serving(script) as server:
            for number in (1, 2):
                with pytest.raises(ProtocolError):
                    await server.wire.send(ASK)
                assert len(server.peers) == number

    run(main())


def test_nobody_there(run: Run) -> None:
    async def main() -> None:
        wire = Wire("127.0.0.1", 1, 1)
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                await wire.send(ASK)
        await wire.close()

    run(main())


# Kept connections that end


def test_a_kept_connection_that_ends_at_the_next_request_is_replaced(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(OK)
            await peer.reader.readexactly(1)  # of a second request; no answer to that

        async with serving(script) as server:
            for number in range(1, 4):
                assert (await server.wire.send(ASK)).body == b"ok"
                assert len(server.peers) == number

    run(main())


def test_it_is_replaced_once_and_only_if_there_was_no_byte_of_an_answer(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            if peer.number in (1, 3):
                await peer.request()
                await peer.say(OK)
                await peer.request()
                await peer.say(b"H" if peer.number == 3 else b"")

        async with serving(script) as server:
            await server.wire.send(ASK)
            with pytest.raises(ConnectionLost):
                await server.wire.send(ASK)  # 1 ends, then the new one ends
            assert len(server.peers) == 2
            await server.wire.send(ASK)
            with pytest.raises(ConnectionLost):
                await server.wire.send(ASK)  # 3 has begun to answer
            assert len(server.peers) == 3

    run(main())


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_one_that_ends_or_speaks_unasked_is_forgotten(run: Run, raw: bytes) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(OK)
            await asyncio.sleep(0.01)
            await peer.say(raw)
            if raw:
                await peer.reader.read()

        async with serving(script) as server:
            await server.wire.send(ASK)
            await server.until(lambda: not server.wire._open)
            assert not server.wire._idle
            assert (await server.wire.send(ASK)).body == b"ok"

    run(main())


# Limits, order and cancellation


def test_no_more_connections_than_the_limit_and_first_come_first_served(run: Run) -> None:
    async def main() -> None:
        most = 0

        async def script(peer: Peer) -> None:
            nonlocal most
            while True:
                await peer.request()
                most = max(most, server.open)
                await asyncio.sleep(0.001)
                await peer.say(OK)

        async with serving(script, limit=3) as server:
            order: list[int] = []

            async def call(number: int) -> None:
                await server.wire.send(ASK)
                order.append(number)

            await asyncio.gather(*(call(number) for number in range(30)))
            assert most == len(server.peers) == 3
            assert all(abs(number - place) < 3 for place, number in enumerate(order))

    run(main())


def test_the_connection_used_last_is_used_next(run: Run) -> None:
    async def main() -> None:
        async with serving(friendly) as server:
            await asyncio.gather(*(server.wire.send(ASK) for _ in range(4)))
            for _ in range(10):
                await server.wire.send(ASK)
            assert sorted(peer.served for peer in server.peers) == [1, 1, 1, 11]

    run(main())


@pytest.mark.parametrize("parts", [[], [bytes(LARGE)], [bytes(LARGE), bytes(LARGE)]], ids=["small", "large", "paused"])
def test_a_cancelled_call_closes_its_connection_and_frees_its_place(run: Run, parts: list[bytes]) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            if peer.number > 1:
                await friendly(peer)
            elif parts:  # reads nothing, so that the sender has to wait
                await peer.reader.readuntil(b"\r\n\r\n")
                await server.until(lambda: not server.wire._open)
            else:
                await silent(peer)

        async with serving(script, limit=1) as server:
            call = asyncio.create_task(server.wire.send(HEAD % (LARGE * len(parts)), parts))
            await server.until(lambda: server.open == 1)
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await server.until(lambda: server.open == 0)
            assert (await server.wire.send(ASK)).body == b"ok"

    run(main())


def test_a_cancelled_waiter_leaves_the_queue(run: Run) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await go.wait()
            await peer.say(OK)
            await friendly(peer)

        async with serving(script, limit=1) as server:
            first, second, third = (asyncio.create_task(server.wire.send(ASK)) for _ in range(3))
            await server.until(lambda: server.open == 1)
            second.cancel()
            await asyncio.wait([second])
            go.set()
            answers = await asyncio.gather(first, third)
            assert [answer.status for answer in answers] == [200, 200]
            assert server.wire._places == 1

    run(main())


def test_a_place_that_comes_with_the_cancellation_goes_on(run: Run) -> None:
    async def main() -> None:
        async with serving(friendly, limit=1) as server:
            calls: list[asyncio.Task[Answer]] = []

            async def first() -> None:
                await server.wire.send(ASK)  # hands its place over to the second in line, which goes just then
                calls[0].cancel()

            begun = asyncio.create_task(first())
            await asyncio.sleep(0)
            calls += [asyncio.create_task(server.wire.send(ASK)) for _ in range(2)]
            await begun
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            assert (await calls[1]).body == b"ok"
            assert server.wire._places == 1

    run(main())


def test_a_failure_that_comes_with_the_cancellation_is_not_complained_about(run: Run) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            await server.until(lambda: not server.wire._open)  # reads nothing

        async with serving(script) as server:
            call = asyncio.create_task(server.wire.send(HEAD % (2 * LARGE), [bytes(LARGE)] * 2))
            await server.until(lambda: server.open == 1)
            (connection,) = server.wire._open
            await server.until(lambda: connection._room is not None)
            connection.eof_received()  # while the call waits for room, not for the answer
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            del call
            gc.collect()  # a forgotten failure complains when it goes

    run(main())


def test_a_call_that_is_cancelled_as_its_connection_is_made_leaves_none_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Wire.made

    async def main() -> None:
        async with serving(friendly, limit=1) as server:

            def cancelling(wire: Wire, connection: _Connection) -> None:
                made(wire, connection)
                call.cancel()

            with monkeypatch.context() as patched:
                patched.setattr(Wire, "made", cancelling)
                call = asyncio.create_task(server.wire.send(ASK))
                await asyncio.wait([call])
            assert call.cancelled()
            assert not server.wire._open
            assert (await server.wire.send(ASK)).body == b"ok"

    run(main())


def test_nothing_leaks_whenever_calls_are_cancelled(run: Run) -> None:
    async def main() -> None:
        async with serving(friendly, limit=2) as server:
            for rounds in range(60):
                calls = [asyncio.create_task(server.wire.send(ASK)) for _ in range(5)]
                for _ in range(rounds):
                    await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                done = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(result, Answer | asyncio.CancelledError) for result in done)
                assert (server.wire._places, len(server.wire._queue)) == (2, 0)
                assert len(server.wire._idle) <= 2
            await server.until(lambda: len(server.wire._open) == len(server.wire._idle))

    run(main())


# The end


def test_close_ends_everything_under_way(run: Run) -> None:
    async def main() -> None:
        async with serving(silent, limit=2) as server:
            calls = [asyncio.create_task(server.wire.send(ASK)) for _ in range(4)]
            await server.until(lambda: server.open == 2)
            await server.wire.close()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(end, ConnectionLost) for end in ends] == [True] * 4
            with pytest.raises(ConnectionLost):
                await server.wire.send(ASK)

    run(main())


def test_close_while_connecting(run: Run) -> None:
    async def main() -> None:
        async with serving(silent) as server:
            for rounds in range(6):
                call = asyncio.create_task(server.wire.send(ASK))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                await server.wire.close()
                with pytest.raises(ConnectionLost):
                    await call
                await server.until(lambda: not server.wire._open)
                server.wire._closed = False

    run(main())


def test_small_packets_are_not_held_back(run: Run) -> None:
    async def main() -> None:
        async with serving(friendly) as server:
            await server.wire.send(ASK)
            own = server.wire._idle[0]._transport.get_extra_info("socket")
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())
