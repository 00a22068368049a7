"""Answers in pieces: whatever the cuts, the same answer; whatever is no answer, an error and not a wait."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.triton import answers
from listener.triton.answers import Answer, ProtocolError, Reader

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-LENGTH:  5 \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3\r\nhel\r\n1;name=value\r\nl\r\n0001\r\no\r\n0\r\nTrailer: x\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"
WHOLE = {"plain": PLAIN, "chunked": CHUNKED, "continued": CONTINUED}


def fed(*pieces: bytes) -> tuple[Answer | None, Reader]:
    """What a new reader makes of pieces; all but the last must leave it waiting."""
    reader = Reader()
    *first, last = pieces
    assert [reader.feed(piece) for piece in first] == [None] * len(first)
    return reader.feed(last), reader


@pytest.mark.parametrize("raw", WHOLE.values(), ids=WHOLE)
def test_an_answer_is_read_wherever_it_is_cut(raw: bytes) -> None:
    for cut in range(1, len(raw)):
        answer, reader = fed(raw[:cut], raw[cut:])
        assert answer is not None
        assert (answer.status, answer.body, reader.lasting) == (200, b"hello", True)
    answer, _ = fed(*(raw[at : at + 1] for at in range(len(raw))))
    assert answer is not None
    assert answer.body == b"hello"


@given(st.data(), st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_random_bodies_and_cuts(data: st.DataObject, body: bytes, sizes: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    if data.draw(st.booleans(), "chunked"):
        bounds = [0, *itertools.takewhile(lambda end: end < len(body), itertools.accumulate(sizes)), len(body)]
        chunks = [body[start:end] for start, end in itertools.pairwise(bounds) if start < end]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        raw = head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
    else:
        raw = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1)), "cuts"))
    answer, reader = fed(*(raw[start:end] for start, end in itertools.pairwise([0, *cuts, len(raw)])))
    assert answer is not None
    assert (answer.body, reader.lasting) == (body, True)


def test_headers_are_in_lower_case_and_joined() -> None:
    answer, _ = fed(b"HTTP/1.1 200 OK\r\nX-One: a\r\nEmpty:\r\nx-one: b\r\nContent-Length: 0\r\n\r\n")
    assert answer is not None
    assert dict(answer.headers) == {"x-one": "a, b", "empty": "", "content-length": "0"}


@pytest.mark.parametrize(
    ("raw", "lasting"),
    [
        (PLAIN, True),
        (EMPTY, True),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (PLAIN + b"more", False),
        (CHUNKED + b"more", False),
        (EMPTY + b"more", False),
        (CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\nTransfer"), False),
    ],
)
def test_whether_the_connection_lasts(raw: bytes, lasting: bool) -> None:
    answer, reader = fed(raw)
    assert answer is not None
    assert len(answer.body) in (0, 5)
    assert reader.lasting is lasting


def test_a_body_without_length_ends_with_the_connection() -> None:
    answer, reader = fed(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo")
    assert answer is None
    ended = reader.end()
    assert ended is not None
    assert (ended.body, reader.lasting) == (b"hello", False)


@pytest.mark.parametrize("raw", [b"", PLAIN[:20], PLAIN[:-1], CHUNKED[:-1], CONTINUED[:30]])
def test_a_body_with_length_does_not(raw: bytes) -> None:
    reader = Reader()
    assert raw == b"" or reader.feed(raw) is None
    assert reader.end() is None


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20000,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 20000 + b"\r\n\r\n",
        CHUNKED.replace(b"3\r\nhel", b"\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"0x3\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"-3\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"2\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"1" * 5000),
        CHUNKED[:-2] + b"Trailer: x\r\n" * 2000,
    ],
)
def test_garbage_is_an_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        fed(raw)


@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"", *WHOLE.values()]), st.integers(0, 200))
def test_no_garbage_is_any_other_error(garbage: bytes, raw: bytes, at: int) -> None:
    reader = Reader()
    for piece in (raw[:at], garbage, raw[at:]):
        try:
            if reader.feed(piece) is not None:
                return
        except ProtocolError:
            return


def test_a_flood_of_interim_answers_is_no_recursion() -> None:
    answer, _ = fed(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000 + PLAIN)
    assert answer is not None
    assert answer.status == 200


def test_a_reader_starts_anew() -> None:
    answer, reader = fed(CHUNKED)
    assert answer is not None
    reader.start()
    assert reader.begun is False
    again = reader.feed(PLAIN)
    assert again is not None
    assert again.headers["content-type"] == "x"


def test_no_more_than_some_heads_are_kept() -> None:
    for number in range(2000):
        fed(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 0\r\n\r\n" % number)
    assert len(answers._heads) <= 512
