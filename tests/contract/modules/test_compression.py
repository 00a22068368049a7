"""Which coding a client gets: RFC 9110, sections 8.4.1 and 12.5.3."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract.compression import Unpacker, chosen, compressed
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


# Unpacking

TEXT = bytes(range(256)) * 3000


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "gzip in two members": ("gzip", gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:])),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "bare deflate": ("deflate", raw_deflate(TEXT)),
}


def unpacked(coding: str, data: bytes, step: int) -> bytes:
    unpacker, found = Unpacker(coding), b""
    for start in range(0, len(data), step):
        for piece in unpacker.feed(data[start : start + step]):
            assert len(piece) <= 256 << 10
            found += piece
    unpacker.end()
    return found


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize(("coding", "data"), PACKED.values(), ids=PACKED.keys())
def test_a_body_is_unpacked_however_it_comes(coding: str, data: bytes, step: int) -> None:
    assert unpacked(coding, data, step) == TEXT


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]
)
def test_of_any_length(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """Also where a piece is full when the last byte has been read, and there is more to come of it."""
    for size in [0, 1, *range((256 << 10) - 5, (256 << 10) + 300), *range((512 << 10) - 5, (512 << 10) + 300)]:
        assert unpacked(coding, pack(bytes(size)), 1 << 20) == bytes(size), size


@pytest.mark.parametrize("cut", [1, 8, 9, 100])
@pytest.mark.parametrize(("coding", "data"), PACKED.values(), ids=PACKED.keys())
def test_a_missing_end_is_noticed(coding: str, data: bytes, cut: int) -> None:
    with pytest.raises(BadRequest, match=r"^the body is damaged: "):
        unpacked(coding, data[:-cut], 4096)


@pytest.mark.parametrize(("coding", "data"), PACKED.values(), ids=PACKED.keys())
@pytest.mark.parametrize("more", [b"x", b"{}" * 100])
def test_something_behind_the_end_is_noticed(coding: str, data: bytes, more: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^the body is damaged: "):
        unpacked(coding, data + more, 4096)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_nothing_at_all_is_damaged(coding: str) -> None:
    with pytest.raises(BadRequest, match=r"^the body is damaged: "):
        Unpacker(coding).end()


def test_no_more_is_unpacked_than_is_taken() -> None:
    """A gigabyte in a megabyte; a second piece would be there only if somebody asked for it."""
    block = zlib.compressobj(9, wbits=-15)
    part = block.compress(bytes(1 << 24)) + block.flush(zlib.Z_FULL_FLUSH)
    pieces = Unpacker("deflate").feed(part * 64)
    assert len(next(pieces)) == 256 << 10


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_whatever_comes_is_unpacked_or_refused(data: bytes, coding: str) -> None:
    try:
        unpacked(coding, data, 16)
    except BadRequest as error:
        assert error.message.startswith("the body is damaged: ")
