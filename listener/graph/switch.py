"""One of several nodes, by what the request or each instance says."""

from __future__ import annotations

from collections.abc import Mapping

from listener.call import Call, Reply
from listener.errors import BadRequest, InstanceError
from listener.graph.choosing import Source, source, word
from listener.graph.grouping import by_keys
from listener.graph.step import Node
from listener.nodes import From


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
        node, call = await self.chosen(call)
        return await node(call)

    async def chosen(self, call: Call) -> tuple[Node, Call]:
        """The node of all instances, or what sends each to its own."""
        words = [word(value) for value in await self._source(call)]
        keys = [self._key(text, index) for index, text in enumerate(words)]
        return by_keys(keys, self._node), call

    def _key(self, text: str | None, index: int) -> str | None:
        if text in self._cases:
            return text
        if self._otherwise is not None:
            return None
        sentence = f"{self._what()} is {_said(text)}; it can be {', '.join(self._cases)}"
        raise InstanceError(sentence, index) if self._on.per_instance else BadRequest(sentence)

    def _node(self, key: str | None) -> Node:
        if key is None:
            assert self._otherwise is not None
            return self._otherwise
        return self._cases[key]

    def _what(self) -> str:
        names = {"parameter": "parameters.{}", "header": "the header {}", "field": "its {!r}"}
        return names.get(self._on.kind, "what {} says").format(self._on.what)


def _said(text: str | None) -> str:
    return "missing" if text is None else repr(text[:100])
