"""The process that asks, as a class, against servers whose answers are known."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Awaitable, Callable

import pytest

from listener.tools.load.arrivals import arrivals
from listener.tools.load.figures import Figures
from listener.tools.load.generator import Generator, requests
from listener.tools.load.orders import Order, Target

Answer = Callable[[int, bytes], Awaitable[int]]


async def take(
    answer: Answer, *orders: Order, stop_after: float = 0, **target: object
) -> list[tuple[Figures, list[Figures]]]:
    """Each step's figures; a server answers with a status, or with 0 hangs up."""
    counted, tasks = itertools.count(), set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                status = await answer(next(counted), head + await reader.readexactly(size))
                if not status:
                    break
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    # closed and not waited for: from Python 3.12 on that lasts until every connection has ended
    with contextlib.closing(await asyncio.start_server(serve, "127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict?key=1"
        given = {"bodies": ['{"instances":[1]}', '{"instances":[2]}'], "connections": 500, "timeout": 5.0, **target}
        generator = Generator(Target(url, **given))  # type: ignore[arg-type]
        if stop_after:
            asyncio.get_running_loop().call_later(stop_after, generator.stop)
        found = [await generator.take(order) for order in orders]
        generator.close()
        await asyncio.wait(filter(None, tasks), timeout=0.1)
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
    return found


async def at_once(number: int, request: bytes) -> int:
    return 200


async def test_every_request_is_sent_when_it_is_due_and_counted() -> None:
    asked: list[bytes] = []

    async def remember(number: int, request: bytes) -> int:
        asked.append(request)
        return 200

    order = Order(300.0, 0.5, 0.2, headers={"X-Who": "me", "user-agent": "mine"}, seed=3)
    ((found, slices),) = await take(remember, order)
    times = arrivals(300, 0.7, 3)
    assert found.sent == found.right == len(asked) == len(times)
    assert found.requests == len([at for at in times if at >= 0.2])
    assert found.offered == pytest.approx(found.requests / 0.5)
    assert found.errors == {}
    assert 0 < found.p50 <= found.p90 <= found.p99 <= found.p999 <= found.longest
    assert slices == []
    bodies = [request.partition(b"\r\n\r\n")[2] for request in asked]
    assert abs(bodies.count(b'{"instances":[1]}') - bodies.count(b'{"instances":[2]}')) <= 1
    head = asked[0].partition(b"\r\n\r\n")[0]
    assert head.startswith(b"POST /predict?key=1 HTTP/1.1\r\n")
    assert b"X-Who: me" in head
    assert b"listener-load" not in head


async def test_errors_are_told_by_their_kind() -> None:
    async def mixed(number: int, request: bytes) -> int:
        return [200, 503, 0, 429][number % 4]

    ((found, _),) = await take(mixed, Order(400.0, 0.5, 0.0))
    assert set(found.errors) == {"status 503", "connection closed", "status 429"}
    assert found.right + found.failed == found.sent == found.requests
    assert found.error_rate == pytest.approx(0.75, abs=0.02)


async def test_what_has_no_answer_in_time_is_a_timeout() -> None:
    async def slow(number: int, request: bytes) -> int:
        await asyncio.sleep(10 if number % 10 == 0 else 0)
        return 200

    ((found, _),) = await take(slow, Order(100.0, 1.5, 0.0, patience=2.0), timeout=0.2, connections=10)
    assert set(found.errors) == {"timeout"}
    assert found.errors["timeout"] == len(range(0, found.sent, 10))
    assert found.waited == 0  # two are stuck at a time, and each frees its connection


async def test_connections_have_a_limit_and_what_waits_for_one_is_told() -> None:
    async def slow(number: int, request: bytes) -> int:
        await asyncio.sleep(0.05)
        return 200

    ((found, _),) = await take(slow, Order(200.0, 0.5, 0.0, patience=5.0), connections=3)
    assert found.connections == 3
    assert found.waited > 0
    assert found.longest > 200  # the time that it waited counts
    assert found.right == found.sent


async def test_a_step_that_is_far_too_much_is_cut_and_the_next_one_is_sound() -> None:
    steps = iter([20.0, 0.0])
    sleeps = next(steps)

    async def stuck(number: int, request: bytes) -> int:
        await asyncio.sleep(sleeps)
        return 200

    def well_again() -> None:
        nonlocal sleeps
        sleeps = next(steps)

    asyncio.get_running_loop().call_later(0.4, well_again)
    orders = Order(200.0, 5.0, 0.1, late=0.3, patience=0.1), Order(200.0, 0.5, 0.1, late=0.3)
    (cut, _), (sound, _) = await take(stuck, *orders)
    assert cut.cut
    assert cut.seconds < 2
    assert set(cut.errors) == {"no answer by the end"}
    assert (sound.cut, sound.errors, sound.right) == (False, {}, sound.sent)
    assert sound.at > cut.at


async def test_parts_of_a_step_make_the_whole() -> None:
    ((found, slices),) = await take(at_once, Order(300.0, 1.0, 0.1, slices=4))
    assert len(slices) == 4
    assert sum(one.requests for one in slices) == found.requests
    assert [one.at - slices[0].at for one in slices] == pytest.approx([0, 0.25, 0.5, 0.75])


async def test_a_stop_ends_a_step_with_what_there_is() -> None:
    async def never(number: int, request: bytes) -> int:
        await asyncio.sleep(30)
        return 200

    ((found, _),) = await take(never, Order(100.0, 30.0, 0.1, patience=0.1), stop_after=0.5)
    assert found.seconds < 2
    assert found.errors == {"no answer by the end": found.requests}
    assert math.isnan(found.p99)


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await Generator(Target("http://127.0.0.1:1/p", ["{}"], 10, 1.0)).take(Order(10.0, 0.2, 0.0))


def test_requests_are_whole() -> None:
    (made,) = requests("h:1", "/p", {"Content-Type": "text/x"}, ["é"])
    assert made.endswith(b"Content-Length: 2\r\n\r\n\xc3\xa9")
    assert made.lower().count(b"content-type") == 1
