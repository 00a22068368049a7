"""The leaf of the graph: one handler."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias

from listener import decoupled
from listener.call import Call, Json, Reply
from listener.errors import Unavailable
from listener.handler import Handler, check_reply
from listener.hooks import blamed, together
from listener.triton.paths import generate_path
from listener.triton.relay import Relay

#: Every node of the graph.
Node: TypeAlias = Callable[[Call], Awaitable[Reply]]


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
        model: the name of the model in Triton that the handler's `predict` calls.
        handler: as above.
        streams: its `predict` is an async generator.
    """

    def __init__(
        self, name: str, handler: Handler, relay: Relay, version: str = "", versions: Versions | None = None
    ) -> None:
        self.version, self._versions = version, versions
        self.name, self.model, self.handler, self._relay = name, handler.model, handler, relay
        self.streams = inspect.isasyncgenfunction(handler.predict)
        #: The model that may be decoupled; what a handler does with its models is its own business.
        self._generic = handler.models[handler.model] if type(handler) is Handler else None

    async def __call__(self, call: Call) -> Reply:
        if self.version and not call.context.version:
            if self._versions and not await self._versions.has_version(self.model, self.version):
                raise Unavailable(f"model {self.model!r} has no version {self.version}")
            call = call._replace(context=call.context._replace(version=self.version))
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

    @property
    def is_decoupled(self) -> bool:
        """There is no handler, and the model answers in any number of responses.

        Raises:
            Unavailable: the model is not known yet.
        """
        return self._generic is not None and self._generic.spec.decoupled

    def generate_request(self, call: Call, said: Mapping[str, Json] | None = None) -> tuple[str, bytes]:
        """Path and body of the request to Triton that streams the answer of a model, past any handler.

        Args:
            call: with one instance.
            said: the body as the generate extension has it, in place of the instance.

        Raises:
            BadRequest: there are several instances, or the model does not take this one.
        """
        path = generate_path(self.model, call.context.version or self.version)
        if said is not None:
            return path, decoupled.passed_on(said)
        return path, decoupled.generate_body(decoupled.only_one(call), 0, self.handler.spec)

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """What a handler's generator yields, as it does; else one object with the predictions.

        Raises:
            BadRequest: there is a generator, and several instances.
            ListenerError: as the handler has it.
        """
        if not self.streams:
            reply = await self(call)
            yield {"predictions": reply.predictions}
            return
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
