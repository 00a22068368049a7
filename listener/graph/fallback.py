"""The first of several nodes that answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from listener.call import Call, Reply
from listener.errors import ListenerError
from listener.graph.node import Node

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
        for index, node in enumerate(self._nodes[:-1]):
            try:
                return await node(call)
            except ListenerError as error:
                if error.status < 500 or call.context.remaining() == 0:
                    raise
                fields = {"request_id": call.context.request_id, "reason": error.message}
                log.warning("%r falls back from node %d", self._name, index, extra={"fields": fields})
        return await self._nodes[-1](call)
