"""Phase, permits, deadline, drain."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import BadRequest, DeadlineExceeded, ListenerError, Overloaded, Unavailable
from listener.gate import Gate, Limits, Permit, Phase


def ready(limit: int = 2, timeout: float = 60.0, **limits: int) -> Gate:
    gate = Gate(Limits(limit, **limits), timeout)
    gate.phase = Phase.READY
    return gate


async def test_a_gate_starts_closed() -> None:
    assert Gate(Limits(1), 1).phase is Phase.STARTING


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY], ids=lambda phase: phase.value)
async def test_only_a_ready_gate_lets_in(phase: Phase) -> None:
    gate = Gate(Limits(1), 1)
    gate.phase = phase
    said = "the service cannot be served; the log has the reason"  # as health has it
    said = said if phase is Phase.FAILED else f"the listener is {phase.value}"
    with pytest.raises(Unavailable, match=f"^{said}$"), gate.enter():
        pytest.fail("was let in")
    assert gate.inside == 0


async def test_a_request_gets_its_deadline() -> None:
    before = time.monotonic()
    with ready(timeout=60).enter() as permit:
        assert before + 60 <= permit.deadline <= time.monotonic() + 60


async def test_one_more_than_the_limit_is_refused_until_somebody_leaves() -> None:
    gate = ready(limit=2)
    with gate.enter():
        with gate.enter():
            assert gate.inside == 2
            said = r"^2 requests are being worked on already \(LISTENER_MAX_REQUESTS\)$"
            with pytest.raises(Overloaded, match=said), gate.enter():
                pytest.fail("was let in")
        with gate.enter():
            assert gate.inside == 2
    assert gate.inside == 0


async def test_a_request_that_fails_leaves_too() -> None:
    gate = ready()
    with pytest.raises(KeyError), gate.enter():
        raise KeyError
    assert gate.inside == 0


# Waiting for a permit


class Crowd:
    """Requests that stay until they are told to leave, in tasks of their own."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside = list[str]()
        self.ended = dict[str, Exception | None]()
        self._leave = dict[str, asyncio.Event]()
        self._tasks = dict[str, asyncio.Task[None]]()

    async def enter(self, name: str, asked: str | None = None, nbytes: int = 0, client: str = "") -> None:
        self._leave[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name, self.gate.enter(asked, nbytes, client)))
        await turns()

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await turns()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await turns()

    async def _stay(self, name: str, permit: Permit) -> None:
        try:
            async with permit:
                self.inside.append(name)
                await self._leave[name].wait()
        except ListenerError as error:
            self.ended[name] = error
        else:
            self.ended[name] = None
        finally:
            if name in self.inside:
                self.inside.remove(name)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_wait_come_in_by_their_deadlines() -> None:
    crowd = Crowd(ready(1, waiting=3))
    for name, asked in {"first": None, "late": "50", "later": None, "soon": "20"}.items():
        await crowd.enter(name, asked)
    assert (crowd.inside, crowd.gate.inside, crowd.gate.waiting) == (["first"], 1, 3)
    seen = []
    for _ in range(4):
        seen += crowd.inside
        await crowd.leave(crowd.inside[0])
    assert seen == ["first", "soon", "late", "later"]
    assert (crowd.ended, crowd.gate.inside) == (dict.fromkeys(seen), 0)


async def test_beyond_those_who_may_wait_one_more_is_refused() -> None:
    crowd = Crowd(ready(1, waiting=2))
    for name in ("in", "a", "b", "c"):
        await crowd.enter(name)
    said = "1 requests are being worked on already (LISTENER_MAX_REQUESTS), and 2 wait (LISTENER_QUEUE)"
    assert {name: str(error) for name, error in crowd.ended.items()} == {"c": said}
    assert type(crowd.ended["c"]) is Overloaded


async def test_a_client_that_leaves_gives_up_its_place_in_the_row() -> None:
    crowd = Crowd(ready(1, waiting=2))
    for name in ("in", "a", "b"):
        await crowd.enter(name)
    await crowd.cancel("a")
    assert crowd.gate.waiting == 1
    await crowd.enter("c")
    await crowd.leave("in")
    assert (crowd.inside, crowd.gate.waiting) == (["b"], 1)


async def test_one_that_leaves_as_its_turn_comes_gives_the_permit_on() -> None:
    """Both in the same turn of the loop, in either order."""
    for order in ("cancel first", "leave first"):
        crowd = Crowd(ready(1, waiting=2))
        for name in ("in", "a", "b"):
            await crowd.enter(name)
        if order == "cancel first":
            crowd._tasks["a"].cancel()
        crowd._leave["in"].set()
        if order == "leave first":
            await asyncio.sleep(0)  # "in" is woken, and gives its permit to "a", which is not yet awake
            crowd._tasks["a"].cancel()
        await turns()
        assert (crowd.inside, crowd.gate.inside, crowd.gate.waiting) == (["b"], 1, 0), order
        await crowd.leave("b")
        assert crowd.gate.inside == 0


async def test_whoever_waits_is_ended_at_its_deadline_and_makes_room() -> None:
    crowd = Crowd(ready(1, timeout=60, waiting=1))
    await crowd.enter("in")
    await crowd.enter("a", "0.05")
    await asyncio.sleep(0.2)
    assert [type(error) for error in crowd.ended.values()] == [DeadlineExceeded]
    await crowd.enter("b")
    assert crowd.gate.waiting == 1


async def test_what_cannot_be_done_in_time_is_not_begun() -> None:
    """Answers took 0.2 s of late; what has less than that when its turn comes is 504 at once."""
    crowd = Crowd(ready(1, waiting=3))
    for name in ("in", "next"):
        await crowd.enter(name)
    for _ in range(500):  # the least time is believed slowly
        crowd.gate._waiting.learn(0.2)
    await crowd.enter("short", "0.19")
    await crowd.enter("long", "30")
    begun = time.monotonic()
    await crowd.cancel("in")
    assert time.monotonic() - begun < 0.15
    assert {name: str(error) for name, error in crowd.ended.items()} == {
        "short": "the request's time would be up before its answer was there"
    }
    assert crowd.inside == ["long"]


async def test_the_hopeless_make_room_for_those_who_are_not() -> None:
    crowd = Crowd(ready(1, waiting=1))
    await crowd.enter("in")
    for _ in range(500):
        crowd.gate._waiting.learn(0.2)
    await crowd.enter("hopeless", "0.19")
    await crowd.enter("well")
    assert list(crowd.ended) == ["hopeless"]
    await crowd.leave("in")
    assert crowd.inside == ["well"]


async def test_time_in_the_row_is_a_part_of_the_requests_time() -> None:
    crowd, begin = Crowd(ready(1, timeout=9, waiting=1)), time.monotonic()
    await crowd.enter("in")
    await crowd.enter("a", "0.3")
    await asyncio.sleep(0.2)
    await crowd.leave("in")
    assert crowd.inside == ["a"]
    while not crowd.ended.get("a") and time.monotonic() < begin + 5:
        await asyncio.sleep(0.005)
    assert type(crowd.ended["a"]) is DeadlineExceeded
    assert 0.29 < time.monotonic() - begin < 0.48


# Bytes


async def test_bodies_are_counted_whole_and_the_first_in_the_row_keeps_its_place() -> None:
    crowd = Crowd(ready(10, waiting=3, nbytes=100))
    await crowd.enter("60", nbytes=60)
    await crowd.enter("50", nbytes=50)
    await crowd.enter("1", nbytes=1)  # there is room for it, but not before its turn
    assert (crowd.inside, crowd.gate.waiting) == (["60"], 2)
    await crowd.leave("60")
    assert crowd.inside == ["50", "1"]
    await crowd.enter("100", nbytes=100)
    await crowd.enter("49", nbytes=49)
    await crowd.leave("50")
    await crowd.leave("1")
    assert (crowd.inside, crowd.gate.waiting) == (["100"], 1)


async def test_too_many_bytes_are_said() -> None:
    crowd = Crowd(ready(10, nbytes=5 << 20))
    await crowd.enter("a", nbytes=5 << 20)
    await crowd.enter("b", nbytes=1)
    assert str(crowd.ended["b"]) == "requests of 5 MiB are being worked on already (LISTENER_MAX_BYTES)"


# Shares


async def test_one_route_leaves_room_for_the_others() -> None:
    gate = ready(4, route=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(gate.enter()).share("a")
        with (
            pytest.raises(Overloaded, match=r"^route 'a' has 3 requests here already \(LISTENER_ROUTE_SHARE\)$"),
            gate.enter() as permit,
        ):
            permit.share("a")
        with gate.enter() as permit:
            permit.share("b")
    assert (gate.inside, gate.routes.held("a"), gate.routes.held("b")) == (0, 0, 0)


async def test_one_client_leaves_room_for_the_others_and_does_not_wait_in_their_row() -> None:
    crowd = Crowd(ready(4, waiting=2, client=2))
    for name in ("1", "2", "3"):
        await crowd.enter(name, client="10.0.0.1")
    await crowd.enter("4", client="10.0.0.2")
    said = "the client '10.0.0.1' has 2 requests here already (LISTENER_CLIENT_SHARE)"
    assert {name: str(error) for name, error in crowd.ended.items()} == {"3": said}
    await crowd.leave("1")
    await crowd.enter("5", client="10.0.0.1")
    assert crowd.inside == ["2", "4", "5"]


async def test_a_share_comes_back_from_whoever_found_no_permit() -> None:
    gate = ready(2, client=1)
    with gate.enter(client="a"), gate.enter(client="b"):
        with pytest.raises(Overloaded, match="requests"), gate.enter(client="c"):
            pytest.fail("was let in")
        assert gate._clients.held("c") == 0
    assert gate._clients.held("a") == 0


# Drain


async def test_those_who_wait_are_let_in_during_a_drain_and_nobody_else_is() -> None:
    crowd = Crowd(ready(1, waiting=1))
    await crowd.enter("in")
    await crowd.enter("a")
    draining = asyncio.create_task(crowd.gate.drain(60))
    await turns()
    await crowd.enter("new")
    assert isinstance(crowd.ended["new"], Unavailable)
    await crowd.leave("in")
    assert (crowd.inside, draining.done()) == (["a"], False)
    await crowd.leave("a")
    assert await draining is True


async def test_a_drain_that_is_over_ends_those_who_wait_as_well() -> None:
    crowd = Crowd(ready(1, waiting=1))
    await crowd.enter("in")
    await crowd.enter("a")
    assert await crowd.gate.drain(0.01) is False
    assert crowd.gate.cut_off() == 2
    await turns()
    assert [type(error) for error in crowd.ended.values()] == [Unavailable, Unavailable]
    assert (crowd.gate.inside, crowd.gate.waiting) == (0, 0)


@pytest.mark.parametrize("patience", [0, 0.01, 60], ids=str)
async def test_an_empty_gate_is_drained_at_once(patience: float) -> None:
    gate = ready()
    async with asyncio.timeout(5):
        assert await gate.drain(patience) is True
    assert gate.phase is Phase.DRAINING


@pytest.mark.parametrize("patience", [0, 0.01], ids=str)
async def test_a_drain_gives_up_when_patience_is_over(patience: float) -> None:
    gate = ready()
    with gate.enter():
        assert await gate.drain(patience) is False
        assert gate.inside == 1


async def test_a_drain_waits_for_the_last_one_and_lets_nobody_in() -> None:
    gate = ready()
    leave = asyncio.Event()

    async def request() -> None:
        with gate.enter():
            await leave.wait()

    requests = [asyncio.create_task(request()) for _ in range(2)]
    await asyncio.sleep(0)
    draining = asyncio.create_task(gate.drain(60))
    await asyncio.sleep(0)
    assert (gate.inside, draining.done()) == (2, False)
    with pytest.raises(Unavailable, match="draining"), gate.enter():
        pytest.fail("was let in")
    leave.set()
    async with asyncio.timeout(5):
        assert await draining is True
    await asyncio.gather(*requests)


# A request that asks for less time


async def test_a_request_may_have_less_time_and_no_more() -> None:
    gate, before = ready(timeout=60), time.monotonic()
    with gate.enter("0.5") as less, gate.enter("1e9") as more:
        assert 0.5 <= less.deadline - before < 5
        assert 60 <= more.deadline - before < 65


async def test_it_is_ended_then_and_the_others_are_not() -> None:
    gate, begin, ended = ready(limit=4, timeout=0.5), time.monotonic(), dict[str, float]()

    async def request(name: str, asked: str | None) -> None:
        with pytest.raises(DeadlineExceeded) as caught, gate.enter(asked):
            await asyncio.sleep(9)
        ended[f"{name}: {caught.value.message}"] = time.monotonic() - begin

    await asyncio.gather(request("before", None), request("less", "0.1"), request("more", "7"))
    assert list(ended) == [
        "less: the request's time is up (X-Request-Timeout)",
        "before: the request's time is up (LISTENER_TIMEOUT)",
        "more: the request's time is up (LISTENER_TIMEOUT)",
    ]
    least = (0.1, 0.5, 0.5)
    assert [seconds for seconds, low in zip(ended.values(), least, strict=True) if not low - 0.01 < seconds < 5] == []
    assert gate.inside == 0


async def test_whoever_left_in_time_is_not_ended_afterwards() -> None:
    gate = ready()
    with gate.enter("0.05"):
        pass
    await asyncio.sleep(0.1)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_less_time_counts_for_each_piece_anew() -> None:
    gate, pieces = ready(), 0
    with pytest.raises(DeadlineExceeded):
        permit = gate.enter("0.2")
        with permit:
            for _ in range(8):
                await asyncio.sleep(0.06)
                permit.renew()
                pieces += 1
            await asyncio.sleep(9)
    assert pieces == 8


@pytest.mark.parametrize("asked", ["", "0", "-1", "nan", "inf", "ten", "1 s", "1,2", "0x1"])
async def test_what_is_no_time_is_the_callers_fault(asked: str) -> None:
    with pytest.raises(BadRequest, match=r"^X-Request-Timeout: '.*' is not a number of seconds above 0$"):
        ready().enter(asked)


# A request whose answer comes in pieces


async def test_a_request_has_its_time_for_each_piece_anew() -> None:
    """It lives longer than the timeout as long as pieces come, and is ended when none do."""
    gate, pieces = ready(timeout=0.2), 0
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"^the request's time is up \(LISTENER_TIMEOUT\)$"):
        permit = gate.enter()
        with permit:
            for _ in range(8):
                await asyncio.sleep(0.06)
                permit.renew()
                pieces += 1
                assert permit.deadline == pytest.approx(time.monotonic() + 0.2, abs=0.05)
            await asyncio.sleep(9)
    assert (pieces, gate.inside) == (8, 0)
    assert 0.6 < time.monotonic() - begin < 3


async def test_one_that_is_renewed_holds_up_nobody_elses_end() -> None:
    """All have the same time, so they stand in the order of their deadlines; who is renewed goes to the end."""
    gate, ended = ready(limit=3, timeout=0.2), list[str]()

    async def request(name: str, renewals: int) -> None:
        permit = gate.enter()
        try:
            with permit:
                for _ in range(renewals):
                    await asyncio.sleep(0.1)
                    permit.renew()
                await asyncio.sleep(9)
        except DeadlineExceeded:
            ended.append(name)

    async with asyncio.timeout(5):
        await asyncio.gather(request("streaming", 4), request("once", 1), request("stalled", 0))
    assert ended == ["stalled", "once", "streaming"]


@pytest.mark.parametrize("timeout", [0.05, 60])
async def test_what_was_ended_is_not_renewed(timeout: float) -> None:
    """Whoever makes the pieces may not have heeded the cancellation."""
    gate = ready(timeout=timeout)
    permit = gate.enter()
    with pytest.raises(ListenerError) as caught, permit:
        if timeout > 1:
            asyncio.get_running_loop().call_later(0.02, gate.cut_off)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
        permit.renew()
    assert type(caught.value) is (Unavailable if timeout > 1 else DeadlineExceeded)
    assert gate.inside == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_drain_waits_for_one_that_goes_on_and_cuts_it_off() -> None:
    gate, pieces = ready(timeout=0.3), 0

    async def stream() -> None:
        nonlocal pieces
        permit = gate.enter()
        with permit:
            while True:
                await asyncio.sleep(0.01)
                permit.renew()
                pieces += 1

    streaming = asyncio.create_task(stream())
    await asyncio.sleep(0)
    assert await gate.drain(0.5) is False
    assert pieces > 5
    assert gate.cut_off() == 1
    with pytest.raises(Unavailable, match=r"^the listener stopped before the answer was there$"):
        await streaming
    assert gate.inside == 0


@given(st.lists(st.tuples(st.sampled_from(["enter", "renew", "leave", "wait"]), st.integers(0, 4)), max_size=25))
def test_deadlines_stand_in_their_order(steps: list[tuple[str, int]]) -> None:
    """The one timer is that of the first, so none may be before it."""

    async def run() -> None:
        gate, permits = ready(limit=5), list[Permit]()
        for what, number in steps:
            if what == "enter" and gate.inside < 5:
                permits.append(gate.enter())
                permits[-1].__enter__()
            elif what == "wait":
                await asyncio.sleep(0)
            elif permits:
                permit = permits[number % len(permits)]
                if what == "renew":
                    permit.renew()
                else:
                    permits.remove(permit)
                    permit.__exit__(None, None, None)
            deadlines = [permit.deadline for permit in gate._permits]
            assert deadlines == sorted(deadlines)
            assert set(gate._permits) == set(permits)

    asyncio.run(run())
