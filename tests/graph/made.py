"""Nodes as the builder makes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from listener.call import Call, Json, Reply
from listener.graph.cascade import Cascade, score_at
from listener.graph.choosing import Asked, source
from listener.graph.ensemble import MERGES, Ensemble
from listener.graph.node import Node
from listener.graph.switch import Switch
from listener.hooks import Hook
from listener.nodes import From
from listener.pool import Pool


def saying(*predictions: Json) -> Callable[[Call], Any]:
    async def node(call: Call) -> Reply:
        return Reply(list(predictions))

    return node


POOL = Pool(1)


def switch(on: From, cases: Mapping[str, Node], otherwise: Node | None) -> Switch:
    given = Asked(Hook("s", "function", on.what), POOL) if callable(on.what) else source(on)
    return Switch(on, given, cases, otherwise)


def cascade(nodes: Sequence[Node], below: float, score: Any = "") -> Cascade:
    return Cascade("c", nodes, below, Hook("c", "score", score if callable(score) else score_at(score)), POOL)


def ensemble(members: Mapping[str, Node], merge: Any = "object", optional: Collection[str] = ()) -> Ensemble:
    return Ensemble("e", members, Hook("e", "merge", merge if callable(merge) else MERGES[merge]), POOL, optional)
