"""Several nodes at once, merged into one prediction for each instance."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from listener.at_once import at_once
from listener.call import Call, Failed, Json, Reply
from listener.errors import ListenerError
from listener.graph.grouping import each, placed, put, results
from listener.graph.node import Node
from listener.hooks import Hook
from listener.pool import Pool
from listener.said import words

log = logging.getLogger("listener.graph")

#: The predictions of one instance by member -> one.
Merge = Callable[[Mapping[str, Json]], Json]


class Ensemble:
    """Asks all members, and merges what they say.

    Args:
        name: for the log.
        members: by name.
        merge: one of `MERGES`, or a user's; members that failed are None.
        pool: threads for it.
        optional: members that may fail (5xx).
    """

    def __init__(
        self, name: str, members: Mapping[str, Node], merge: Hook, pool: Pool, optional: Collection[str] = ()
    ) -> None:
        self._name = name
        self._members, self._optional, self._merge, self._pool = members, frozenset(optional), merge, pool

    async def __call__(self, call: Call) -> Reply:
        call = call.plain()._replace(shared=True)
        answers = await at_once([partial(self._asked, name, node, call) for name, node in self._members.items()])
        made = [_first_failed(row) for row in zip(*answers, strict=True)]
        good = [index for index, failed in enumerate(made) if failed is None]
        rows = [dict(zip(self._members, (answer[index] for answer in answers), strict=True)) for index in good]
        with placed(good):
            merged = await results(self._merge, rows, call, self._pool)
        put(made, good, merged)
        return Reply(made)

    async def _asked(self, name: str, node: Node, call: Call) -> Sequence[Json]:
        try:
            return each(await node(call))
        except ListenerError as error:
            if error.status < 500 or name not in self._optional:
                raise
            fields = {"request_id": call.context.request_id, "reason": error.message}
            log.warning("%r goes on without its member %r", self._name, name, extra={"fields": fields})
            return [None] * len(call.instances)


def _first_failed(row: Sequence[Json]) -> Json:
    """What one of the members says of an instance that is at fault; None = none does."""
    return next((made for made in row if isinstance(made, Failed)), None)


def _mean(row: Mapping[str, Json]) -> Json:
    """Of numbers, or of lists or objects of numbers that are alike."""
    values = [value for value in row.values() if value is not None]
    if not values:
        return None
    if isinstance(values[0], dict):
        return {key: _mean({str(n): value[key] for n, value in enumerate(values)}) for key in values[0]}
    arrays = [np.asarray(value) for value in values]
    kind = np.result_type(*arrays)
    made: Any = np.mean(np.array(arrays, np.float64), axis=0)
    # no more digits than they had
    return made.astype(kind)[()] if kind.kind == "f" and kind.itemsize < 8 else made.tolist()


def _vote(row: Mapping[str, Json]) -> Json:
    """What most members say; of several such, what the first of them does."""
    values = [value for value in row.values() if value is not None]
    said = [words(value) for value in values]
    return values[said.index(Counter(said).most_common(1)[0][0])] if values else None


#: Those that listener.yaml knows.
MERGES: Mapping[str, Merge] = {"object": dict, "mean": _mean, "vote": _vote}
