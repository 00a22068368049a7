"""The graph of a service: callables from `Call` to `Reply`, all with one signature, wrapped around one another."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias

from listener import decoupled
from listener.call import Call, Context, Json, Reply
from listener.errors import BadRequest, ListenerError, UnknownModel
from listener.handler import Handler, Model, check_reply
from listener.hooks import blamed, together
from listener.pool import Pool
from listener.triton.paths import generate_path
from listener.triton.relay import Relay

#: Every node of the graph.
Node: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Models(Protocol):
    """What Triton has; `triton/catalogue.py`."""

    def names(self) -> list[str]: ...

    async def find(self, name: str) -> Model | None: ...

    async def versions(self, name: str) -> tuple[str, ...]: ...

    async def has_version(self, name: str, version: str) -> bool: ...


class Step:
    """The leaf: one handler's `predict`, whose failures and wrong results become `HandlerFailed`.

    Args:
        name: of its route, or of the model that it serves without one.
        handler: a bound one.
        relay: to Triton, for models whose answers come in pieces.

    Attributes:
        name: as above.
        model: the name of the model in Triton that the handler's `predict` calls.
        handler: as above.
        streams: its `predict` is an async generator.
    """

    def __init__(self, name: str, handler: Handler, relay: Relay) -> None:
        self.name, self.model, self.handler, self._relay = name, handler.model, handler, relay
        self.streams = inspect.isasyncgenfunction(handler.predict)
        #: The model that may be decoupled; what a handler does with its models is its own business.
        self._generic = handler.models[handler.model] if type(handler) is Handler else None

    async def __call__(self, call: Call) -> Reply:
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
        path = generate_path(self.model, call.context.version)
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


class Router:
    """The root: chooses the step by the path, by the request's `parameters`, or takes the default.

    Args:
        steps: by route.
        default: the name that counts where a request says none; "" = the only model of the repository.
        models: those that no route names are served without a handler.
        relay: for their steps.
        pool: likewise.
    """

    def __init__(self, steps: Mapping[str, Step], default: str, models: Models, relay: Relay, pool: Pool) -> None:
        self.steps, self.default, self._usual = steps, default, steps.get(default)
        self._models, self._relay, self._pool = models, relay, pool
        self._unrouted: dict[str, tuple[Model, Step]] = {}

    def __call__(self, call: Call) -> Awaitable[Reply]:
        context = call.context
        if context.parameters or context.model or self._usual is None:
            return self._chosen(call)
        return self._usual(call)  # as most requests have it

    async def _chosen(self, call: Call) -> Reply:
        step, call = await self.choose(call)
        return await step(call)

    async def choose(self, call: Call) -> tuple[Step, Call]:
        """The step for a call, and the call as it shall get it: with the version, if one was asked for.

        Raises:
            BadRequest: the parameters name no route, model or version.
            UnknownModel: the path does.
            Unavailable: the model is there and not ready.
        """
        context = call.context
        step = await self.step(_asked_for(context) or self._default(), context)
        version = _version(context)
        if version and not await self._models.has_version(step.model, version):
            known = ", ".join(await self._models.versions(step.model))
            raise _unknown(context, "version", f"model {step.model!r} has no version {version}; it has {known}")
        return step, call if version == context.version else call._replace(context=context._replace(version=version))

    async def step(self, name: str, context: Context) -> Step:
        """The step of a route, or of a model that has none; raises as `choose` does."""
        if found := self.steps.get(name):
            return found
        model = await self._models.find(name)
        if model is None:
            known = ", ".join(map(repr, self.names())) or "none"
            raise _unknown(context, "model", f"no route or model {name[:100]!r}; there are {known}")
        kept, step = self._unrouted.get(name, (None, None))
        if kept is not model or step is None:
            handler = Handler()
            handler.bind(name, name, {name: model}, self._pool)
            step = Step(name, handler, self._relay)
            self._unrouted[name] = (model, step)
        return step

    def names(self) -> list[str]:
        """Everything that requests can choose: routes, and models beside them."""
        return list(dict.fromkeys([*self.steps, *self._models.names()]))

    def _default(self) -> str:
        if self.default:
            return self.default
        names = self.names()
        if len(names) == 1:
            return names[0]
        known = ", ".join(map(repr, names))
        if not names:
            raise BadRequest("the model repository has no models")
        raise BadRequest(f"there is no default model; say one in parameters.model: {known}")


def _asked_for(context: Context) -> str:
    """The route or model that a request names; "" = none."""
    if context.model:
        return context.model
    name = context.parameters.get("model")
    if name is None:
        return ""
    if not isinstance(name, str) or not name:
        raise BadRequest("parameters.model is not the name of a route or model")
    return name


def _version(context: Context) -> str:
    """The version that a request names, digits; "" = none."""
    version = context.version or context.parameters.get("version")
    if version is None:
        return ""
    text = str(version) if isinstance(version, str | int) and not isinstance(version, bool) else ""
    if isinstance(version, float) and version.is_integer():  # every number may come as a double
        text = str(int(version))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest("parameters.version is not the number of a version")
    return str(int(text))


def _unknown(context: Context, what: str, sentence: str) -> ListenerError:
    return UnknownModel(sentence) if context.model else BadRequest(f"parameters.{what}: {sentence}")
