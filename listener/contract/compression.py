"""gzip and deflate: bodies that come so, and answers for clients that ask for it. Pure.

RFC 9110, sections 8.4.1 and 12.5.3.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from collections.abc import Iterator

from listener.errors import BadRequest

#: Fast rather than small: answers go to a proxy or a client nearby.
_LEVEL = 1
_KNOWN = ("gzip", "deflate")
DAMAGED = "the body is damaged: it ends early, or is not in its Content-Encoding"
#: Bytes that are unpacked at a time: more of them would hold up others.
_STEP = 256 << 10


@functools.lru_cache(256)
def chosen(accept_encoding: str) -> str:
    """The coding to use: gzip rather than deflate; "" = none is wanted, or what is wanted is not known here."""
    weights = dict(_weighed(entry) for entry in accept_encoding.lower().split(","))
    for coding in _KNOWN:
        if weights.get(coding, weights.get("*", 0.0)) > 0:
            return coding
    return ""


def _weighed(entry: str) -> tuple[str, float]:
    name, _, parameter = entry.partition(";")
    if not parameter.strip():
        return name.strip(), 1.0
    try:
        return name.strip(), float(parameter.strip().removeprefix("q="))
    except ValueError:
        return name.strip(), 0.0


def compressed(body: bytes, coding: str) -> bytes:
    """A body in gzip or deflate."""
    return gzip.compress(body, _LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, _LEVEL)


class Unpacker:
    """Undoes the coding of one body, as it comes, no further than whoever takes the pieces wants to go.

    aiohttp could do it; but it takes a body for whole whose end is missing, and goes on after a refusal.

    Args:
        coding: gzip or deflate; the latter with the frame of zlib, or bare as some clients send it.
    """

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._inflate = zlib.decompressobj(31) if self._gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What a piece of the body unpacks to, in pieces.

        Raises:
            BadRequest: it is not in that coding.
        """
        if self._inflate is None:
            self._inflate = zlib.decompressobj(15 if data[0] & 15 == 8 else -15)
        made = b""
        while data or len(made) == _STEP:  # the last bytes may have been read, and not yet all written that they mean
            try:
                made = self._inflate.decompress(data, _STEP)
            except zlib.error:
                raise BadRequest(DAMAGED) from None
            yield made
            data = self._inflate.unconsumed_tail
            if self._inflate.eof and self._inflate.unused_data:
                data = self._next()

    def _next(self) -> bytes:
        """What follows the end: in gzip, another member (RFC 1952, section 2.2)."""
        assert self._inflate is not None
        if not self._gzip:
            raise BadRequest(DAMAGED)
        rest, self._inflate = self._inflate.unused_data, zlib.decompressobj(31)
        return rest

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            BadRequest: the end is missing.
        """
        if self._inflate is None or not self._inflate.eof:
            raise BadRequest(DAMAGED)
