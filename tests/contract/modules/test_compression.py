"""Which coding a client gets, and those that it may send: RFC 9110, sections 8.4.1 and 12.5.3."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract.compression import DAMAGED, Unpacking, chosen, compressed
from listener.errors import BadRequest


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip;q=0.1", "gzip"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"),
        ("br", ""),
        ("*", "gzip"),
        ("*;q=0", ""),
        ("gzip;q=0", ""),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=0.000", ""),
        (" gzip ; q=0.5 ", "gzip"),
        ("gzip;q=x", ""),
        ("gzip;q=nan", ""),
        ("gzip;q=-1", ""),
        ("gzip;", "gzip"),
        (",,", ""),
        ("xgzip", ""),
    ],
)
def test_the_coding_is_one_that_the_client_takes(accept_encoding: str, coding: str) -> None:
    assert chosen(accept_encoding) == coding


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_whatever_a_client_says_there_is_an_answer(accept_encoding: str) -> None:
    assert chosen(accept_encoding) in ("", "gzip", "deflate")


@given(st.binary(max_size=300))
def test_what_is_compressed_can_be_read(body: bytes) -> None:
    assert gzip.decompress(compressed(body, "gzip")) == body
    assert zlib.decompress(compressed(body, "deflate")) == body


# What clients send


def raw_deflate(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


def unpacked(coding: str, *pieces: bytes) -> bytes:
    unpacking = Unpacking(coding)
    made = [made for piece in pieces for made in unpacking.feed(piece)]
    unpacking.end()
    return b"".join(made)


PACKED = st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)])


@given(PACKED, st.binary(max_size=300) | st.integers(0, 600_000).map(bytes), st.lists(st.integers(0, 400), max_size=5))
def test_a_body_is_unpacked_however_it_is_cut(packed: tuple[str, Any], body: bytes, cuts: list[int]) -> None:
    coding, pack = packed
    sent = pack(body)
    ends = sorted(min(cut, len(sent)) for cut in cuts)
    pieces = [sent[a:b] for a, b in zip([0, *ends], [*ends, len(sent)], strict=True)]
    assert unpacked(coding, *pieces) == body


@given(PACKED, st.binary(max_size=100), st.data())
def test_what_ends_early_is_damaged(packed: tuple[str, Any], body: bytes, data: st.DataObject) -> None:
    """Even if all of its contents are there."""
    coding, pack = packed
    sent = pack(body)
    with pytest.raises(BadRequest) as caught:
        unpacked(coding, sent[: data.draw(st.integers(1, len(sent) - 1))])
    assert caught.value.message == DAMAGED


@given(PACKED, st.binary(max_size=100), st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_what_is_changed_is_read_or_refused(packed: tuple[str, Any], body: bytes, at: int, noise: bytes) -> None:
    coding, pack = packed
    sent = pack(body)
    with contextlib.suppress(BadRequest):
        unpacked(coding, sent[:at] + noise + sent[at + 1 :])


@pytest.mark.parametrize("coding", ["", "identity"])
def test_what_is_in_no_coding_stays_as_it_is(coding: str) -> None:
    assert unpacked(coding, b"a", b"", b"bc") == b"abc"


def test_gzip_may_be_of_several_parts_and_deflate_may_not() -> None:
    assert unpacked("gzip", gzip.compress(b"a") + gzip.compress(b"b")[:5], gzip.compress(b"b")[5:]) == b"ab"
    for coding, sent in (("deflate", zlib.compress(b"a") * 2), ("gzip", gzip.compress(b"a") + b"x")):
        with pytest.raises(BadRequest):
            unpacked(coding, sent)


def test_nothing_is_an_empty_body() -> None:
    assert unpacked("gzip") == unpacked("deflate", b"") == b""


def test_a_large_body_comes_in_pieces() -> None:
    """Whoever wants no more of it need not unpack the rest."""
    pieces = Unpacking("gzip").feed(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        assert 0 < len(next(pieces)) < 1_000_000
        assert 0 < len(next(pieces)) < 1_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
