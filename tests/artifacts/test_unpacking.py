"""What is packed with gzip, in pieces of any size: all of it comes, or it is said that it does not."""

from __future__ import annotations

import gzip

from hypothesis import given
from hypothesis import strategies as st

from listener.artifacts.unpacking import Unpacker


def unpacked(stored: bytes, size: int) -> tuple[bytes, bool]:
    """The bytes, and whether they are spoilt."""
    unpacker, found = Unpacker(), b""
    for begin in range(0, len(stored), size):
        found += b"".join(unpacker.pieces(stored[begin : begin + size]))
    return found + unpacker.end(), unpacker.is_spoilt


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(1, 90), st.integers(0, 9))
def test_several_packed_pieces_and_zeros(texts: list[bytes], size: int, zeros: int) -> None:
    assert unpacked(b"".join(map(gzip.compress, texts)) + bytes(zeros), size) == (b"".join(texts), False)


@given(st.binary(max_size=40).filter(lambda text: not text.startswith(b"\x1f\x8b")), st.integers(1, 9))
def test_what_is_not_packed_stays(text: bytes, size: int) -> None:
    assert unpacked(text, size) == (text, False)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.integers(1, 90), st.data())
def test_an_end_that_is_missing(texts: list[bytes], size: int, data: st.DataObject) -> None:
    *whole, last = map(gzip.compress, texts)
    cut = last[: data.draw(st.integers(2, len(last) - 1))]
    found, is_spoilt = unpacked(b"".join(whole) + cut, size)
    assert is_spoilt
    assert b"".join(texts).startswith(found)


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=9).map(b"x".__add__), st.integers(1, 90))
def test_something_else_behind_it(text: bytes, more: bytes, size: int) -> None:
    assert unpacked(gzip.compress(text) + more, size) == (text, True)


def test_pieces_are_small_however_much_is_packed() -> None:
    unpacker = Unpacker()
    pieces = list(unpacker.pieces(gzip.compress(bytes(5_000_000))))
    assert max(map(len, pieces)) <= 256 * 1024
    assert sum(map(len, pieces)) == 5_000_000
