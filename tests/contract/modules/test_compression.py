"""Which coding a client gets: RFC 9110, sections 8.4.1 and 12.5.3."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract.compression import chosen, compressed


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
