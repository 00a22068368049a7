"""Whether predictions can be made now: a poll in the background, so that a health check is answered from memory.

Ready means that Triton answers, every route has the models that it needs (`needs.py`), and every handler that a route
needs has been warmed up since Triton last started. What is not needed is read and warmed up beside that, when it is
there. The listener's own phase comes on top of that (`gate.py`).

The same poll has calls refused at once where they would wait for their deadline. That takes two looks in a row, as one
may be missed because the machine is busy, or this process: health says 503 after the first one, which costs nobody an
answer, and a refusal does. So what is refused is never called ready. A Triton that says itself that it is not ready is
no reason to refuse anything: it does so while it loads one model, and answers for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from listener.call import Call, Context, Json
from listener.errors import ListenerError
from listener.graph.node import Node
from listener.needs import Lack, Leaf, Need, leaves, missing

log = logging.getLogger("listener.readiness")

#: Seconds between looks: a death is seen, and a return to readiness told, well within one second.
_PERIOD_READY, _PERIOD_WAITING = 0.4, 0.2
#: The same after a failure that will hardly go away by itself; each one writes a trace.
_PERIOD_FAILED = 5.0
_DOWN = "Triton is not ready"


class Server(Protocol):
    """Triton, as far as this module cares.

    Attributes:
        answers: it did when it was last asked whether it is ready, be it with a no.
    """

    answers: bool

    async def server_ready(self) -> bool: ...

    async def introduce(self) -> None: ...


class RoutedModel(Protocol):
    """A model behind a route."""

    async def lacks(self, version: str = ...) -> str | None: ...

    async def read_spec(self) -> None: ...

    def refuse(self, sentence: str) -> None: ...


class Index(Protocol):
    """Which models Triton has."""

    async def refresh(self) -> None: ...

    async def ready_names(self) -> frozenset[str]: ...

    def refuse(self, sentence: str) -> None: ...


class WarmUp(NamedTuple):
    """What is sent through a step before it counts as warm.

    Attributes:
        node: the step.
        example: the instance.
        models: Triton's names of those that it may ask.
    """

    node: Node
    example: Json
    models: frozenset[str]


class Readiness:
    """Keeps the list of what is missing up to date.

    Args:
        server: Triton.
        index: of its models.
        models: every model that a step may ask, by name.
        needs: of each route, by its name.
        warm_up: by step.
        timeout: seconds for one warm-up request.

    Attributes:
        missing: what the service waits for, a sentence each; empty = it is ready.
    """

    def __init__(
        self,
        server: Server,
        index: Index,
        models: Mapping[str, RoutedModel],
        needs: Mapping[str, Need],
        warm_up: Mapping[str, WarmUp],
        timeout: float,
    ) -> None:
        self._server, self._index, self._models, self._needs = server, index, models, needs
        self._warm_up, self._timeout = warm_up, timeout
        needed = [leaf for need in needs.values() for leaf in leaves(need)]
        self._needed_steps = {leaf.step for leaf in needed}
        #: Models, and those versions that a step asks for.
        self._asked = list(
            dict.fromkeys([*((name, "") for name in models), *((at.model, at.version) for at in needed)])
        )
        self._silent = False  # at the last look, Triton was
        self._doubted: set[str] = set()  # models that were lacking at the last look
        self._refused: set[str] = set()  # models
        self._read: set[str] = set()  # models that were read at some time, and so are called
        self._introduced = False  # since Triton last became ready
        self._lacking: dict[tuple[str, str], str] | None = None  # sentences, by model and version; None = not known
        self._unread: dict[str, str] = {}  # sentences, by model
        self._cold: dict[str, str] = {}  # steps whose warm-up did not work, with a sentence
        self._warm: set[str] = set()
        self._known: set[str] = set()
        self._aside: asyncio.Task[None] | None = None  # warms up what nobody waits for
        self._noted: list[str] = []
        self._pause = _PERIOD_WAITING
        self._failing = False  # the last warm-up did not work; health keeps saying why while it is tried again
        self.missing: list[str] = ["Triton has not been asked yet"]

    @property
    def ready(self) -> bool:
        return not self.missing

    def lacks(self, route: str) -> list[str]:
        """What one route of `needs` waits for, as the last look had it; empty = it is ready."""
        if self._lacking is None:
            return self.missing
        return missing(self._needs[route], self._lack_or_cold, route)

    async def watch(self) -> None:
        """Looks again and again until cancelled; a change is logged."""
        try:
            while True:
                self._pause = _PERIOD_WAITING
                try:
                    self._tell(await self._look())
                except Exception:
                    log.exception("the readiness check itself failed")
                    self._tell(["the readiness check failed; the log has the reason"])
                    self._pause = _PERIOD_FAILED
                await asyncio.sleep(_PERIOD_READY if self.ready else self._pause)
        finally:
            self._end_aside()

    def _tell(self, missing: list[str]) -> None:
        if missing != self.missing:
            log.info("%s", f"not ready: {'; '.join(missing)}" if missing else "ready")
        self.missing = missing

    async def _look(self) -> list[str]:
        ready = await self._server.server_ready()
        silent, self._silent = self._silent, not self._server.answers
        if not ready:
            self._forget()
            if self._server.answers:
                await self._ask_what_is_there()
            elif silent:
                self._index.refuse(_DOWN)
                self._refused = set(self._models)
            return [_DOWN]
        await self._ask_models()
        if not self._introduced:
            await self._server.introduce()
            try:
                await self._index.refresh()
            except ListenerError as error:
                return [error.message]
            self._introduced = True
        await self._read_specs()
        if lacking := self._missing(self._lack):
            self._warm.clear()
            self._end_aside()
            return lacking
        await self._warm_up_cold()
        self._note_what_is_not_needed()
        return self._missing(self._lack_or_cold)

    async def _ask_what_is_there(self) -> None:
        """What of a Triton that is not ready as a whole can be called all the same: one question, as it is busy."""
        if not self._read:
            return
        try:
            there = await self._index.ready_names()
        except ListenerError:
            return
        self._refuse({name: f"model {name!r} is not ready" for name in sorted(self._read - there)})
        for name in self._refused & there:
            with contextlib.suppress(ListenerError):
                await self._read_spec(name)

    def _refuse(self, lacking: Mapping[str, str]) -> None:
        """Refuses calls of the models that are lacking, by the sentence, if they were so at the last look."""
        for name in self._doubted & lacking.keys():
            self._models[name].refuse(lacking[name])
            self._refused.add(name)
        self._doubted = set(lacking)

    def _forget(self) -> None:
        """A restarted Triton may serve other versions."""
        self._warm.clear()
        self._known.clear()
        self._cold.clear()
        self._introduced, self._lacking = False, None
        self._end_aside()

    def _missing(self, lack: Lack) -> list[str]:
        return list(dict.fromkeys(said for name, need in self._needs.items() for said in missing(need, lack, name)))

    def _lack(self, leaf: Leaf) -> str:
        return (self._lacking or {}).get((leaf.model, leaf.version)) or self._unread.get(leaf.model, "")

    def _lack_or_cold(self, leaf: Leaf) -> str:
        return self._lack(leaf) or self._cold.get(leaf.step, "")

    async def _ask_models(self) -> None:
        lacks = await asyncio.gather(*(self._models[name].lacks(version) for name, version in self._asked))
        found = zip(self._asked, lacks, strict=True)
        self._lacking = {(name, version): f"model {name!r} {lack}" for (name, version), lack in found if lack}
        gone = {name: said for (name, version), said in self._lacking.items() if not version}
        self._refuse(gone)
        self._known -= gone.keys()
        self._warm -= {step for step, warm_up in self._warm_up.items() if warm_up.models & gone.keys()}
        self._unread.clear()

    async def _read_specs(self) -> None:
        """Reads those models that are there and not known yet."""
        assert self._lacking is not None
        for name in self._models:
            if name not in self._known and (name, "") not in self._lacking:
                try:
                    await self._read_spec(name)
                    self._known.add(name)
                except ListenerError as error:
                    self._unread[name] = error.message

    async def _read_spec(self, name: str) -> None:
        """Reads a model, after which it is not refused any more."""
        await self._models[name].read_spec()
        self._read.add(name)
        self._refused.discard(name)

    async def _warm_up_cold(self) -> None:
        """Warms up what is cold and can be asked: what is needed at once, all else once the service is ready."""
        cold = [
            step for step, warm_up in self._warm_up.items() if step not in self._warm and warm_up.models <= self._known
        ]
        if self.ready:
            if cold and (self._aside is None or self._aside.done()):
                self._aside = asyncio.create_task(self._warm_aside(cold))
            return
        self._cold.clear()
        needed = [step for step in cold if step in self._needed_steps]
        for step in needed:
            if not self._failing:
                self._tell([f"route {name!r} is being warmed up" for name in needed if name not in self._warm])
            await self._warm_step(step)
        self._failing = bool(self._cold)
        if self._failing:
            self._pause = _PERIOD_FAILED

    async def _warm_aside(self, steps: Sequence[str]) -> None:
        """The service is ready without these, and stays so. A failure is told by the log."""
        for step in steps:
            try:
                await self._warm_step(step)
            except Exception:
                log.exception("the warm-up of %r failed", step)
            else:
                if step in self._cold:
                    log.warning("%s", self._cold[step])
        if not self._warm.issuperset(steps):
            await asyncio.sleep(_PERIOD_FAILED)

    def _end_aside(self) -> None:
        if self._aside:
            self._aside.cancel()

    async def _warm_step(self, step: str) -> None:
        """A failure is a bug, or lasts: it is tried again, but not five times a second."""
        node, example, _ = self._warm_up[step]
        context = Context(request_id=f"warm-up-{step}", deadline=time.monotonic() + self._timeout)
        self._cold.pop(step, None)
        try:
            async with asyncio.timeout(self._timeout):
                await node(Call([example], context))
        except ListenerError as error:
            self._cold[step] = f"the warm-up of route {step!r} failed: {error.message}"
        except TimeoutError:
            self._cold[step] = f"the warm-up of route {step!r} took longer than {self._timeout:g} s"
        else:
            self._warm.add(step)

    def _note_what_is_not_needed(self) -> None:
        """Says once in the log what the service does without."""
        lacking = [*(self._lacking or {}).values(), *self._unread.values()]
        if lacking and lacking != self._noted:
            log.warning("ready all the same: %s", "; ".join(lacking))
        self._noted = lacking
