"""One of several nodes, by what the request or each instance says."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence

from listener.call import Call, Reply
from listener.errors import BadRequest, InstanceError, InstancesFailed
from listener.graph.choosing import Source, read, word
from listener.graph.grouping import by_keys, one_by_one
from listener.graph.node import Node
from listener.nodes import From, named


class Switch:
    """Sends each instance to the node of its value; instances of one node travel together.

    Args:
        on: what decides, for messages.
        source: gives it.
        cases: the node by value.
        otherwise: for other values; None = they are the caller's fault.
    """

    def __init__(self, on: From, source: Source, cases: Mapping[str, Node], otherwise: Node | None) -> None:
        self._on, self._source, self._cases, self._otherwise = on, source, cases, otherwise

    def __call__(self, call: Call) -> Awaitable[Reply]:
        return one_by_one(call, self._sent) if call.alone else self._sent(call)

    async def _sent(self, call: Call) -> Reply:
        node, call = await self._found(call)
        return await node(call)

    async def chosen(self, call: Call) -> tuple[Node, Call]:
        """The node of all instances, or what sends each to its own, or says what is wrong with it."""
        try:
            return await self._found(call)
        except (InstanceError, InstancesFailed):
            if not call.alone:
                raise
            return self.__call__, call

    async def _found(self, call: Call) -> tuple[Node, Call]:
        words = [word(value) for value in await self._source(call)]
        if self._otherwise is None:
            self._refuse_others(words, call.alone)
        keys = [text if text in self._cases else None for text in words]
        return by_keys(keys, self._node), read(call, self._on)

    def _refuse_others(self, words: Sequence[str | None], alone: bool) -> None:
        """Raises where a value has no case: what instances that are at fault raise, or BadRequest."""
        wrong = [(index, text) for index, text in enumerate(words) if text not in self._cases]
        if not wrong:
            return
        if not self._on.per_instance:
            raise BadRequest(self._told(wrong[0][1]))
        errors = [InstanceError(self._told(text), index) for index, text in wrong]
        raise InstancesFailed(str(errors[0]), errors) if alone else errors[0]

    def _told(self, text: str | None) -> str:
        return f"{self._what()} is {_said(text)}; it can be {', '.join(self._cases)}"

    def _node(self, key: str | None) -> Node:
        if key is None:
            assert self._otherwise is not None
            return self._otherwise
        return self._cases[key]

    def _what(self) -> str:
        names = {"parameter": "parameters.{}", "header": "the header {}", "field": "its {!r}"}
        return names.get(self._on.kind, "what {} says").format(named(self._on.what))


def _said(text: str | None) -> str:
    return "missing" if text is None else repr(text[:100])
