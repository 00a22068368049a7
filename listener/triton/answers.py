"""HTTP/1.1 answers out of bytes that come in pieces: heads, bodies by length or in chunks. Pure: no sockets.

Triton answers calls of one shape with the same head, byte for byte, so heads are read strictly and once: what was made
of one is kept, and found again by its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_HEAD_LIMIT = 16 << 10  # bytes
_LINE_LIMIT = 1 << 10  # bytes of a chunk's size and its extensions
_HEADS_KEPT = 512

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

#: Instead of a length.
_CHUNKED, _UNTIL_CLOSED = -1, -2


class ProtocolError(ValueError):
    """The other side does not speak HTTP/1.1."""


class Answer(NamedTuple):
    """One answer.

    Attributes:
        status: 200 to 599.
        headers: names in lower case; values that came several times are joined by commas.
        body: without its transfer coding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Head(NamedTuple):
    status: int
    headers: Mapping[str, str]
    length: int  # of the body in bytes, or one of the two above
    lasting: bool  # the connection stays open


_heads: dict[bytes, _Head] = {}


class Reader:
    """Reads the answers of one connection, one after the other. None of them may belong to a HEAD request.

    Attributes:
        begun: a byte of the present answer has come; `start` resets it.
        lasting: after an answer: another one may follow on this connection.
    """

    __slots__ = ("_chunks", "_early", "_head", "_missing", "_pieces", "begun", "lasting")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Before each request."""
        self.begun = False
        self.lasting = False
        self._early = b""  # of a head that is not whole
        self._head: _Head | None = None
        self._missing = 0  # bytes of the body
        self._pieces: list[bytes] = []
        self._chunks: _Chunks | None = None

    def feed(self, data: bytes) -> Answer | None:
        """The answer, once it is whole.

        Raises:
            ProtocolError: that is no answer; the reader is of no use any more.
        """
        self.begun = True
        while self._head is None:
            if self._early:
                data = self._early + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._keep_early(data)
                return None
            raw = data[:end]
            head = _heads.get(raw) or _read_head(raw)
            data = data[end + 4 :]
            if len(data) == head.length:  # by far the most common
                self.lasting = head.lasting
                return Answer(head.status, head.headers, data)
            self._early = b""
            if head.status >= 200:
                self._head = head
                self._missing = head.length
                self._chunks = _Chunks() if head.length == _CHUNKED else None
        return self._feed_body(self._head, data)

    def end(self) -> Answer | None:
        """The answer that the end of the connection completes, if it does."""
        if self._head is not None and self._head.length == _UNTIL_CLOSED:
            return self._answer(self._head)
        return None

    def _keep_early(self, data: bytes) -> None:
        if len(data) > _HEAD_LIMIT:
            raise ProtocolError("the head of the answer is too long")
        if data[:7] != b"HTTP/1."[: len(data)]:  # a greeting of another protocol may never have an empty line
            raise ProtocolError("the answer is not HTTP/1")
        self._early = data

    def _feed_body(self, head: _Head, data: bytes) -> Answer | None:
        if self._chunks is not None:
            rest = self._chunks.feed(data, self._pieces)
            if rest is None:
                return None
            self.lasting = head.lasting and not rest
            return self._answer(head)
        if head.length == _UNTIL_CLOSED:
            self._pieces.append(data)
            return None
        if len(data) > self._missing:  # a second answer to one request: this one counts, the connection does not
            data = data[: self._missing]
        elif len(data) == self._missing:
            self.lasting = head.lasting
        self._missing -= len(data)
        self._pieces.append(data)
        return None if self._missing else self._answer(head)

    def _answer(self, head: _Head) -> Answer:
        return Answer(head.status, head.headers, b"".join(self._pieces))


class _Chunks:
    """The chunked transfer coding."""

    __slots__ = ("_early", "_missing", "_state", "_trailers")

    def __init__(self) -> None:
        self._state = "size"
        self._early = b""  # of a line that is not whole
        self._missing = 0  # bytes of a chunk
        self._trailers = 0  # bytes

    def feed(self, data: bytes, pieces: list[bytes]) -> bytes | None:
        """Adds to the pieces of the body; gives what follows its end, or None if that is still to come.

        Raises:
            ProtocolError: no chunks.
        """
        data = self._early + data
        self._early = b""
        at = 0
        while True:
            if self._state == "data":
                piece = data[at : at + self._missing]
                pieces.append(piece)
                at += len(piece)
                self._missing -= len(piece)
                if self._missing:
                    return None
                self._state = "data end"
            end = data.find(b"\r\n", at)
            if end < 0:
                self._early = data[at:]
                if len(self._early) > _LINE_LIMIT:
                    raise ProtocolError("a line of the chunked body is too long")
                return None
            line, at = data[at:end], end + 2
            if self._line(line):
                return data[at:]

    def _line(self, line: bytes) -> bool:
        """Takes one line that is not contents; whether it was the last."""
        if self._state == "data end":
            if line:
                raise ProtocolError("a chunk is longer than it says")
            self._state = "size"
        elif self._state == "size":
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise ProtocolError("a chunk has no size")
            self._missing = int(match[1], 16)
            self._state = "data" if self._missing else "trailers"
        else:
            self._trailers += len(line)
            if self._trailers > _HEAD_LIMIT:
                raise ProtocolError("the trailers are too long")
            return not line
        return False


def _read_head(raw: bytes) -> _Head:
    """What a head says, without its empty line. Kept for the next answer like it."""
    if len(raw) > _HEAD_LIMIT:
        raise ProtocolError("the head of the answer is too long")
    first, *lines = raw.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise ProtocolError("the answer is not HTTP/1")
    status = int(match[2])
    if status == 101 or status >= 600:
        raise ProtocolError(f"the answer has status {status}")
    headers = _read_headers(lines)
    words = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    lasting = "keep-alive" in words if match[1] == "0" else "close" not in words
    length = _length(status, headers)
    if length == _UNTIL_CLOSED or (length == _CHUNKED and "content-length" in headers):
        lasting = False
    while len(_heads) >= _HEADS_KEPT:
        del _heads[next(iter(_heads))]
    head = _heads[raw] = _Head(status, MappingProxyType(headers), length, lasting)
    return head


def _read_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or _NAME.fullmatch(name) is None:
            raise ProtocolError("the answer has a line that is no header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(status: int, headers: Mapping[str, str]) -> int:
    if status < 200:
        return _UNTIL_CLOSED  # never looked at: another head follows
    if status in (204, 304):
        return 0
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise ProtocolError("the answer has a transfer coding that was not asked for")
        return _CHUNKED
    given = headers.get("content-length")
    if given is None:
        return _UNTIL_CLOSED
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise ProtocolError("the answer has no proper length")
    return int(given)
