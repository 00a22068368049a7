"""Phase, permits, deadline, drain."""

from __future__ import annotations

import asyncio
import time

import pytest

from listener.errors import Overloaded, Unavailable
from listener.gate import Gate, Phase


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
    with pytest.raises(Unavailable, match=f"^the listener is {phase.value}$"), gate.enter():
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
