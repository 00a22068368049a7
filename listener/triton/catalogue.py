"""Which models and versions Triton has, and each as a `Model`, whether or not a route names it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from listener.by_name import ByName
from listener.errors import Unavailable
from listener.triton.client import TritonClient
from listener.triton.model import Model

#: Seconds in which Triton is asked but once for what is not in its index: anybody can send names.
_ASK_AGAIN = 1.0


class Catalogue:
    """The models of one Triton.

    Args:
        client: of that Triton.
        coalesces: whether requests for a model may share a call.
        routed: names of models that `Readiness` looks after, and handlers may call; the others are read when somebody
            asks for them.

    Attributes:
        refusal: why none of them is called, routed or not; "" = Triton answers.
    """

    def __init__(self, client: TritonClient, coalesces: Callable[[str], bool], routed: Iterable[str]) -> None:
        self._client, self._coalesces = client, coalesces
        self.routed: Mapping[str, Model] = ByName({name: self._make(name) for name in routed})
        self._models: dict[str, Model] = dict(self.routed)
        self._index: dict[str, tuple[str, ...]] = {}
        self._read: set[str] = set()  # whose configuration is that of Triton's last start
        self._asked = float("-inf")
        self._answers = False  # Triton did, when it was last asked
        self._turn = asyncio.Lock()
        self.refusal = ""

    async def refresh(self) -> None:
        """What a Triton that has just become ready has.

        Raises:
            Unavailable: it does not say.
        """
        await self._ask()
        self._read.clear()
        self.refusal = ""

    async def ready_names(self) -> frozenset[str]:
        """The models that Triton has a version of that can be called now.

        Raises:
            Unavailable: it does not say.
        """
        return frozenset(name for name, versions in (await self._client.index()).items() if versions)

    def refuse(self, sentence: str) -> None:
        """Refuses calls of every model: those of no route until `refresh`, the routed ones until they are read anew."""
        self.refusal = sentence
        self._read.clear()
        for model in self._models.values():
            model.refuse(sentence)

    def names(self) -> list[str]:
        """Every model of the repository, in order.

        Raises:
            Unavailable: Triton has not said yet.
        """
        if not self._index and not self._answers:
            raise Unavailable("Triton has not said yet which models it has")
        return list(self._index)

    async def find(self, name: str) -> Model | None:
        """A model that can be called; None = there is none of that name.

        Raises:
            Unavailable: it is there and not ready, or Triton does not answer.
        """
        if not await self._knows(lambda: name in self._index):
            return None
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = self._make(name)
        if name not in self.routed and name not in self._read:
            if self.refusal:
                raise Unavailable(self.refusal)
            await model.read_spec()
            self._read.add(name)
        return model

    async def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a model that can be called; none of one that is not there.

        Raises:
            Unavailable: Triton does not answer.
        """
        await self._knows(lambda: bool(self._index.get(name)))
        return self._index.get(name, ())

    async def has_version(self, name: str, version: str) -> bool:
        """Whether that version can be called; raises as `versions` does."""
        return await self._knows(lambda: version in self._index.get(name, ()))

    async def ready(self, name: str, version: str = "") -> bool:
        """Whether Triton says so now; never raises."""
        return await self._client.model_ready(name, version)

    async def _knows(self, is_there: Callable[[], bool]) -> bool:
        """Whether something is in the index, which may be out of date. One asks, and all wait for what it hears."""
        if is_there():
            return True
        async with self._turn:
            if not is_there() and time.monotonic() - self._asked > _ASK_AGAIN:
                await self._ask()
        if not is_there() and not self._answers:
            raise Unavailable("Triton does not say which models it has")
        return is_there()

    async def _ask(self) -> None:
        try:
            self._index = await self._client.index()
        except Unavailable:
            self._answers, self._asked = False, time.monotonic()
            raise
        self._answers, self._asked = True, time.monotonic()

    def _make(self, name: str) -> Model:
        return Model(name, self._client, self._coalesces(name), has_version=partial(self.has_version, name))
