"""Parts of a request that take different ways, and their predictions in the order of its instances."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar

from listener.at_once import at_once
from listener.call import Call, Json, Reply
from listener.errors import InstanceError
from listener.graph.step import Node

K = TypeVar("K", bound=Hashable)


def by_keys(keys: Sequence[K], node: Callable[[K], Node]) -> Node:
    """The node of the only key, or one that sends the instances of each key to that key's (`by_key`)."""
    return node(keys[0]) if len(set(keys)) == 1 else partial(by_key, keys=keys, node=node)


async def by_key(call: Call, keys: Sequence[K], node: Callable[[K], Node]) -> Reply:
    """Sends the instances of each key together to that key's node, all nodes at once, and joins what they say.

    Args:
        call: the request.
        keys: one for each instance.
        node: of a key.

    Raises:
        ListenerError: as the node that fails first; the other ones are cancelled. An `InstanceError` has the place that
            the instance has in `call`.
    """
    places: dict[K, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    if len(places) == 1:
        return await node(next(iter(places)))(call)
    answers = await at_once([partial(part, call, indices, node(key)) for key, indices in places.items()])
    made: list[Json] = [None] * len(keys)
    for indices, predictions in zip(places.values(), answers, strict=True):
        for index, value in zip(indices, predictions, strict=True):
            made[index] = value
    return Reply(made)


async def part(call: Call, indices: Sequence[int], node: Node) -> Sequence[Json]:
    """The predictions of some of a request's instances; raises as `by_key`."""
    instances = call.instances
    try:
        reply = await node(call._replace(instances=[instances[index] for index in indices]))
    except InstanceError as error:
        raise error if error.index is None else error.at(indices[error.index]) from None
    return each(reply)


def each(reply: Reply) -> Sequence[Json]:
    """The predictions one by one, those of an array as its rows."""
    return reply.predictions if isinstance(reply.predictions, list) else list(reply.predictions)
