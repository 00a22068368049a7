"""As test_faults.py, for what the client does not do by itself: damaged bytes, waits that are asked for, continuing."""

from __future__ import annotations

import random
import time

import pytest

from tests.artifacts.faults import Close, Fault, Flip, Reset, Short, Stall, Status
from tests.artifacts.fetching import BIG, Place, require, require_whole_or_told
from tests.artifacts.test_faults import AGAIN, ONE, SMALL, WANTED, whole


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
    assert "checksum" in place.fetch().sentence
    assert place.proxy.sent(BIG) <= 5 * len(WANTED[BIG])


def test_bodies_that_are_too_short_several_times_in_a_row(place: Place) -> None:
    """Protection: lengths are checked each time."""
    place.proxy.inject(Short(), BIG, nth=range(1, 9))
    place.proxy.inject(Short(), ONE, nth=range(1, 4))
    require_whole_or_told(place.fetch(bound=100), WANTED, "start again")
    whole(place)


@pytest.mark.parametrize("fault", [Reset(), Close()], ids=repr)
def test_a_connection_that_is_lost_several_times_in_a_row(place: Place, fault: Fault) -> None:
    """Protection: what moves on is not given up."""
    place.proxy.inject(fault, BIG, nth=range(1, 9))
    place.proxy.inject(fault, ONE, nth=range(1, 4))
    require(place.fetch(bound=100), WANTED)


@pytest.mark.parametrize("of", [BIG, ONE])
def test_the_wait_that_a_429_asks_for_is_kept(place: Place, of: str) -> None:
    """Protection: Retry-After is heard. Without that, the first repetition comes after a second or less."""
    place.proxy.inject(Status(429, retry_after=3), of, nth={1})
    require(place.fetch(), WANTED)
    refused = place.proxy.reads(of)[0]
    again = [seen for seen in place.proxy.reads(of)[1:] if seen.span == refused.span or refused.span is None]
    assert again[0].came - refused.came >= 3


def test_a_wait_of_an_hour_is_not_kept(place: Place) -> None:
    """Protection: what a server asks for does not go beyond our own patience."""
    place.proxy.inject(Status(429, retry_after=3600), ONE, nth={1})
    require_whole_or_told(place.fetch(bound=120), WANTED, "cannot be fetched", "429")


def test_what_a_killed_process_has_fetched_is_not_fetched_again(place: Place) -> None:
    """Protection: what is whole is taken over, and of the big object all but less than a part."""
    place.proxy.inject(Stall(60, at=0.9), BIG, nth={1})
    size = len(WANTED[BIG])
    with place.started() as (process, _, log):
        end = time.monotonic() + 30
        while not (place.proxy.sent(BIG) > 0.85 * size and place.proxy.sent(SMALL) == _bytes_of_small()):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        time.sleep(0.5)  # for what is sent to be written
        process.kill()
        process.wait(10)
    assert place.published() == []
    whole(place)
    assert [seen.name for seen in place.proxy.reads(SMALL) if seen.nth > 1] == []
    assert place.proxy.sent(BIG) < 1.8 * size


@pytest.mark.long
def test_killed_at_any_moment(place: Place) -> None:
    """Protection: nothing has its name before it is whole; what is taken over from before is checked."""
    moments = random.Random(6)
    place.proxy.inject(Stall(0.5), share=0.3, seed=6)
    for _ in range(20):
        with place.started() as (process, _, _):
            time.sleep(moments.uniform(0.3, 2.5))
            process.kill()
            process.wait(10)
        for folder in place.published():
            assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) == _all_bytes()
    whole(place)


@pytest.mark.long
def test_a_connection_that_dies_without_a_word_is_replaced(place: Place) -> None:
    """Protection: reads have a time limit, and are repeated after it."""
    place.proxy.inject(Stall(600), BIG, nth={1})
    require(place.fetch(bound=240), WANTED)


def _bytes_of_small() -> int:
    return _all_bytes() - len(WANTED[BIG])


def _all_bytes() -> int:
    return sum(len(content) for content in WANTED.values())
