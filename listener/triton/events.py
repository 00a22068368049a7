"""Triton's streams of server-sent events, taken apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from listener.errors import TritonFailed


class Events:
    """The events of one stream, out of the pieces in which it comes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The objects of the events that have become whole.

        Raises:
            TritonFailed: an event is no JSON object.
        """
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        for said in whole:
            try:
                value = orjson.loads(said.removeprefix(b"data:"))
            except orjson.JSONDecodeError:
                value = None
            if not isinstance(value, dict):
                raise TritonFailed("an event of Triton's stream cannot be read")
            yield value
