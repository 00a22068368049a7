"""Which requests the fast path takes, told by their heads. Pure.

Strict on purpose: whatever two parsers might read differently is not for this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from listener.contract import media
from listener.contract.media import Wanted
from listener.contract.vertex_triton import REDIRECT

#: Token, colon, visible ASCII: no folded lines, no control characters, no blanks before the colon.
_TOKEN, _VALUE = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", rb":[\t\x20-\x7e]*"
_LINES = re.compile(rb"(?:%b%b\r\n)+\r\n" % (_TOKEN, _VALUE))
#: What may become such lines; anything else is aiohttp's at once, which knows when not to wait for the head's end.
_BEGUN = re.compile(rb"(?:%b%b\r\n)*(?:%b(?:%b\r?)?|\r)?" % (_TOKEN, _VALUE, _TOKEN, _VALUE))
_DIGITS = re.compile(r"[0-9]{1,12}")
#: These change how a message is read, or whom it is for; whoever sends them talks to aiohttp.
_UNUSUAL = frozenset({"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te", REDIRECT})
#: Bytes of a head with its blank line.
LONGEST = 8192
_MOST_HEADERS = 100  # aiohttp has a limit too
_KNOWN_HEADS, _LONGEST_KNOWN = 512, 2048


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head.

    Attributes:
        headers: names in lower case.
        length: of the body, in bytes.
        wanted: what they say of the body and the answer.
        raw: the body is a tensor's bytes.
    """

    headers: Mapping[str, str]
    length: int
    wanted: Wanted
    raw: bool = False


class Heads:
    """Reads heads, and remembers what it read: a client's requests are mostly alike.

    Args:
        route: path of predictions.
        max_body: bytes; longer ones are aiohttp's to refuse.
    """

    def __init__(self, route: str, max_body: int) -> None:
        self._start = f"POST {route} HTTP/1.1\r\n".encode()
        self._max_body = max_body
        self._known: dict[bytes, Head | None] = {}

    def read(self, raw: bytes) -> Head | None:
        """A head that this path takes, with its blank line; None = it is for aiohttp."""
        try:
            return self._known[raw]
        except KeyError:
            head = self._parsed(raw)
            if len(raw) <= _LONGEST_KNOWN:
                if len(self._known) >= _KNOWN_HEADS:
                    self._known.clear()
                self._known[raw] = head
            return head

    def may_become(self, data: bytes) -> bool:
        """Whether a head that this path takes may begin like this."""
        start = self._start
        if len(data) >= LONGEST or data[: len(start)] != start[: len(data)]:
            return False
        return _BEGUN.fullmatch(data, min(len(start), len(data))) is not None

    def _parsed(self, raw: bytes) -> Head | None:
        lines = raw[len(self._start) :]
        if not raw.startswith(self._start) or not _LINES.fullmatch(lines):
            return None
        pairs = [line.partition(":") for line in lines[:-4].decode("ascii").split("\r\n")]
        headers = {name.lower(): value.strip(" \t") for name, _, value in pairs}
        if not len(headers) == len(pairs) <= _MOST_HEADERS:  # a repeated name
            return None
        if not _UNUSUAL.isdisjoint(headers) or "host" not in headers:
            return None
        if headers.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        if media.accepts(headers.get("accept", ""), media.EVENTS):
            return None
        length = headers.get("content-length", "")
        if not _DIGITS.fullmatch(length) or not 0 < int(length) <= self._max_body:
            return None
        wanted = media.wanted(headers)
        is_raw = wanted.form is media.Form.BYTES and media.media_type(headers["content-type"]) == media.RAW
        return Head(MappingProxyType(headers), int(length), wanted, is_raw)
