"""A second node that gets the same requests afterwards, and whose answers nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from listener.call import Call, Json, Lazy, Reply
from listener.decoupled import Piece
from listener.graph.grouping import each
from listener.graph.node import Node
from listener.graph.streaming import stream
from listener.offload import ASIDE
from listener.said import words

log = logging.getLogger("listener.shadow")

#: Differences of one request that the log shows.
_SHOWN = 3
#: Seconds between two lines about copies that were dropped.
_QUIET = 10.0
#: Seconds for mirrors to end when the service does.
_CLOSING = 1.0


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
        self._quiet_until = 0.0
        self._running: set[asyncio.Task[None]] = set()
        self.counts = Counts()

    async def __call__(self, call: Call) -> Reply:
        if not self._draws():
            return await self._node(call)
        kept = _kept(call)
        reply = await self._node(call._replace(shared=True))
        said = list(each(reply)) if self._compare else None
        call.context.afterwards(lambda: self._begin(kept, said))
        return reply

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """The pieces of the node that answers. The mirror's answer is not compared with them."""
        kept = _kept(call) if self._draws() else None
        async with aclosing(stream(self._node, call._replace(shared=kept is not None))) as pieces:
            async for piece in pieces:
                yield piece
        if kept is not None:
            call.context.afterwards(lambda: self._begin(kept, None))

    def _draws(self) -> bool:
        return self._share >= 1 or random.random() < self._share

    def _begin(self, call: Call, said: Sequence[Json] | None) -> None:
        if len(self._running) >= self._limit:
            self._drop()
            return
        task = asyncio.get_running_loop().create_task(self._sent(call, said))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _drop(self) -> None:
        self.counts.dropped += 1
        if (now := time.monotonic()) < self._quiet_until:
            return
        self._quiet_until = now + _QUIET
        told = "%r has dropped %d copies for its mirror so far: %d are on their way"
        log.warning(told, self._name, self.counts.dropped, len(self._running))

    async def _sent(self, call: Call, said: Sequence[Json] | None) -> None:
        context = call.context._replace(deadline=time.monotonic() + self._timeout, stay=None)
        fields = {"request_id": context.request_id}
        ASIDE.set(True)  # this task's alone
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._mirror(call._replace(context=context, shared=True))
        except Exception as error:
            self.counts.failed += 1
            log.warning(
                "the mirror of %r failed: %s", self._name, error or type(error).__name__, extra={"fields": fields}
            )
            return
        if said is None:
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
        """Gives up what is on its way, and does not wait long for what will not end."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSING)


def _kept(call: Call) -> Call:
    """The copy: what lies in memory of the request is gone when it is sent."""
    return call if isinstance(call.instances, Lazy) else call.plain()


def _words(prediction: Json) -> str:
    try:
        return words(prediction)
    except TypeError:  # which fails its request, or would
        return repr(prediction)
