"""Server-sent events: how an answer that comes in pieces is said. Pure.

Each event is `data: <JSON>` and a blank line, as Triton's generate_stream has them; a failure after the first one is an
event with `error`, since the status has gone out.
"""

from __future__ import annotations

import orjson

from listener.call import Json
from listener.contract.instances import encode_error
from listener.errors import ListenerError
from listener.said import listed

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def event(value: Json) -> bytes:
    """One event.

    Raises:
        TypeError: JSON has no word for the value.
    """
    return b"data: %b\n\n" % orjson.dumps(value, default=listed, option=orjson.OPT_SERIALIZE_NUMPY)


def failure(error: ListenerError) -> bytes:
    """The event that ends a stream before its time."""
    return b"data: %b\n\n" % encode_error(error)
