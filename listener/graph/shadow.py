"""A second node that gets the same requests afterwards, and whose answers nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from listener.call import Call, Json, Lazy, Reply
from listener.graph.grouping import each
from listener.graph.node import Node
from listener.offload import ASIDE

log = logging.getLogger("listener.shadow")

#: Differences of one request that the log shows.
_SHOWN = 3


@dataclass(slots=True)
class Counts:
    """What has become of the requests: each is one of these."""

    same: int = 0
    different: int = 0
    failed: int = 0
    dropped: int = 0
    answered: int = 0  # nothing was compared


class Shadow:
    """Answers with one node and mirrors the request to another one once the answer is on its way.

    Args:
        name: for the log.
        node: answers.
        mirror: gets a copy; its failure is counted and logged, and nothing else.
        share: of the requests, 0 to 1.
        limit: copies on their way at a time; what comes beyond is dropped.
        compare: whether predictions that differ are logged.
        timeout: seconds for a copy.

    Attributes:
        counts: of the copies.
    """

    def __init__(
        self, name: str, node: Node, mirror: Node, share: float, limit: int, compare: bool, timeout: float
    ) -> None:
        self._name, self._node, self._mirror = name, node, mirror
        self._share, self._limit, self._compare, self._timeout = share, limit, compare, timeout
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self.counts = Counts()

    async def __call__(self, call: Call) -> Reply:
        mirrored = self._share >= 1 or random.random() < self._share
        if not mirrored:
            return await self._node(call)
        if self._waiting >= self._limit:
            self.counts.dropped += 1
            return await self._node(call)
        # what lies in memory of the request is gone when the copy is sent
        kept = call if isinstance(call.instances, Lazy) else call.plain()
        self._waiting += 1
        try:
            reply = await self._node(call)
        except BaseException:
            self._waiting -= 1
            raise
        said = list(each(reply)) if self._compare else []
        call.context.afterwards(lambda: self._begin(kept, said))
        return reply

    def _begin(self, call: Call, said: Sequence[Json]) -> None:
        task = asyncio.get_running_loop().create_task(self._sent(call, said))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._waiting -= 1

    async def _sent(self, call: Call, said: Sequence[Json]) -> None:
        context = call.context._replace(deadline=time.monotonic() + self._timeout, after=None)
        fields = {"request_id": context.request_id}
        ASIDE.set(True)  # this task's alone
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._mirror(call._replace(context=context))
        except Exception as error:
            self.counts.failed += 1
            log.warning(
                "the mirror of %r failed: %s", self._name, error or type(error).__name__, extra={"fields": fields}
            )
            return
        if not self._compare:
            self.counts.answered += 1
            return
        self._tell(said, each(reply), fields)

    def _tell(self, said: Sequence[Json], mirrored: Sequence[Json], fields: dict[str, str]) -> None:
        pairs = enumerate(zip(map(_words, said), map(_words, mirrored), strict=True))
        differing = [(index, pair) for index, pair in pairs if pair[0] != pair[1]]
        if not differing:
            self.counts.same += 1
            return
        self.counts.different += 1
        shown = "; ".join(f"predictions[{i}]: {a[:100]} and {b[:100]}" for i, (a, b) in differing[:_SHOWN])
        log.info(
            "the mirror of %r differs in %d of %d: %s",
            self._name,
            len(differing),
            len(said),
            shown,
            extra={"fields": fields},
        )

    async def close(self) -> None:
        """Gives up what is on its way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _words(prediction: Json) -> str:
    return orjson.dumps(prediction, default=repr, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS).decode()
