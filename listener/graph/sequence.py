"""One node after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from listener.call import Call, Json, Reply
from listener.graph.grouping import each
from listener.graph.step import Node

Input = Literal["prediction", "instance", "both"]


class Sequence_:
    """Makes the predictions of each node the instances of the next.

    Args:
        steps: each node, and what its instances are.
    """

    def __init__(self, steps: Sequence[tuple[Node, Input]]) -> None:
        self._steps = steps

    async def __call__(self, call: Call) -> Reply:
        first, reply = call.plain(), None
        for node, given in self._steps:
            instances: Sequence[Json] = first.instances
            if reply is not None and given != "instance":
                instances = each(reply)
                if given == "both":
                    pairs = zip(first.instances, instances, strict=True)
                    instances = [{"instance": instance, "prediction": made} for instance, made in pairs]
            reply = await node(call._replace(instances=instances, booleans=True))
        assert reply is not None
        return reply


async def passed(call: Call) -> Reply:
    """The node that gives back what it got."""
    return Reply(call.plain().instances)
