"""The fenced blocks of a page, for tests that run what the documentation shows."""

from __future__ import annotations

import re
from typing import NamedTuple

_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """One block.

    Attributes:
        language: behind its fence.
        text: with the last line break.
        needs: what the comment above says that it cannot run without; "" = nothing.
    """

    language: str
    text: str
    needs: str


def blocks(text: str) -> list[Block]:
    """Those of a page, in order."""
    return [Block(m["language"], m["text"], m["needs"] or "") for m in _BLOCK.finditer(text)]
