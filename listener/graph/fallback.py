"""The first of several nodes that answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from listener.call import Call, Reply
from listener.decoupled import Piece
from listener.errors import ListenerError
from listener.graph.node import Node
from listener.graph.streaming import stream

log = logging.getLogger("listener.graph")


class Fallback:
    """Asks the next node where one fails: on an error (5xx), its timeout, or a model that is not ready.

    What is the caller's fault stays so, and the end of the request's own time ends all.

    Args:
        name: for the log.
        nodes: the preferred one first.
    """

    def __init__(self, name: str, nodes: Sequence[Node]) -> None:
        self._name, self._nodes = name, nodes

    async def __call__(self, call: Call) -> Reply:
        call = call._replace(shared=True)
        for index, node in enumerate(self._nodes[:-1]):
            try:
                return await node(call)
            except ListenerError as error:
                if not self._goes_on(index, error, call):
                    raise
        return await self._nodes[-1](call)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """As pieces: once the first one is there, the status has gone out, and a failure stays one."""
        call = call._replace(shared=True)
        for index, node in enumerate(self._nodes):
            begun = False
            try:
                async with aclosing(stream(node, call)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except ListenerError as error:
                if begun or index == len(self._nodes) - 1 or not self._goes_on(index, error, call):
                    raise

    def _goes_on(self, index: int, error: ListenerError, call: Call) -> bool:
        """Whether the next node is asked, which the log says."""
        if error.status < 500 or call.context.remaining() == 0:
            return False
        fields = {"request_id": call.context.request_id, "reason": error.message}
        log.warning("%r falls back from node %d", self._name, index, extra={"fields": fields})
        return True
