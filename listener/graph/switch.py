"""One of several nodes, by what the request or each instance says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from listener.call import Call, Failed, Json, Reply
from listener.errors import BadRequest, InstanceError
from listener.graph.choosing import Source, source, word
from listener.graph.grouping import by_key
from listener.graph.node import Node
from listener.nodes import From

#: A case, None for `otherwise`, or what is wrong with an instance.
_Key: TypeAlias = str | InstanceError | None


class Switch:
    """Sends each instance to the node of its value; instances of one node travel together.

    Args:
        name: for messages.
        on: what decides.
        cases: the node by value.
        otherwise: for other values; None = they are the caller's fault.
    """

    def __init__(self, name: str, on: From, cases: Mapping[str, Node], otherwise: Node | None) -> None:
        self._on, self._cases, self._otherwise = on, cases, otherwise
        self._source: Source = source(on, name)

    async def __call__(self, call: Call) -> Reply:
        keys = [self._key(value, index) for index, value in enumerate(await self._source(call))]
        if not call.alone and (wrong := next((key for key in keys if isinstance(key, InstanceError)), None)):
            raise wrong
        return await by_key(call, keys, self._node)

    def _key(self, value: Json, index: int) -> _Key:
        if isinstance(value, InstanceError):
            return value.at(index)
        text = word(value)
        if text in self._cases:
            return text
        if self._otherwise is not None:
            return None
        sentence = f"{self._what()} is {_said(text)}; it can be {', '.join(self._cases)}"
        if not self._on.per_instance:
            raise BadRequest(sentence)
        return InstanceError(sentence, index)

    def _node(self, key: _Key) -> Node:
        if isinstance(key, InstanceError):
            return partial(_refused, key)
        if key is None:
            assert self._otherwise is not None
            return self._otherwise
        return self._cases[key]

    def _what(self) -> str:
        names = {"parameter": "parameters.{}", "header": "the header {}", "field": "its {!r}"}
        return names.get(self._on.kind, "what {} says").format(self._on.what)


async def _refused(error: InstanceError, call: Call) -> Reply:
    return Reply([Failed(error.reason)] * len(call.instances))


def _said(text: str | None) -> str:
    return "missing" if text is None else repr(text[:100])
