"""Values as Python's source, in the layout that ruff and Black give it. Pure."""

from __future__ import annotations

import json
from typing import Any

_WIDTH = 120


class Code(str):
    """Source that stands for itself among values."""

    __slots__ = ()


def quoted(text: str) -> str:
    """A string in double quotes, which is one in JSON and in protobuf's text format as well."""
    return json.dumps(text, ensure_ascii=False)


def block(value: Any, before: str, room: int = 0, width: int = _WIDTH) -> str:
    """The source of nested dicts and lists, on as many lines as they need.

    Args:
        value: of dicts, lists, strings, numbers, booleans and Code.
        before: the line up to there; its indentation counts.
        room: columns to be left free behind it.
        width: of a line.
    """
    flat = _flat(value)
    if not isinstance(value, dict | list) or not value or len(before) + len(flat) + room <= width:
        return flat
    indent = " " * (len(before) - len(before.lstrip()))
    inner = f"{indent}    "
    if isinstance(value, dict):
        keys = [f"{inner}{quoted(key)}: " for key in value]
        items = [key + block(item, key, 1, width) for key, item in zip(keys, value.values(), strict=True)]
    else:
        items = [inner + block(item, inner, 1, width) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, *(f"{item}," for item in items), f"{indent}{closing}"])


def _flat(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)}: {_flat(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flat, value)) + "]"
    return repr(value)
