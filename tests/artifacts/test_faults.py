"""What goes wrong with Cloud Storage: the result is a complete repository with the right bytes, or one sentence.

The real process with Google's real client, through a proxy that fails (faults.py). Each test says which protection it
tests: without that, it must fail, as `python -m tests.artifacts.protections` shows. Each fetch has to end within BOUND
seconds, without a trace.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Close, Fault, Flip, Proxy, Replace, Reset, Short, Stall, Status, Wait
from tests.artifacts.fetching import BIG, PACE, Place, repository, require, require_whole_or_told
from tests.artifacts.starter import REAL, Pace

WANTED = dict(repository())
SMALL = "models/small-*"
ONE = "models/small-3/1/model.onnx"
#: The big object comes in several parts.
PARTS = Pace(part=4 << 20)
PACES = pytest.mark.parametrize("pace", [PACE, PARTS], ids=["whole", "parts"])
#: Patience ends soon: it lasts this long, and no fetch longer than that.
SHORT, SOON = Pace(patience=2), 15.0
AGAIN = "while it was fetched; start again"
NOBODY = "may not be read without credentials, and there are none; run with a service account"


def whole(place: Place) -> None:
    """Nothing goes wrong any more: the same store gets the whole repository."""
    place.proxy.heal()
    require(place.fetch(), WANTED)


# Nothing is wrong


@PACES
def test_each_byte_is_fetched_once(place: Place, pace: Pace) -> None:
    """Protection: the spans of an object that are asked for cover it, without overlap."""
    require(place.fetch(pace=pace), WANTED)
    assert (len(place.proxy.reads(BIG)) > 1) is (pace is PARTS)
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


@pytest.mark.parametrize("of", [BIG, "models/small-[0-2]*"])
def test_answers_that_come_late(place: Place, of: str) -> None:
    """Protection: an answer may take its time; nobody gives up or asks again after a second or two."""
    place.proxy.inject(Wait(2), of)
    place.proxy.inject(Wait(2), listing=True)
    require(place.fetch(pace=Pace(patience=5)), WANTED)
    assert all(seen.nth == 1 for seen in place.proxy.seen)


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


@PACES
@pytest.mark.parametrize("fault", [Reset(at=0.9), Close(at=0.9), Short(at=0.9)], ids=repr)
def test_a_big_body_that_ends_too_early_is_continued(place: Place, fault: Fault, pace: Pace) -> None:
    """Protection: connection loss is retried, lengths are checked, and what has arrived is not fetched again."""
    place.proxy.inject(fault, BIG, nth={1} if pace is PACE else {1, 2, 3, 4})
    require(place.fetch(pace=pace), WANTED)
    assert place.proxy.sent(BIG) < 1.8 * len(WANTED[BIG])


@pytest.mark.parametrize("at", [0.0, 0.5])
@pytest.mark.parametrize("kind", [Reset, Close, Short])
def test_small_bodies_that_end_too_early(place: Place, kind: Callable[[float], Fault], at: float) -> None:
    """Protection: connection loss is retried and lengths are checked, where not a byte came as well."""
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
    """Protection: the length that an answer names is held against the listed size; and patience ends."""
    place.proxy.inject(Short(), of)
    assert "an answer came that is shorter than the object" in place.fetch(SOON, SHORT).sentence
    whole(place)


@pytest.mark.parametrize(("of", "longer"), [(BIG, 0), (BIG, 5), (ONE, 0), (ONE, -5)])
def test_an_object_is_replaced_between_listing_and_reading(own: Place, of: str, longer: int) -> None:
    """Protection: reads are pinned to the generation that was listed, and begin anew with another listing."""
    new = random.Random(9).randbytes(len(WANTED[of]) + longer)
    own.proxy.inject(Replace(new), of, nth={1})
    require(own.fetch(), WANTED | {of: new})
    assert len(own.proxy.listings()) == 2


@PACES
@pytest.mark.parametrize("fault", [Reset(), Close(), Short()], ids=repr)
def test_an_object_is_replaced_while_it_is_read(own: Place, fault: Fault, pace: Pace) -> None:
    """Protection: what continues an object is pinned to the generation as well. The new one has the same size."""
    new, begun = random.Random(9).randbytes(len(WANTED[BIG])), 4 if pace is PARTS else 1
    own.proxy.inject(fault, BIG, nth=range(1, begun + 1))
    own.proxy.inject(Replace(new), BIG, nth={begun + 1})
    require(own.fetch(pace=pace), WANTED | {BIG: new})
    assert len(own.proxy.listings()) == 2


@pytest.mark.parametrize("pace", [PACE, PARTS], ids=["whole", "parts"])
def test_each_read_asks_for_the_generation_that_was_listed(place: Place, pace: Pace) -> None:
    """Protection: an older generation is named, so that the newest does not come where both are kept."""
    place.proxy.inject(Close(), BIG, nth={1})
    require(place.fetch(pace=pace), WANTED)
    assert all(seen.generation for seen in place.proxy.reads())
    assert len({seen.generation for seen in place.proxy.reads(BIG)}) == 1


@pytest.mark.parametrize("code", [401, 403])
def test_no_permission_to_list(place: Place, code: int) -> None:
    """Protection: the status has a sentence, and is not asked again for a minute."""
    place.proxy.inject(Status(code), listing=True)
    assert NOBODY in place.fetch(SOON, SHORT).sentence
    assert len(place.proxy.listings()) == 1
    assert place.proxy.reads() == []


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("of", [BIG, ONE])
def test_no_permission_to_read_one_object(place: Place, of: str, code: int) -> None:
    """Protection: one object that cannot be read publishes none; the status has a sentence and is not asked again."""
    place.proxy.inject(Status(code), of)
    assert NOBODY in place.fetch(SOON, SHORT).sentence
    assert len(place.proxy.reads(of)) == 1
    whole(place)


def test_no_such_bucket(proxy: Proxy, tmp_path: Path) -> None:
    """Protection: the status has a sentence of its own for a listing."""
    outcome = Place(proxy, "faults-nowhere", tmp_path / "artifacts").fetch(bound=30)
    assert outcome.sentence == ("gs://faults-nowhere/models/: there is no bucket 'faults-nowhere'; check the name")
    assert len(proxy.listings()) == 1


def test_a_bucket_that_goes_while_it_is_read(place: Place) -> None:
    """Protection: the status means another state for an object, and that is not looked for again without end."""
    place.proxy.inject(Status(404), ONE)
    assert AGAIN in place.fetch(SOON).sentence
    assert len(place.proxy.listings()) == 3


@pytest.mark.parametrize("code", [400, 418])
def test_a_status_that_nobody_expects(place: Place, code: int) -> None:
    """Protection: what is not known to pass is not repeated, and has a sentence."""
    place.proxy.inject(Status(code), ONE)
    assert "cannot be fetched" in place.fetch(SOON, SHORT).sentence
    assert len(place.proxy.reads(ONE)) == 1


# Everything at once


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_day(place: Place, seed: int) -> None:
    """Protection: all of them; what goes wrong one time in five, in each way, mends itself."""
    mended: list[Fault] = [Wait(0.2), Status(503), Status(408), Status(429, retry_after=1), Reset(0.7), Close(0.3)]
    for number, fault in enumerate(mended):
        place.proxy.inject(fault, share=0.2, seed=10 * seed + number)
    require(place.fetch(bound=120), WANTED)


@pytest.mark.parametrize("seed", range(1, 5))
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
    """Protection: repeating ends after a minute; for Google's client sooner, where a wait would end later than that."""
    place.proxy.inject(Status(503), listing=listing)
    outcome = place.fetch(120, REAL)
    assert "cannot be fetched" in outcome.sentence
    assert "503" in outcome.sentence
    assert outcome.seconds > (15 if listing else 50)
    assert len(place.proxy.seen) < 300  # with a wait in between that grows


@pytest.mark.parametrize("listing", [False, True])
def test_what_stays_unavailable_for_a_short_patience(place: Place, listing: bool) -> None:
    """Protection: as before, for a patience that is shorter."""
    place.proxy.inject(Status(503), listing=listing)
    outcome = place.fetch(SOON, Pace(shorter=1, patience=3))
    assert "503" in outcome.sentence
    assert len(place.proxy.seen) < 100  # eight connections, 0.1 s, 0.2 s, 0.4 s, ...


@pytest.mark.long
def test_a_connection_that_dies_without_a_word(place: Place) -> None:
    """Protection: reads have a time limit."""
    place.proxy.inject(Stall(600), BIG)
    assert "cannot be fetched" in place.fetch(240, REAL).sentence


def test_a_connection_that_dies_without_a_word_for_a_short_patience(place: Place) -> None:
    """Protection: as before, for a limit that is shorter."""
    place.proxy.inject(Stall(600, at=0), BIG)
    assert "no bytes for 0.5 s" in place.fetch(SOON, Pace(patience=2, silence=0.5)).sentence
