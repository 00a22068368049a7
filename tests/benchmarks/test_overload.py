"""The overload's arithmetic, and its generator against a server whose answers are known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from benchmarks.overload import figures, generator, report
from benchmarks.overload.__main__ import main
from benchmarks.overload.figures import CLOSED, RIGHT, UNANSWERED, WRONG, Figures, Try, Window
from benchmarks.overload.generator import Plan
from benchmarks.overload.questions import QUESTIONS, is_refusal
from benchmarks.overload.rounds import AT_10, AT_90, BEST, OWN, SLOW, Key, Known, Results
from benchmarks.overload.stack import Row
from listener.tools.load.arrivals import arrivals

# Arithmetic


@pytest.mark.parametrize(
    ("status", "right", "wanted"),
    [
        (200, True, RIGHT),
        (200, False, WRONG),
        (429, True, "429"),
        (429, False, WRONG),
        (503, True, "503"),
        (504, True, "504"),
        (400, True, WRONG),
        (500, True, WRONG),
    ],
)
def test_what_an_answer_is(status: int, right: bool, wanted: str) -> None:
    assert figures.outcome(status, right) == wanted


def test_permits_are_by_littles_law() -> None:
    assert figures.permits(400, 100, 1) == 40
    assert figures.permits(400, 100, 1.3) == 52
    assert figures.permits(1, 1, 1) == 1


def test_a_window_counts_what_should_have_left_in_it_and_what_came_in_it() -> None:
    window = Window(1.0, 3.0)
    window.tries += [
        Try(0.5, 0.6, RIGHT, 0.5),  # before it
        Try(0.9, 1.1, RIGHT, 0.9),  # came in it
        Try(1.0, 1.2, RIGHT, 1.0),
        Try(2.0, 2.1, RIGHT, 1.5),  # a second try
        Try(2.9, 3.4, RIGHT, 2.9),  # came after it
        Try(2.5, 2.51, "429", 2.5),
        Try(2.6, 2.63, "503", 2.6),
        Try(3.0, 3.1, "429", 3.0),  # after it
        Try(0.1, 0.2, WRONG, 0.1),
        Try(2.7, 9.0, UNANSWERED, 2.7),
        Try(2.7, 2.8, CLOSED, 2.7),
    ]
    window.lags += [0.001, 0.002]
    found = window.figures(0.5, 1, 2)
    assert found.offered == 7 / 2
    assert found.goodput == 3 / 2
    assert found.refused == {"429": 1 / 2, "503": 1 / 2}
    assert found.wrong == {CLOSED: 1, UNANSWERED: 1, WRONG: 1}
    assert (found.p50, found.p99, found.longest) == pytest.approx((200, 500, 500))
    assert found.whole_p99 == pytest.approx(600)
    assert found.refusal_p99 == pytest.approx(30)
    assert found.lag_p99 == 2
    assert (found.generator_cpu, found.waited, found.gone) == (0.5, 1, 2)
    assert (found.right_in_all, found.refused_in_all) == (5, 3)


@pytest.mark.parametrize(
    ("lag_ms", "cpu", "waited", "slow"),
    [(1.0, 0.5, 0, False), (11.0, 0.5, 0, True), (1.0, 0.96, 0, True), (1.0, 0.5, 1, True), (math.nan, 0.5, 0, False)],
)
def test_a_row_says_when_the_generator_was_what_was_slow(lag_ms: float, cpu: float, waited: int, slow: bool) -> None:
    window = Window(0.0, 1.0)
    if lag_ms == lag_ms:
        window.lags.append(lag_ms / 1e3)
    found = window.figures(cpu, waited)
    assert found.generator_was_slow is slow
    assert found.as_json()["generator_was_slow"] is slow


# Questions


@pytest.mark.parametrize("service", [SLOW.service, OWN.service])
def test_each_number_has_an_answer_of_its_own(service: str) -> None:
    question = QUESTIONS[service]
    bodies = [question.body(number) for number in (0, 1, 999_999)]
    assert len({len(body) for body in bodies}) == 1
    asked = [orjson.loads(body)["instances"] for body in bodies]
    assert [rows[0][0] for rows in asked] == [0, 1, 999_999]
    answers = [
        orjson.dumps({"predictions": [[question.factor * x + question.summand for x in row] for row in rows]})
        for rows in asked
    ]
    for number, answer in zip((0, 1, 999_999), answers, strict=True):
        assert question.is_right(number, answer)
        assert not question.is_right(number + 2, answer)
        assert not question.is_right(number, answer.replace(b"]]", b"],[1.0]]"))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"predictions":[]}', b'{"predictions":[[', b'{"x":[[1.0]]}', b"[[1.0]]"]
)
def test_what_is_no_answer_is_none(body: bytes) -> None:
    assert not QUESTIONS["slow"].is_right(0, body)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [(b'{"error":"no"}', True), (b'{"error":1}', False), (b'{"error":"a","b":1}', False), (b"[]", False), (b"", False)],
)
def test_a_refusal_has_one_sentence(body: bytes, wanted: bool) -> None:
    assert is_refusal(body) is wanted


# The generator

Answer = Callable[[int], Awaitable[bytes]]


def said(status: int, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)


def right(number: int) -> bytes:
    return said(200, b'{"predictions":[[%.1f]]}' % (2 * number + 1))


REFUSAL = said(429, b'{"error":"no"}', b"Retry-After: 0\r\n")


async def go(answer: Answer, plan: dict[str, Any]) -> tuple[Figures, int]:
    """What the generator says of a server, and how many connections that had."""
    connections, tasks = 0, set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        tasks.add(asyncio.current_task())
        size = len(QUESTIONS["slow"].body(0))
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                number = orjson.loads(await reader.readexactly(size))["instances"][0][0]
                said = await answer(number)
                if not said:
                    break
                half = len(said) // 2
                writer.write(said[:half])  # in two pieces, as networks may
                await asyncio.sleep(0)
                writer.write(said[half:])
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            await writer.wait_closed()

    # closed and not waited for: from Python 3.12 on that lasts until every connection has ended
    with contextlib.closing(await asyncio.start_server(serve, "127.0.0.1", 0)) as server:
        port = server.sockets[0].getsockname()[1]
        made = Plan(port, "slow", **{"seconds": 0.5, "warm_up": 0.1, "patience": 2.0, **plan})
        run = generator.Open(made) if made.rate else generator.Closed(made)
        found = await run.go()
        await asyncio.wait([task for task in tasks if task], timeout=1)
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
    return found, connections


async def at_once(number: int) -> bytes:
    return right(number)


async def test_an_open_loop_asks_at_its_rate_and_knows_right_answers() -> None:
    found, connections = await go(at_once, {"rate": 200.0})
    wanted = [at for at in arrivals(200, 0.6, 1) if at >= 0.1]
    assert found.offered == len(wanted) / 0.5
    assert found.right_in_all == len(arrivals(200, 0.6, 1))
    assert (found.refused, found.wrong, found.waited) == ({}, {}, 0)
    assert connections == 100


async def test_it_does_not_wait_for_answers_and_counts_from_when_a_request_was_due() -> None:
    """Nothing is answered for a while: whoever asks only after an answer would see one slow answer."""
    begin = asyncio.get_running_loop().time()

    async def stopped(number: int) -> bytes:
        await asyncio.sleep(max(0.0, begin + 0.7 - asyncio.get_running_loop().time()))
        return right(number)

    found, connections = await go(stopped, {"rate": 400.0, "warm_up": 0.0})
    assert found.right_in_all == len(arrivals(400, 0.5, 1))
    assert connections > 100  # the pool grew
    assert found.p50 > 300  # of waits from 0.2 to 0.7 s, one for each arrival


async def test_a_generator_that_is_late_counts_that_time_and_says_so() -> None:
    """The server here is on the generator's own loop, and stops it."""

    async def stops_all(number: int) -> bytes:
        if number == 30:
            time.sleep(0.3)  # noqa: ASYNC251 - that is the point
        return right(number)

    found, _ = await go(stops_all, {"rate": 200.0})
    assert found.lag_p99 > 200
    assert found.generator_was_slow
    assert found.p99 > 200


async def test_a_pool_that_has_no_more_is_the_generators_fault() -> None:
    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.3)
        return right(number)

    found, connections = await go(slow, {"rate": 600.0, "most": 100})
    assert connections == 100
    assert found.waited > 0
    assert found.generator_was_slow
    assert found.longest > 310  # those that had no connection waited longer than the server let them
    assert found.right_in_all == len(arrivals(600, 0.6, 1))


async def test_wrong_answers_refusals_and_closed_connections_are_told_apart() -> None:
    async def mixed(number: int) -> bytes:
        return [right(number), right(number + 1), REFUSAL, said(500, b'{"error":"x"}'), b""][number % 5]

    found, _ = await go(mixed, {"rate": 500.0})
    count = len(arrivals(500, 0.6, 1))
    assert found.right_in_all == len(range(0, count, 5))
    assert found.wrong == {CLOSED: len(range(4, count, 5)), WRONG: len(range(1, count, 5)) + len(range(3, count, 5))}
    assert found.refused_in_all == len(range(2, count, 5))


async def test_what_is_never_answered_is_counted() -> None:
    async def never(number: int) -> bytes:
        await asyncio.sleep(10 if number == 3 else 0)
        return right(number)

    found, _ = await go(never, {"rate": 100.0, "patience": 0.1})
    assert found.wrong == {UNANSWERED: 1}


async def test_a_closed_loop_has_one_request_for_each_busy_connection() -> None:
    inside = most = 0

    async def counted(number: int) -> bytes:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1
        return right(number)

    found, connections = await go(counted, {"busy": 5, "idle": 7})
    assert (most, connections) == (5, 12)
    assert found.wrong == {}
    assert found.p50 >= 10


@pytest.mark.parametrize(("again", "least"), [("at once", 60), ("retry-after", 260)])
async def test_after_a_refusal_it_asks_the_same_again(again: str, least: float) -> None:
    refused: set[int] = set()

    async def first_no(number: int) -> bytes:
        if number in refused:
            return right(number)
        refused.add(number)
        await asyncio.sleep(0.06)
        return REFUSAL.replace(b"Retry-After: 0", b"Retry-After: 0.2")

    found, _ = await go(first_no, {"busy": 3, "again": again})
    assert found.wrong == {}
    assert found.refused_in_all in (len(refused), len(refused) - 1)
    assert 0 < found.right_in_all <= len(refused)
    assert found.whole_p99 >= least
    assert found.p50 < found.whole_p99 - 50  # a try's own time is not that of its question


# The report


def row(offered: float, goodput: float, p99: float, cpu: float, refused: dict[str, float]) -> Row:
    made = Figures(offered, goodput, refused, {}, p99 / 2, p99, p99 * 2, p99, 1.0)
    count = {"right_in_all": int(goodput * 4), "refused_in_all": int(sum(refused.values()) * 4)}
    return Row(Figures(**{**made.__dict__, **count}), (70, 80, 75), cpu, cpu / 4, 1.5)


@pytest.fixture
def results() -> Results:
    made = Results(known={"slow": Known(400, 90)})
    made.add(Key("slow", None, BEST), row(400, 400, 170, 1.0, {}))
    made.add(Key("slow", 47, AT_90), row(360, 360, 90, 0.36 * 0.4, {}))
    made.add(Key("slow", 47, AT_10), row(4000, 380, 144, 0.38 * 0.4 + 0.362, {"429": 3620}))
    return made


def test_a_refusal_costs_what_answers_leave(results: Results) -> None:
    answers, refusals = results.rows[Key("slow", 47, AT_90)][0], results.rows[Key("slow", 47, AT_10)][0]
    assert report.costs(answers, refusals) == pytest.approx((100, 25))


def test_the_tables_hold_the_goals_against_the_best_and_90_percent(results: Results) -> None:
    text = report.tables(results, [SLOW])
    (good,) = [line for line in text.splitlines() if "10 x: goodput of best" in line]
    (late,) = [line for line in text.splitlines() if "10 x: p99 of that" in line]
    assert [cell.strip() for cell in good.split("|")[2:5]] == [">= 0.9", "0.95", "met"]
    assert [cell.strip() for cell in late.split("|")[2:5]] == ["<= 2", "1.60", "met"]
    assert "3,620 x 429" in text
    assert "100 us for an answer, 25 us for a refusal" in text


def test_a_missed_goal_is_shown_as_missed(results: Results) -> None:
    results.rows[Key("slow", 47, AT_10)] = [row(4000, 350, 200, 1.0, {"429": 3650})]
    assert report.tables(results, [SLOW]).count("**missed**") == 2


def test_without_refusals_there_is_nothing_to_say_of_their_cost(results: Results) -> None:
    results.rows[Key("slow", 47, AT_10)] = [row(360, 360, 100, 1.0, {})]
    assert "for a refusal" not in report.tables(results, [SLOW])


def test_a_service_that_could_not_be_measured_is_named(results: Results) -> None:
    results.failed["affine"] = "it did not start"
    assert "affine was not measured: it did not start" in report.tables(results, [SLOW, OWN])


def test_the_json_has_a_row_for_each_round(results: Results) -> None:
    rows = json.loads(json.dumps(report.rows(results)))
    assert [(one["permits"], one["load"], one["round"]) for one in rows] == [
        (None, BEST, 0),
        (47, AT_90, 0),
        (47, AT_10, 0),
    ]
    assert rows[2]["refused"] == {"429": 3620}
    assert (rows[0]["memory_before_mb"], rows[0]["memory_peak_mb"], rows[0]["memory_after_mb"]) == (70, 80, 75)


@pytest.mark.parametrize("wrong", [["--factors", "a"], ["--set", "LISTENER_QUEUE"], ["--only", "x"]])
def test_a_mistake_ends_it_before_it_begins(wrong: list[str]) -> None:
    assert CliRunner().invoke(main, wrong).exit_code == 2
