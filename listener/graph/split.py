"""One of several nodes by chance, in proportion to weights; a key can stay where it is."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping

from listener.call import Call, Json, Reply
from listener.graph.choosing import Source, read, source, word
from listener.graph.grouping import by_keys
from listener.graph.node import Node
from listener.nodes import From

#: Of a hash, of which a double tells 53 bits apart.
_BYTES, _SPARE = 8, 12
_RANGE = float(2 ** (8 * _BYTES - _SPARE))


class Split:
    """Sends a request, or each instance by its key, to one of several nodes.

    Args:
        name: two splits of different names draw differently.
        weights: by arm; above 0.
        nodes: by arm.
        sticky: the key; None, or where a request has none, null or an empty text: drawn once for the request.
    """

    def __init__(
        self, name: str, weights: Mapping[str, float], nodes: Mapping[str, Node], sticky: From | None = None
    ) -> None:
        self._name, self._weights, self._nodes = name, weights, nodes
        self._sticky = sticky
        self._source: Source | None = None if sticky is None else source(sticky)

    async def __call__(self, call: Call) -> Reply:
        node, call = await self.chosen(call)
        return await node(call)

    async def chosen(self, call: Call) -> tuple[Node, Call]:
        """The node of all instances, or what sends each to its own."""
        if self._sticky is None or self._source is None:
            return self._nodes[self._drawn()], call
        drawn = self._drawn()
        keys = [self.arm(key) if (key := _key(value)) else drawn for value in await self._source(call)]
        return by_keys(keys, self._nodes.__getitem__), read(call, self._sticky)

    def arm(self, key: str) -> str:
        """The arm of a key: the same in every process and after every restart.

        Weighted rendezvous hashing: each arm draws a number of its own for the key, and the best one has it. So another
        weight, or another arm, moves keys to or from that arm alone:
        https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash
        """
        return max(self._weights, key=lambda arm: self._weights[arm] / -math.log(self._unit(arm, key)))

    def _unit(self, arm: str, key: str) -> float:
        """A number between 0 and 1, both excluded."""
        text = "\0".join((self._name, arm, key)).encode(errors="surrogatepass")
        number = int.from_bytes(hashlib.blake2b(text, digest_size=_BYTES).digest()) >> _SPARE
        return (number + 0.5) / _RANGE

    def _drawn(self) -> str:
        return random.choices(list(self._weights), list(self._weights.values()))[0]


def _key(value: Json) -> str | None:
    return None if value is None else word(value)
