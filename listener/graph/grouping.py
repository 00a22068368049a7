"""Parts of a request that take different ways, and their predictions in the order of its instances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from listener.at_once import at_once
from listener.call import Call, Failed, Json, Reply
from listener.errors import DeadlineExceeded, InstanceError, InstancesFailed, ListenerError
from listener.graph.node import Node
from listener.hooks import Hook
from listener.pool import Pool

K = TypeVar("K", bound=Hashable)

log = logging.getLogger("listener.graph")

#: Instances that are tried by themselves at a time; those of one model may share calls again (`triton/coalesce.py`). If
#: none of the first ones works, no instance is to blame, and a model that fails on everything is not asked about all.
_PROBED = 8


def by_keys(keys: Sequence[K], node: Callable[[K], Node]) -> Node:
    """The node of the only key; or one that sends the instances of each key together to that key's, all at once.

    Args:
        keys: one for each instance.
        node: of a key.
    """
    places: dict[K, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    if len(places) == 1:
        return node(keys[0])
    return partial(_parted, places=[(node(key), indices) for key, indices in places.items()])


async def _parted(call: Call, places: Sequence[tuple[Node, Sequence[int]]]) -> Reply:
    """What nodes say of their instances, in the order of the request's.

    Raises:
        ListenerError: as the node that fails first; the other ones are cancelled. An `InstanceError` has the place that
            the instance has in `call`.
    """
    answers = await at_once([partial(part, call, indices, node) for node, indices in places])
    made: list[Json] = [None] * len(call.instances)
    for (_, indices), predictions in zip(places, answers, strict=True):
        put(made, indices, predictions)
    return Reply(made)


def put(made: list[Json], places: Sequence[int], predictions: Sequence[Json]) -> None:
    """Puts predictions in their places."""
    for index, prediction in zip(places, predictions, strict=True):
        made[index] = prediction


async def part(call: Call, indices: Sequence[int], node: Node) -> Sequence[Json]:
    """The predictions of some of a request's instances. An `InstanceError` has the place that it has in `call`."""
    instances = call.instances
    with placed(indices):
        return each(await node(call._replace(instances=[instances[index] for index in indices])))


@contextmanager
def placed(indices: Sequence[int]) -> Iterator[None]:
    """Errors about some of a request's instances get the places that these have in it."""
    try:
        yield
    except InstanceError as error:
        raise _placed(error, indices) from None
    except InstancesFailed as error:
        errors = [_placed(one, indices) for one in error.errors]
        raise InstancesFailed(str(errors[0]), errors) from None


def _placed(error: InstanceError, indices: Sequence[int]) -> InstanceError:
    known = error.index is not None and 0 <= error.index < len(indices)
    return error.at(indices[error.index]) if known and error.index is not None else error


async def onward(call: Call, given: Sequence[Json], node: Node) -> Reply:
    """Sends predictions on to a node as its instances, but for those that failed: these stay as they are.

    Raises:
        ListenerError: as the node. An `InstanceError` has the place among what was given.
    """
    left = [index for index, instance in enumerate(given) if not isinstance(instance, Failed)]
    asked = call._replace(instances=given, booleans=True)
    if len(left) == len(given):
        return await node(asked)
    made = list(given)
    if left:
        put(made, left, await part(asked, left, node))
    return Reply(made)


async def one_by_one(call: Call, node: Node) -> Reply:
    """What a node says, with `Failed` for each instance that it blames; it is asked again about the others.

    Where Triton fails on them together, each is tried by itself, once.

    Raises:
        ListenerError: as the node, where no instance of the request is to blame.
        DeadlineExceeded: the time was up before all of them were told.
    """
    failed: dict[int, Failed] = {}
    left = list(range(len(call.instances)))
    asked = call = call._replace(shared=True)
    while left:
        try:
            reply = await node(asked)
        except (InstanceError, InstancesFailed) as error:
            errors = error.errors if isinstance(error, InstancesFailed) else [error]
            places = {each.index: each.reason for each in errors}
            if not places or not all(place in range(len(left)) for place in places):
                raise
            await _turn_of_others(call)
            failed.update((left[place], Failed(reason)) for place, reason in places.items() if place is not None)
            left = [index for index in left if index not in failed]
            plain = call.plain()
            asked = plain._replace(instances=[plain.instances[index] for index in left])
            continue
        except ListenerError as error:
            if not error.of_rows or len(left) == 1:
                raise
            reply = await _each_alone(call.plain(), left, node, error)
        if not failed:
            return reply
        return Reply(_filled(failed, left, each(reply)))
    return Reply([failed[index] for index in range(len(call.instances))])


async def _each_alone(call: Call, left: Sequence[int], node: Node, failure: ListenerError) -> Reply:
    """What a node says of some instances, each by itself; `Failed` for those on which Triton fails again.

    Raises:
        ListenerError: `failure`, which befell them together, where none of the first ones works; or another one.
    """
    first = left[:: -(-len(left) // _PROBED)]  # from everywhere, as wrong ones often stand together
    made = await _tried(call, first, node)
    if all(isinstance(said, Failed) for said in made.values()):
        raise failure
    _note(failure, call)
    made |= await _tried(call, sorted(frozenset(left) - made.keys()), node)
    return Reply([made[index] for index in left])


def _note(failure: ListenerError, call: Call) -> None:
    """The log line of a failure that no caller is told of; as `middleware.refusal` has it."""
    fields = {"request_id": call.context.request_id, "status": failure.status, "code": failure.code}
    level = logging.ERROR if failure.status >= 500 else logging.INFO
    log.log(level, "on several instances together: %s", failure.for_log(), extra={"fields": fields})


async def _tried(call: Call, indices: Sequence[int], node: Node) -> dict[int, Json]:
    """The predictions of instances each by itself, by their places."""
    calls = [partial(_alone, call._replace(instances=[call.instances[index]]), node) for index in indices]
    return dict(zip(indices, await at_once(calls, _PROBED) if calls else [], strict=True))


async def _alone(call: Call, node: Node) -> Json:
    """The prediction of a call's only instance."""
    try:
        return each(await node(call))[0]
    except InstanceError as error:
        return Failed(error.reason)
    except InstancesFailed as error:
        return Failed(error.errors[0].reason if error.errors else error.message)
    except ListenerError as error:
        if not error.of_rows:
            raise
        return Failed(error.message, error.status)


async def _turn_of_others(call: Call) -> None:
    """A node that blames one instance at a time is asked often, and may never wait."""
    await asyncio.sleep(0)
    if call.context.remaining() == 0:
        raise DeadlineExceeded("the request's time is up")


async def results(hook: Hook, items: Sequence[Json], call: Call, pool: Pool) -> list[Json]:
    """What a user's function says of each item; `Failed` for what is an instance's fault, where these fail alone.

    Raises:
        ListenerError: as the function has it. An `InstanceError` has the place among the items.
    """
    try:
        return await hook.each(items, call.context, pool, call.alone)
    except InstancesFailed as error:
        failed = {each.index: Failed(each.reason) for each in error.errors if each.index is not None}
        left = [index for index in range(len(items)) if index not in failed]
        made = await hook.each([items[index] for index in left], call.context, pool, call.alone)
        return _filled(failed, left, made)


def _filled(failed: Mapping[int, Failed], left: Sequence[int], predictions: Sequence[Json]) -> list[Json]:
    made = {**failed, **dict(zip(left, predictions, strict=True))}
    return [made[index] for index in range(len(made))]


def each(reply: Reply) -> Sequence[Json]:
    """The predictions one by one, those of an array as its rows."""
    return reply.predictions if isinstance(reply.predictions, list) else list(reply.predictions)
