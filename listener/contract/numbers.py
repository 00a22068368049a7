"""Bodies that say nothing but numbers, read without making an object of each. Pure.

simdjson writes all numbers of a document into one buffer, in which the lists are gone; what shape they had is read from
the document. Whatever is not plain here is left to `instances.py`, which knows what to say of it.
"""

from __future__ import annotations

import math
import re
from functools import partial
from itertools import chain
from typing import Any

import orjson
import simdjson

from listener.call import Json, Numbers

#: How such a body begins. Others are not worth a try.
_BEGIN = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"instances"[ \t\r\n]*:[ \t\r\n]*\[[\[ \t\r\n]*[-0-9]')
#: Bytes from which on this pays (docs/adr/0009-hot-path.md), and up to which the parser with its buffers is kept.
_SHORTEST, _KEPT = 1024, 1 << 20
_parser = simdjson.Parser()


def numbers(body: bytes) -> Numbers | None:
    """The instances of `{"instances": [...]}` if they are numbers, or lists of numbers nested alike.

    Returns:
        The numbers; None for a body that is short, or says anything else, or is wrong.
    """
    if len(body) < _SHORTEST or not _BEGIN.match(body):
        return None
    parser = _parser if len(body) <= _KEPT else simdjson.Parser()
    try:
        return _numbers(parser, body)
    except (ValueError, TypeError, RuntimeError):  # no JSON; no numbers; too deep
        return None


def _numbers(parser: simdjson.Parser, body: bytes) -> Numbers | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object) or len(document) != 1:  # parameters, or the name twice
        return None
    instances = document["instances"]
    if not isinstance(instances, simdjson.Array):
        return None
    values = memoryview(instances.as_buffer(of_type="d"))
    shape = _shape(instances, body.count(b"["))
    if values.nbytes != 8 * math.prod(shape) or not values.nbytes:
        return None
    return Numbers(shape, values, partial(_lists, body))


def _lists(body: bytes) -> list[Json]:
    instances: list[Json] = orjson.loads(body)["instances"]
    return instances


def _shape(instances: simdjson.Array, lists: int) -> tuple[int, ...]:
    """The lengths of the lists; there are as many levels of them as there are lists in the whole body.

    Raises:
        ValueError: lists of one level differ in length.
        TypeError: a number stands beside lists.
    """
    shape: list[int] = []
    level: list[Any] = [instances]
    seen = 0
    while True:
        lengths = set(map(len, level))
        if len(lengths) != 1:
            raise ValueError("ragged")
        shape.append(lengths.pop())
        seen += len(level)
        if seen >= lists:  # so all that is left are numbers
            return tuple(shape)
        level = list(chain.from_iterable(level))
