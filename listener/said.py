"""Values as JSON says them: what orjson has no word for by itself, which is numpy's odd arrays and bytes. Pure.

Rules: docs/reference/contract.md, "Response".
"""

from __future__ import annotations

from typing import Any

import orjson
import pybase64

from listener.call import Json


def listed(value: Any) -> Json:
    """What orjson leaves to us, as its `default`.

    Bytes are said as `{"b64": "..."}`, as requests say them. Of numpy it leaves arrays without dimensions, views with
    gaps, such as one column of a matrix, and those of texts or objects.

    Raises:
        TypeError: JSON has no word for it.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": pybase64.b64encode(bytes(value)).decode()}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        if value.dtype.kind not in "fM" or value.dtype.itemsize > 8:
            return value.tolist()
        # as a list of Python's floats 0.1 in 32 bits would be 0.10000000149011612, and nanoseconds would be numbers
        return value.astype(value.dtype.newbyteorder("="), order="C")[()]
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


def words(value: Json) -> str:
    """A value as JSON text, the same for all values that say the same: keys in order, arrays as lists.

    Raises:
        TypeError: JSON has no word for it, or it is nested too deeply.
    """
    return orjson.dumps(value, default=listed, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS).decode()
