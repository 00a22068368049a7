"""The first of several nodes that answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from listener.call import Call, Failed, Reply
from listener.decoupled import Piece
from listener.errors import ListenerError
from listener.graph.grouping import each, part, put
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
                reply = await node(call)
            except ListenerError as error:
                if not self._goes_on(index, error, call):
                    raise
            else:
                return await self._mended(index, reply, call) if call.alone else reply
        return await self._nodes[-1](call)

    async def _mended(self, index: int, reply: Reply, call: Call) -> Reply:
        """A node's answer, with that of the next ones for those instances that it failed on and another one may not."""
        made = list(each(reply))
        places = [place for place, said in enumerate(made) if isinstance(said, Failed) and said.status >= 500]
        if not places or not self._has_time(index, made[places[0]]["error"], call):
            return reply
        try:
            put(made, places, await part(call, places, Fallback(self._name, self._nodes[index + 1 :])))
        except ListenerError:
            return reply
        return Reply(made)

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
        """Whether the next node is asked."""
        return error.status >= 500 and self._has_time(index, error.message, call)

    def _has_time(self, index: int, reason: str, call: Call) -> bool:
        """Whether there is time for the next node, which the log says then."""
        if call.context.remaining() == 0:
            return False
        fields = {"request_id": call.context.request_id, "reason": reason}
        log.warning("%r falls back from node %d", self._name, index, extra={"fields": fields})
        return True
