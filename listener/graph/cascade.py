"""The cheap node first, and the next one for what it is not sure of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from listener.call import Call, Json, Reply
from listener.errors import HandlerFailed
from listener.graph.choosing import MISSING, not_usable, reach
from listener.graph.grouping import each, part
from listener.graph.step import Node
from listener.nodes import Function


class Cascade:
    """Sends the instances whose prediction has too low a score on to the next node, together.

    Args:
        name: for messages.
        nodes: the cheapest first.
        below: scores below this are not good enough; one that is no number is not either.
        score: where the score lies in a prediction, `a.b`, or a function of one; "" = its own number, or the
            greatest of its numbers.
    """

    def __init__(self, name: str, nodes: Sequence[Node], below: float, score: Function = "") -> None:
        self._name, self._nodes, self._below = name, nodes, below
        self._score: Callable[[Json], Any] = score if callable(score) else _reader(score)

    async def __call__(self, call: Call) -> Reply:
        call = call.plain()
        made, left = list(each(await self._nodes[0](call))), list(range(len(call.instances)))
        for node in self._nodes[1:]:
            left = [index for index in left if not self._is_sure(made[index])]
            if not left:
                break
            for index, prediction in zip(left, await part(call, left, node), strict=True):
                made[index] = prediction
        return Reply(made)

    def _is_sure(self, prediction: Json) -> bool:
        """Raises HandlerFailed where there is no score."""
        try:
            score = self._score(prediction)
            return bool(score >= self._below)
        except HandlerFailed:
            raise
        except (Exception, SystemExit) as error:
            raise not_usable(self._name, f"a prediction has no score: {error!r}") from error


def _reader(path: str) -> Callable[[Json], Any]:
    names = path.split(".") if path else []

    def score(prediction: Json) -> Any:
        found = reach(prediction, names)
        if found is MISSING:
            raise LookupError(f"there is no {path!r}")
        return np.max(found)

    return score
