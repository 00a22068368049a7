"""As test_faults.py, for what the client does not do by itself: damaged bytes, waits that are asked for, continuing."""

from __future__ import annotations

import random
import time

import pytest

from tests.artifacts.faults import Close, Fault, Flip, Reset, Short, Slow, Stall, Status
from tests.artifacts.fetching import BIG, Place, require, require_whole_or_told
from tests.artifacts.starter import REAL, Pace
from tests.artifacts.test_faults import AGAIN, ONE, PACES, SHORT, SMALL, SOON, WANTED, whole


@pytest.mark.parametrize("of", [BIG, ONE])
@pytest.mark.parametrize("fault", [Reset(), Close(), Short()], ids=repr)
def test_damage_in_what_continues_an_object_is_found(place: Place, fault: Fault, of: str) -> None:
    """Protection: the checksum is that of the whole object, however many answers it came in."""
    place.proxy.inject(fault, of, nth={1})
    place.proxy.inject(Flip(), of, nth={2})
    require_whole_or_told(place.fetch(), WANTED, "checksum", AGAIN)
    whole(place)


@pytest.mark.parametrize("of", [BIG, ONE])
def test_bytes_that_are_damaged_once_are_fetched_again(place: Place, of: str) -> None:
    """Protection: a wrong checksum is a fault that passes, once."""
    place.proxy.inject(Flip(), of, nth={1})
    require(place.fetch(), WANTED)


def test_bytes_that_are_always_damaged_are_not_fetched_for_ever(place: Place) -> None:
    """Protection: a wrong checksum is a fault that passes only a few times."""
    place.proxy.inject(Flip(), BIG)
    assert "checksum" in place.fetch(SOON).sentence
    assert len(place.proxy.reads(BIG)) == 3


def test_bodies_that_are_too_short_several_times_in_a_row(place: Place) -> None:
    """Protection: lengths are checked each time, and patience begins anew with each step forward."""
    place.proxy.inject(Short(), BIG, nth=range(1, 9))
    place.proxy.inject(Short(), ONE, nth=range(1, 4))
    require(place.fetch(), WANTED)


@pytest.mark.parametrize("fault", [Reset(), Close()], ids=repr)
def test_a_connection_that_is_lost_several_times_in_a_row(place: Place, fault: Fault) -> None:
    """Protection: what moves on is not given up. Without progress, six waits are more than this patience.

    A reset takes with it what was not read yet, so some of them bring nothing.
    """
    place.proxy.inject(fault, BIG, nth=range(1, 9))
    require(place.fetch(pace=Pace(shorter=1, patience=6)), WANTED)


@pytest.mark.parametrize("of", [BIG, ONE])
def test_the_wait_that_a_429_asks_for_is_kept(place: Place, of: str) -> None:
    """Protection: Retry-After is heard. Without that, the first repetition comes after a fifth of a second."""
    place.proxy.inject(Status(429, retry_after=2), of, nth={1})
    require(place.fetch(), WANTED)
    refused = place.proxy.reads(of)[0]
    again = [seen for seen in place.proxy.reads(of)[1:] if seen.span == refused.span or refused.span is None]
    assert again[0].came - refused.came >= 2


def test_a_wait_of_an_hour_is_not_kept(place: Place) -> None:
    """Protection: what a server asks for does not go beyond our own patience."""
    place.proxy.inject(Status(429, retry_after=3600), ONE, nth={1})
    require(place.fetch(SOON, SHORT), WANTED)


@PACES
def test_what_a_killed_process_has_fetched_is_not_fetched_again(place: Place, pace: Pace) -> None:
    """Protection: what is whole is taken over, and of the big object all but less than a part."""
    size = len(WANTED[BIG])
    place.proxy.inject(Stall(60, at=0.9), BIG)
    with place.started(pace) as process:
        end = time.monotonic() + 30
        while not (place.proxy.sent(BIG) > 0.85 * size and place.proxy.sent(SMALL) == _bytes_of_small()):
            assert process.is_running and time.monotonic() < end, place.log.read_text()
            time.sleep(0.05)
        time.sleep(0.5)  # for what is sent to be written
        process.kill()
    assert place.published() == []
    whole(place)
    assert [seen.name for seen in place.proxy.reads(SMALL) if seen.nth > 1] == []
    assert place.proxy.sent(BIG) < 1.8 * size


def test_killed_at_any_moment(place: Place) -> None:
    """Protection: nothing has its name before it is whole. At this speed it takes longer than all lives together."""
    moments = random.Random(6)
    place.proxy.inject(Slow(1e6), BIG)
    for _ in range(20):
        with place.started() as process:
            time.sleep(moments.uniform(0.02, 0.4))
            assert process.is_running
            process.kill()
        assert place.published() == []
    whole(place)


@pytest.mark.long
def test_a_connection_that_dies_without_a_word_is_replaced(place: Place) -> None:
    """Protection: reads have a time limit, and are repeated after it."""
    place.proxy.inject(Stall(600), BIG, nth={1})
    require(place.fetch(240, REAL), WANTED)


def test_a_connection_that_dies_without_a_word_is_replaced_sooner(place: Place) -> None:
    """Protection: as before, for a limit that is shorter."""
    place.proxy.inject(Stall(600), BIG, nth={1})
    require(place.fetch(SOON, Pace(silence=0.5)), WANTED)


def test_two_processes_fetch_a_place_once(place: Place) -> None:
    """Protection: the lock."""
    with place.started() as one, place.started() as other:
        assert [process.wait(30) for process in (one, other)] == [0, 0]
        said = one.said(), other.said()
    assert said[0] == said[1]
    assert {seen.nth for seen in place.proxy.reads()} == {1}
    assert len(place.published()) == 1


def _bytes_of_small() -> int:
    return _all_bytes() - len(WANTED[BIG])


def _all_bytes() -> int:
    return sum(len(content) for content in WANTED.values())
