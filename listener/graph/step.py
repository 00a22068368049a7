"""The leaf of the graph: one handler."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

from listener import decoupled
from listener.call import Call, Json, Reply
from listener.decoupled import Piece
from listener.handler import Handler, check_reply
from listener.hooks import blamed, together
from listener.triton.paths import generate_path
from listener.triton.relay import Relay

#: Every node of the graph.
Node: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Step:
    """The leaf: one handler's `predict`, whose failures and wrong results become `HandlerFailed`.

    Args:
        name: of its route, or of the model that it serves without one.
        handler: a bound one.
        relay: to Triton, for models whose answers come in pieces.
        version: of the model where a request asks for none, digits; "" = Triton chooses.

    Attributes:
        name: as above.
        model: the name of the model in Triton that the handler's `predict` calls.
        handler: as above.
        streams: its `predict` is an async generator.
    """

    def __init__(self, name: str, handler: Handler, relay: Relay, version: str = "") -> None:
        self.version = version
        self.name, self.model, self.handler, self._relay = name, handler.model, handler, relay
        self.streams = inspect.isasyncgenfunction(handler.predict)
        #: The model that may be decoupled; what a handler does with its models is its own business.
        self._generic = handler.models[handler.model] if type(handler) is Handler else None

    async def __call__(self, call: Call) -> Reply:
        call = self._versioned(call)
        if self.is_decoupled:
            return await decoupled.collect(self._relay, call, self.handler.spec)
        if not self.handler.reads_views:
            call = call.plain()
        try:
            reply = await (self._collected(call) if self.streams else self.handler.predict(call))
        except BaseException as error:
            if (told := blamed(error, self.name, "predict", call.context)) is error:
                raise
            raise told from error
        return check_reply(self.name, call, reply)

    def _versioned(self, call: Call) -> Call:
        if not self.version or call.context.version:
            return call
        return call._replace(context=call.context._replace(version=self.version))

    @property
    def is_decoupled(self) -> bool:
        """There is no handler, and the model answers in any number of responses.

        Raises:
            Unavailable: the model is not known yet.
        """
        return self._generic is not None and self._generic.spec.decoupled

    def generate_request(self, call: Call, said: Mapping[str, Json]) -> tuple[str, bytes]:
        """Path and body of the request to Triton that streams the answer of a model, past any handler.

        Args:
            call: says the version.
            said: the body as the generate extension has it.

        Raises:
            BadRequest: it is nested too deeply.
        """
        return generate_path(self.model, self._versioned(call).context.version), decoupled.passed_on(said)

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """What a handler's generator yields, as it does; Triton's events of a decoupled model; else one object with the
        predictions.

        Raises:
            BadRequest: there are several instances for a generator or a decoupled model.
            ListenerError: as the handler has it.
        """
        call = self._versioned(call)
        if self.streams:
            # its time begins anew with each event, so that it has no deadline that it could know
            return self._told(call._replace(context=call.context._replace(deadline=float("inf"))))
        return decoupled.events(self._relay, call, self.handler.spec) if self.is_decoupled else self._whole(call)

    async def _whole(self, call: Call) -> AsyncGenerator[Json, None]:
        yield {"predictions": (await self(call)).predictions}

    async def _told(self, call: Call) -> AsyncGenerator[Json, None]:
        events: Any = self.handler.predict(decoupled.only_one(call))
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except BaseException as error:
            if (told := blamed(error, self.name, "predict", call.context, 0)) is error:
                raise
            raise told from error

    async def _collected(self, call: Call) -> Reply:
        """A generator's events, as the prediction of each instance."""

        async def one(index: int) -> list[Json]:
            events: Any = self.handler.predict(call._replace(instances=[call.instances[index]]))
            try:
                return [event async for event in events]
            except BaseException as error:
                if (told := blamed(error, self.name, "predict", call.context, index)) is error:
                    raise
                raise told from error

        return Reply(list(await together([one(index) for index in range(len(call.instances))])))
