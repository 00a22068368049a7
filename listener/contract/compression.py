"""Answers in gzip or deflate, for clients that ask for it. Pure.

RFC 9110, sections 8.4.1 and 12.5.3.
"""

from __future__ import annotations

import functools
import gzip
import zlib

#: Fast rather than small: answers go to a proxy or a client nearby.
_LEVEL = 1
_KNOWN = ("gzip", "deflate")


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
