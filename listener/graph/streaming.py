"""Answers that come in pieces, through nodes of every kind.

A node that chooses hands on what it chooses; one that streams has pieces of its own; all others say one, with the
predictions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from listener.call import Call
from listener.decoupled import Piece
from listener.graph.node import Chooses, Node, Streams


async def stream(node: Node, call: Call) -> AsyncGenerator[Piece, None]:
    """What a node answers, in the pieces that it has; raises as the node does.

    Whoever leaves before the end has to close it (`aclosing`).
    """
    while isinstance(node, Chooses):
        node, call = await node.chosen(call)
    if not isinstance(node, Streams):
        yield {"predictions": (await node(call)).predictions}
        return
    async with aclosing(node.stream(call)) as pieces:
        async for piece in pieces:
            yield piece
