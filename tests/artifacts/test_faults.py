"""What goes wrong with Cloud Storage: the result is a complete repository with the right bytes, or one sentence.

The real process with Google's real client, through a proxy that fails (faults.py). Each test says which protection it
tests: without that, it must fail. Each fetch has to end within BOUND seconds, without a trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Close, Fault, Flip, Proxy, Replace, Reset, Short, Stall, Status, Wait
from tests.artifacts.fetching import BIG, Outcome, Place, repository, require, require_whole_or_told

WANTED = dict(repository())
SMALL = "models/small-*"
ONE = "models/small-3/1/model.onnx"
#: Reads that an object of 40 MB begins with at most, side by side.
_PARTS = 16
AGAIN = "while it was fetched; start again"


def whole(place: Place) -> None:
    """Nothing goes wrong any more: the same store gets the whole repository."""
    place.proxy.heal()
    require(place.fetch(), WANTED)


def require_not_mixed(place: Place, outcome: Outcome, replaced: str, new: bytes) -> None:
    """Nothing was published, or the new state: that of a listing which came after the object was replaced."""
    require_whole_or_told(outcome, WANTED | {replaced: new}, AGAIN)
    if outcome.folder:
        assert place.proxy.listings()[-1].came > place.proxy.reads(replaced)[0].came


# Nothing is wrong


def test_each_byte_is_fetched_once(place: Place) -> None:
    """Protection: the spans of an object that are asked for cover it, without overlap."""
    require(place.fetch(), WANTED)
    for name, content in WANTED.items():
        spans = sorted(seen.span or (0, len(content)) for seen in place.proxy.reads(name))
        ends = [0, *(end for _, end in spans)]
        assert [begin for begin, _ in spans] == ends[:-1]
        assert (ends[-1], place.proxy.sent(name)) == (len(content), len(content))


def test_a_listing_of_several_pages(emulator: Emulator, proxy: Proxy, tmp_path: Path) -> None:
    """Protection: pages are followed to the last one."""
    objects = {f"models/m-{number}/1/model.onnx": str(number).encode() for number in range(230)}
    emulator.put("faults-pages", dict(objects))
    require(Place(proxy, "faults-pages", tmp_path / "artifacts").fetch(), objects)
    assert len(proxy.listings()) == 3


# It goes on by itself


@pytest.mark.parametrize("of", [BIG, SMALL])
def test_answers_that_come_late(place: Place, of: str) -> None:
    """Protection: an answer may take its time; nobody gives up or asks again after a second or two."""
    place.proxy.inject(Wait(2), of)
    place.proxy.inject(Wait(2), listing=True)
    require(place.fetch(), WANTED)
    assert all(seen.nth == 1 for seen in place.proxy.reads(SMALL))


@pytest.mark.parametrize(
    "fault", [Status(408), Status(429), Status(429, retry_after=1), *map(Status, [500, 502, 503, 504])], ids=repr
)
def test_an_error_that_passes(place: Place, fault: Fault) -> None:
    """Protection: these statuses are asked again, for reads and for listings."""
    place.proxy.inject(fault, nth={1})
    place.proxy.inject(fault, nth={1}, listing=True)
    require(place.fetch(), WANTED)
    assert {seen.nth for seen in place.proxy.reads(SMALL)} == {1, 2}
    assert [seen.status for seen in place.proxy.listings()] == [getattr(fault, "code", None), 200]


@pytest.mark.parametrize("fault", [Reset(at=0.9), Close(at=0.9), Short(at=0.9)], ids=repr)
def test_a_big_body_that_ends_too_early_is_continued(place: Place, fault: Fault) -> None:
    """Protection: connection loss is retried, lengths are checked, and what has arrived is not fetched again."""
    place.proxy.inject(fault, BIG, nth={1})
    require(place.fetch(), WANTED)
    assert place.proxy.sent(BIG) < 1.8 * len(WANTED[BIG])


@pytest.mark.parametrize("at", [0.0, 0.5])
@pytest.mark.parametrize("kind", [Reset, Close, Short])
def test_small_bodies_that_end_too_early(place: Place, kind: Callable[[float], Fault], at: float) -> None:
    """Protection: connection loss is retried and lengths are checked, for an empty object too."""
    place.proxy.inject(kind(at), SMALL, nth={1})
    require(place.fetch(), WANTED)


@pytest.mark.parametrize("fault", [Reset(), Close()], ids=repr)
def test_a_listing_that_ends_too_early(place: Place, fault: Fault) -> None:
    """Protection: a listing is asked again where its connection was lost."""
    place.proxy.inject(fault, nth={1}, listing=True)
    require(place.fetch(), WANTED)


def test_half_a_listing_never_becomes_half_a_repository(place: Place) -> None:
    """Protection: a listing has to be whole JSON."""
    place.proxy.inject(Short(), nth={1}, listing=True)
    require_whole_or_told(place.fetch(), WANTED, "cannot be fetched")


# It cannot go on: a sentence


@pytest.mark.parametrize("of", [BIG, ONE])
def test_bytes_that_are_always_damaged(place: Place, of: str) -> None:
    """Protection: the checksum. The next start, when all is well again, begins from nothing that is damaged."""
    place.proxy.inject(Flip(), of)
    outcome = place.fetch()
    assert outcome.folder is None
    assert "checksum" in outcome.sentence
    whole(place)


@pytest.mark.parametrize("of", [BIG, ONE])
def test_bytes_that_are_damaged_once(place: Place, of: str) -> None:
    """Protection: the checksum."""
    place.proxy.inject(Flip(0.3), of, nth={1})
    require_whole_or_told(place.fetch(), WANTED, "checksum")
    whole(place)


@pytest.mark.parametrize("of", [BIG, ONE])
def test_bodies_that_are_always_too_short(place: Place, of: str) -> None:
    """Protection: the size is held against the listed one."""
    place.proxy.inject(Short(), of)
    outcome = place.fetch(bound=100)
    require_whole_or_told(outcome, WANTED, "start again", "cannot be fetched", "checksum")
    whole(place)


@pytest.mark.parametrize(("of", "longer"), [(BIG, 0), (BIG, 5), (ONE, 0), (ONE, -5)])
def test_an_object_is_replaced_between_listing_and_reading(own: Place, of: str, longer: int) -> None:
    """Protection: reads are pinned to the generation that was listed. Without that, two states would be mixed."""
    new = random.Random(9).randbytes(len(WANTED[of]) + longer)
    own.proxy.inject(Replace(new), of, nth={1})
    require_not_mixed(own, own.fetch(), of, new)
    own.proxy.heal()
    require(own.fetch(), WANTED | {of: new})


@pytest.mark.parametrize("fault", [Reset(), Close(), Short()], ids=repr)
def test_an_object_is_replaced_while_it_is_read(own: Place, fault: Fault) -> None:
    """Protection: what continues an object is pinned to the generation as well. The new one has the same size."""
    new = random.Random(9).randbytes(len(WANTED[BIG]))
    own.proxy.inject(fault, BIG, nth={1})
    own.proxy.inject(Replace(new), BIG, nth={2})
    require_not_mixed(own, own.fetch(), BIG, new)


@pytest.mark.parametrize("code", [401, 403])
def test_no_permission_to_list(place: Place, code: int) -> None:
    """Protection: the status has a sentence, and is not asked again for a minute."""
    place.proxy.inject(Status(code), listing=True)
    outcome = place.fetch(bound=30)
    assert "may not be read without credentials, and there are none; run with a service account" in outcome.sentence
    assert len(place.proxy.listings()) <= 3
    assert place.proxy.reads() == []


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("of", [BIG, ONE])
def test_no_permission_to_read_one_object(place: Place, of: str, code: int) -> None:
    """Protection: one object that cannot be read publishes none; the status has a sentence and is not asked again."""
    place.proxy.inject(Status(code), of)
    outcome = place.fetch(bound=30)
    assert "may not be read without credentials, and there are none; run with a service account" in outcome.sentence
    assert max(seen.nth for seen in place.proxy.reads(of)) <= 3 * _PARTS
    whole(place)


def test_no_such_bucket(proxy: Proxy, tmp_path: Path) -> None:
    """Protection: the status has a sentence of its own for a listing."""
    outcome = Place(proxy, "faults-nowhere", tmp_path / "artifacts").fetch(bound=30)
    assert outcome.sentence == ("gs://faults-nowhere/models/: there is no bucket 'faults-nowhere'; check the name")
    assert len(proxy.listings()) == 1


def test_a_bucket_that_goes_while_it_is_read(place: Place) -> None:
    """Protection: the status has a sentence of its own for an object."""
    place.proxy.inject(Status(404), ONE)
    assert AGAIN in place.fetch(bound=30).sentence


@pytest.mark.parametrize("code", [400, 418])
def test_a_status_that_nobody_expects(place: Place, code: int) -> None:
    """Protection: what is not known to pass is not repeated, and has a sentence."""
    place.proxy.inject(Status(code), ONE)
    outcome = place.fetch(bound=30)
    assert "cannot be fetched" in outcome.sentence
    assert len(place.proxy.reads(ONE)) == 1


# Everything at once


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_day(place: Place, seed: int) -> None:
    """Protection: all of them; what goes wrong one time in five, in each way, mends itself or is told."""
    mended: list[Fault] = [Wait(0.2), Status(503), Status(408), Status(429, retry_after=1), Reset(0.7), Close(0.3)]
    for number, fault in enumerate(mended):
        place.proxy.inject(fault, share=0.2, seed=10 * seed + number)
    require_whole_or_told(place.fetch(bound=120), WANTED, "cannot be fetched", "start again")
    whole(place)


@pytest.mark.parametrize("seed", range(4))
def test_a_very_bad_day(place: Place, seed: int) -> None:
    """Protection: the checksum and the size, whatever they are mixed with."""
    damaged: list[Fault] = [Flip(0.2), Short(0.6), Status(503), Stall(0.3)]
    for number, fault in enumerate(damaged):
        place.proxy.inject(fault, share=0.15, seed=10 * seed + number)
    require_whole_or_told(place.fetch(bound=120), WANTED, "cannot be fetched", "start again", "checksum")
    whole(place)


# It lasts


@pytest.mark.long
@pytest.mark.parametrize("listing", [False, True])
def test_what_stays_unavailable_is_told_in_the_end(place: Place, listing: bool) -> None:
    """Protection: repeating ends after some patience, a minute."""
    place.proxy.inject(Status(503), listing=listing)
    outcome = place.fetch(bound=120)
    assert "cannot be fetched" in outcome.sentence
    assert "503" in outcome.sentence
    assert len(place.proxy.seen) < 300  # with a wait in between that grows


@pytest.mark.long
def test_a_connection_that_dies_without_a_word(place: Place) -> None:
    """Protection: reads have a time limit."""
    place.proxy.inject(Stall(600), BIG)
    assert "cannot be fetched" in place.fetch(bound=240).sentence
