"""How objects are cut, and checksums of joined pieces."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.artifacts import checksum, parts
from listener.artifacts.parts import Mark, Span

MIB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([], 64),
        ([1], 64),
        ([500] * 2, 125),  # four parts each
        ([500] * 4, 250),  # two
        ([100] * 10, 125),  # whole
        ([50] * 100, 512),  # whole
        ([5000], 512),
        ([100], 64),
        ([1000, *[1] * 24], 128),
    ],
)
def test_parts_keep_all_connections_busy_and_no_more(sizes: list[int], size: int) -> None:
    assert parts.part_size([number * MIB for number in sizes]) == size * MIB


@pytest.mark.parametrize(("sizes", "count"), [([], 8), ([5000 * MIB], 8), ([2000] * 3000, 16), ([0], 16)])
def test_small_objects_get_more_connections(sizes: list[int], count: int) -> None:
    assert parts.connections(sizes) == count


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 300))
def test_a_cut_leaves_nothing_out_and_no_piece_is_too_large(start: int, length: int, part: int) -> None:
    pieces = parts.cut(Span(start, start + length), part)
    assert [at for piece in pieces for at in range(piece.start, piece.stop)] == list(range(start, start + length))
    assert max(map(len, pieces)) <= part
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: Span(pair[0], sum(pair)))


@given(st.lists(spans.map(lambda span: Mark(span, 0))))
def test_what_is_missing_and_what_is_kept_make_the_whole(marks: list[Mark]) -> None:
    kept = parts.usable(marks)
    spans = [mark.span for mark in kept] + parts.missing(100, kept)
    assert sorted(at for span in spans for at in range(span.start, span.stop)) == list(range(100))
    assert set(kept) <= set(marks)


@given(st.lists(st.binary(max_size=300)))
def test_the_checksum_of_the_whole_is_that_of_its_pieces(pieces: list[bytes]) -> None:
    position, marks = 0, list[Mark]()
    for piece in pieces:
        if piece:
            marks.append(Mark(Span(position, position + len(piece)), checksum.extend(0, piece)))
        position += len(piece)
    assert parts.whole(reversed(marks)) == google_crc32c.value(b"".join(pieces))


def test_large_pieces_join_as_well() -> None:
    one, other = bytes(range(256)) * 5000, bytes(70 * MIB)
    first, second = (google_crc32c.value(piece) for piece in (one, other))
    assert checksum.joined(first, second, len(other)) == google_crc32c.value(one + other)


def test_a_checksum_as_it_is_listed() -> None:
    assert checksum.from_listing("4waSgw==") == 0xE3069283
