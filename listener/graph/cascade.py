"""The cheap node first, and the next one for what it is not sure of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from listener.call import Call, Failed, Json, Reply
from listener.errors import HandlerFailed
from listener.graph.choosing import MISSING, reach
from listener.graph.grouping import each, part, placed, put, results
from listener.graph.node import Node
from listener.hooks import Hook
from listener.pool import Pool


class Cascade:
    """Sends the instances whose prediction has too low a score on to the next node, together.

    Args:
        name: for messages.
        nodes: the cheapest first.
        below: scores below this are not good enough; NaN is not either, and what cannot be compared fails the request.
        score: gives that of a prediction, `score_at` or a user's.
        pool: threads for it.
    """

    def __init__(self, name: str, nodes: Sequence[Node], below: float, score: Hook, pool: Pool) -> None:
        self._name = name
        self._nodes, self._below, self._score, self._pool = nodes, below, score, pool

    async def __call__(self, call: Call) -> Reply:
        call = call.plain()._replace(shared=True)
        made, left = list(each(await self._nodes[0](call))), list(range(len(call.instances)))
        for node in self._nodes[1:]:
            left = await self._unsure(call, made, left)
            if not left:
                break
            put(made, left, await part(call, left, node))
        return Reply(made)

    async def _unsure(self, call: Call, made: list[Json], among: Sequence[int]) -> list[int]:
        """The places of predictions that another node shall make. What is the instance's fault none can mend."""
        among = [index for index in among if not isinstance(made[index], Failed)]
        with placed(among):
            scores = await results(self._score, [made[index] for index in among], call, self._pool)
        for index, score in zip(among, scores, strict=True):
            if isinstance(score, Failed):
                made[index] = score
        return [index for index, score in zip(among, scores, strict=True) if not self._is_good(score)]

    def _is_good(self, score: Any) -> bool:
        if isinstance(score, Failed):
            return True
        try:
            return bool(score >= self._below)
        except Exception as error:
            raise HandlerFailed("score", self._name, f"the score is {score!r}, which is no number") from error


def score_at(path: str) -> Callable[[Json], Any]:
    """The function that reads the score `a.b` of a prediction, or the greatest of the numbers there; "" = of all."""
    names = path.split(".") if path else []

    def score(prediction: Json) -> Any:
        found = reach(prediction, names)
        if found is MISSING:
            raise LookupError(f"there is no {path!r}")
        return float(np.max(found))

    return score
