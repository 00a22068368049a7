"""Answers that come in pieces, through nodes of every kind.

A node may have one of two more methods. `async def chosen(call) -> (node, call)` is of one that does nothing but choose
another one; `def stream(call) -> AsyncGenerator[Piece]` is of one with pieces of its own. All others say a single
piece, with the predictions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from listener.call import Call
from listener.decoupled import Piece
from listener.graph.node import Node


async def stream(node: Node, call: Call) -> AsyncGenerator[Piece, None]:
    """What a node answers, in the pieces that it has; raises as the node does.

    Whoever leaves before the end has to close it (`aclosing`).
    """
    while choose := getattr(node, "chosen", None):
        node, call = await choose(call)
    if (pieces_of := getattr(node, "stream", None)) is None:
        yield {"predictions": (await node(call)).predictions}
        return
    async with aclosing(pieces_of(call)) as pieces:
        async for piece in pieces:
            yield piece
