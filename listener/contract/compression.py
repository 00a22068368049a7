"""Bodies in gzip or deflate: answers for clients that ask for it, and what clients send. Pure.

RFC 9110, sections 8.4.1 and 12.5.3.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from listener.errors import BadRequest

#: Fast rather than small: answers go to a proxy or a client nearby.
_LEVEL = 1
_KNOWN = ("gzip", "deflate")
#: Of a Content-Encoding; the first two are none.
READ = frozenset({"", "identity", *_KNOWN})
DAMAGED = "the body is damaged: it ends early, or is not in its Content-Encoding"
#: Bytes that are unpacked at a time.
_PIECE = 1 << 18


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


class Unpacking:
    """A body on its way out of its coding, in pieces of bounded size: what is small may become very large.

    aiohttp would do this as well, but also for bodies that nobody wants any more, and without noticing that one in gzip
    ends early.

    Args:
        coding: one of `READ`.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding if coding in _KNOWN else ""
        self._begun: Any = None  # the decompressor of a stream that has not ended
        self._ended = False  # a stream has; gzip may go on with another one

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What more of the body holds.

        Raises:
            BadRequest: it is not in its coding.
        """
        if not self._coding:
            if data:
                yield data
            return
        made = b""
        while data or len(made) == _PIECE:
            if self._begun is None:
                self._begin(data)
            try:
                made = self._begun.decompress(data, _PIECE)
            except zlib.error:
                raise BadRequest(DAMAGED) from None
            if made:
                yield made
            data = self._begun.unconsumed_tail
            if self._begun.eof:
                data, made = self._begun.unused_data, b""
                self._begun, self._ended = None, True

    def end(self) -> None:
        """There is no more of it.

        Raises:
            BadRequest: there should be.
        """
        if self._begun is not None:
            raise BadRequest(DAMAGED)

    def _begin(self, data: bytes) -> None:
        if self._coding == "gzip":
            wbits = 31
        elif self._ended:
            raise BadRequest(DAMAGED)
        else:  # some send deflate without zlib's frame around it, which the RFC asks for
            wbits = 15 if data[0] & 0x0F == 8 else -15
        self._begun = zlib.decompressobj(wbits)
