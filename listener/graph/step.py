"""The leaf of the graph: one handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import numpy as np

from listener import decoupled
from listener.call import Call, Failed, Json, Reply
from listener.decoupled import Piece
from listener.errors import BadRequest, InstanceError, Unavailable
from listener.graph.grouping import one_by_one
from listener.handler import Handler, check_reply
from listener.hooks import blame, sorted_out
from listener.triton.paths import generate_path
from listener.triton.relay import Relay


class Versions(Protocol):
    """Which versions Triton has; `triton/catalogue.py`."""

    async def has_version(self, name: str, version: str) -> bool: ...


class Step:
    """The leaf: one handler's `predict`, whose failures and wrong results become `HandlerFailed`.

    Args:
        name: of its route, or of the model that it serves without one.
        handler: a bound one.
        relay: to Triton, for models whose answers come in pieces.
        version: of the model where a request asks for none, digits; "" = Triton chooses.
        versions: of the models; None = whether it is there is left to Triton.

    Attributes:
        name: as above.
        model: the name of the model in Triton that the handler's `predict` calls; "" = it has none of its own.
        handler: as above.
        streams: its `predict` is an async generator.
    """

    def __init__(
        self, name: str, handler: Handler, relay: Relay, version: str = "", versions: Versions | None = None
    ) -> None:
        self.version, self._versions = version, versions
        self.name, self.model, self.handler, self._relay = name, handler.model or "", handler, relay
        self.streams = inspect.isasyncgenfunction(handler.predict)
        #: The model that may be decoupled; what a handler does with its models is its own business.
        self._generic = handler.models[self.model] if type(handler) is Handler else None

    def __call__(self, call: Call) -> Awaitable[Reply]:
        if (stay := call.context.stay) is not None:
            stay.took(self.name, self.model)
        if self.version and not call.context.version:
            return self._fixed(call)
        return one_by_one(call, self._asked) if call.alone else self._asked(call)

    async def _fixed(self, call: Call) -> Reply:
        return await self(await self.at_version(call, self.version))

    async def at_version(self, call: Call, version: str) -> Call:
        """The call for a version that listener.yaml names; raises Unavailable if the model does not have it."""
        if self._versions and not await self._versions.has_version(self.model, version):
            raise Unavailable(f"model {self.model!r} has no version {version}")
        return call._replace(context=call.context._replace(version=version))

    async def _asked(self, call: Call) -> Reply:
        if self.is_decoupled:
            return await decoupled.collect(self._relay, self._for_model(call), self.handler.spec)
        usual = self.handler.reads_views
        if not usual:
            call = call.plain()
        if call.shared and self._generic is None:
            call = call.plain().own()
        try:
            reply = await (self._collected(call) if self.streams else self.handler.predict(call))
        except BaseException as error:
            blame(error, self.name, "predict", call.context)
        checked = check_reply(self.name, call, reply)
        return checked if usual else _settled(checked, call.alone)

    @property
    def is_decoupled(self) -> bool:
        """There is no handler, and the model answers in any number of responses.

        Raises:
            Unavailable: the model is not known yet.
        """
        return self._generic is not None and self._generic.spec.decoupled

    def past_handler(self) -> str:
        """The model for a request that goes past the handler.

        Raises:
            BadRequest: there is none.
        """
        if not self.model:
            raise BadRequest(f"route {self.name!r} has no model of its own; it takes instances")
        return self.model

    def generate_request(self, call: Call, said: Mapping[str, Json]) -> tuple[str, bytes]:
        """Path and body of the request to Triton that streams the answer of a model, past any handler.

        Args:
            call: says the version.
            said: the body as the generate extension has it.

        Raises:
            BadRequest: it is nested too deeply.
        """
        return generate_path(self.past_handler(), call.context.version or self.version), decoupled.passed_on(said)

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """What a handler's generator yields, as it does; Triton's events of a decoupled model; else one object with the
        predictions.

        Raises:
            BadRequest: there are several instances for a generator or a decoupled model.
            ListenerError: as the handler has it.
        """
        if self.version and not call.context.version:
            return self._fixed_stream(call)
        if self.streams:
            # its time begins anew with each event, so that it has no deadline that it could know
            return self._told(call._replace(context=call.context._replace(deadline=float("inf"))))
        if self.is_decoupled:
            return decoupled.events(self._relay, self._for_model(call), self.handler.spec)
        return self._whole(call)

    def _for_model(self, call: Call) -> Call:
        return call.for_inputs([tensor.name for tensor in self.handler.spec.inputs])

    async def _fixed_stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        async with aclosing(self.stream(await self.at_version(call, self.version))) as pieces:
            async for piece in pieces:
                yield piece

    async def _whole(self, call: Call) -> AsyncGenerator[Json, None]:
        yield {"predictions": (await self(call)).predictions}

    async def _told(self, call: Call) -> AsyncGenerator[Json, None]:
        events: Any = self.handler.predict(decoupled.only_one(call))
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except BaseException as error:
            blame(error, self.name, "predict", call.context, 0)

    async def _collected(self, call: Call) -> Reply:
        """A generator's events, as the prediction of each instance."""

        async def one(index: int) -> list[Json]:
            events: Any = self.handler.predict(call._replace(instances=[call.instances[index]]))
            try:
                return [event async for event in events]
            except BaseException as error:
                blame(error, self.name, "predict", call.context, index)

        calls = [one(index) for index in range(len(call.instances))]
        return Reply(sorted_out(await asyncio.gather(*calls, return_exceptions=True), call.alone))


def _settled(reply: Reply, alone: bool) -> Reply:
    """The same where a handler gave an `InstanceError` for a prediction, which is as good as raising it."""
    if isinstance(reply.predictions, np.ndarray):
        return reply
    wrong = {index: said for index, said in enumerate(reply.predictions) if isinstance(said, InstanceError)}
    if not wrong:
        return reply
    if not alone:
        index, error = next(iter(wrong.items()))
        raise error.at(index)
    made = [Failed(said.reason) if isinstance(said, InstanceError) else said for said in reply.predictions]
    return reply._replace(predictions=made)
