"""Several nodes at once, merged into one prediction for each instance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson

from listener.at_once import at_once
from listener.call import Call, Json, Reply
from listener.errors import ListenerError
from listener.graph.choosing import not_usable
from listener.graph.grouping import each
from listener.graph.step import Node
from listener.nodes import Function

#: The predictions of one instance by member -> one.
Merge = Callable[[Mapping[str, Json]], Json]


class Ensemble:
    """Asks all members, and merges what they say.

    Args:
        name: for messages.
        members: by name.
        merge: `object`, `mean`, `vote` or a function; members that failed are None.
        optional: members that may fail (5xx).
    """

    def __init__(
        self, name: str, members: Mapping[str, Node], merge: Function = "object", optional: Collection[str] = ()
    ) -> None:
        self._name, self._members, self._optional = name, members, frozenset(optional)
        self._merge: Merge = merge if callable(merge) else _MERGES[merge]

    async def __call__(self, call: Call) -> Reply:
        call = call.plain()
        answers = await at_once([partial(self._asked, name, node, call) for name, node in self._members.items()])
        rows = zip(*answers, strict=True)
        return Reply([self._merged(dict(zip(self._members, row, strict=True))) for row in rows])

    async def _asked(self, name: str, node: Node, call: Call) -> Sequence[Json]:
        try:
            return each(await node(call))
        except ListenerError as error:
            if error.status < 500 or name not in self._optional:
                raise
            return [None] * len(call.instances)

    def _merged(self, row: Mapping[str, Json]) -> Json:
        try:
            return self._merge(row)
        except ListenerError:
            raise
        except (Exception, SystemExit) as error:
            raise not_usable(self._name, f"predictions cannot be merged: {error!r}") from error


def _mean(row: Mapping[str, Json]) -> Json:
    """Of numbers, or of lists or objects of numbers that are alike."""
    values = [value for value in row.values() if value is not None]
    if not values:
        return None
    if isinstance(values[0], dict):
        return {key: _mean({str(n): value[key] for n, value in enumerate(values)}) for key in values[0]}
    made: Any = np.mean(np.array([np.asarray(value, np.float64) for value in values]), axis=0)
    return made.tolist()


def _vote(row: Mapping[str, Json]) -> Json:
    """What most members say; of several such, what the first of them does."""
    values = [value for value in row.values() if value is not None]
    words = [orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS) for value in values]
    return values[words.index(Counter(words).most_common(1)[0][0])] if values else None


_MERGES: Mapping[str, Merge] = {"object": dict, "mean": _mean, "vote": _vote}
