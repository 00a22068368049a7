"""Phase, permits, deadline, drain."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import DeadlineExceeded, ListenerError, Overloaded, Unavailable
from listener.gate import Gate, Permit, Phase


def ready(limit: int = 2, timeout: float = 60.0) -> Gate:
    gate = Gate(limit, timeout)
    gate.phase = Phase.READY
    return gate


async def test_a_gate_starts_closed() -> None:
    assert Gate(1, 1).phase is Phase.STARTING


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY], ids=lambda phase: phase.value)
async def test_only_a_ready_gate_lets_in(phase: Phase) -> None:
    gate = Gate(1, 1)
    gate.phase = phase
    said = "the service cannot be served; the log has the reason"  # as health has it
    said = said if phase is Phase.FAILED else f"the listener is {phase.value}"
    with pytest.raises(Unavailable, match=f"^{said}$"), gate.enter():
        pytest.fail("was let in")
    assert gate.inside == 0


async def test_a_request_gets_its_deadline() -> None:
    before = time.monotonic()
    with ready(timeout=60).enter() as deadline:
        assert before + 60 <= deadline <= time.monotonic() + 60


async def test_one_more_than_the_limit_is_refused_until_somebody_leaves() -> None:
    gate = ready(limit=2)
    with gate.enter():
        with gate.enter():
            assert gate.inside == 2
            with pytest.raises(Overloaded, match=r"^2 requests are being worked on already$"), gate.enter():
                pytest.fail("was let in")
        with gate.enter():
            assert gate.inside == 2
    assert gate.inside == 0


async def test_a_request_that_fails_leaves_too() -> None:
    gate = ready()
    with pytest.raises(KeyError), gate.enter():
        raise KeyError
    assert gate.inside == 0


# Drain


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
