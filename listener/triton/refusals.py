"""What Triton's refusals say, and whose fault it is. Pure."""

from __future__ import annotations

import re

import orjson

from listener.errors import one_line

#: How Triton 2.51 begins when it cannot read a request, of which it says that this is its own failure (500).
_UNREADABLE = re.compile(
    r"(?:Converting keyword: '[^']*': )?(?:Unable to parse |failed to parse |failed to get request params"
    r"|attempt to (?:access|get) |Expected JSON |parameter key )"
)


def read(status: int, body: bytes) -> tuple[int, str]:
    """Status and sentence of a refusal; 400 for what Triton could not read, whatever it says.

    The sentence is the first line of Triton's: of a Python model's exception the rest is the trace. A model that fails
    before the first event of a stream is told of in an event.
    """
    try:
        text = str(orjson.loads(body.removeprefix(b"data:"))["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = ""
    told = one_line(text.strip().partition("\n")[0]) or f"Triton answered with status {status}"
    return (400 if status == 500 and _UNREADABLE.match(told) else status), told
