"""One node after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from listener.call import Call, Failed, Json, Reply
from listener.graph.grouping import each, onward
from listener.graph.node import Node

Input = Literal["prediction", "instance", "both"]


class Sequence_:
    """Makes the predictions of each node the instances of the next.

    Args:
        steps: each node, and what its instances are.
    """

    def __init__(self, steps: Sequence[tuple[Node, Input]]) -> None:
        self._steps = steps

    async def __call__(self, call: Call) -> Reply:
        first, reply = call.plain()._replace(shared=True), None
        for node, given in self._steps:
            asked, instances = first, first.instances
            if reply is not None:
                pairs = zip(first.instances, each(reply), strict=True)
                instances = [_next(given, instance, made) for instance, made in pairs]
                asked = first if given == "instance" else _of_ours(first)
            reply = await onward(asked, instances, node)
        assert reply is not None
        return reply


def _of_ours(call: Call) -> Call:
    """The call whose instances are no more what the caller sent."""
    return call._replace(context=call.context._replace(media_type=""), chosen_by=frozenset())


def _next(given: Input, instance: Json, prediction: Json) -> Json:
    """The next node's instance; what has failed stays so."""
    if given == "prediction" or isinstance(prediction, Failed):
        return prediction
    return instance if given == "instance" else {"instance": instance, "prediction": prediction}


async def passed(call: Call) -> Reply:
    """The node that gives back what it got."""
    return Reply(call.plain().instances)
