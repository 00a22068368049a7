"""What goes back to a client, whichever way its request came."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from listener.contract.media import JSON

_NONE: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """A whole answer.

    Attributes:
        body: its bytes.
        status: of HTTP.
        media_type: of the body.
        headers: others, with plain ASCII values.
    """

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = _NONE
