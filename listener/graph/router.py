"""The root of the graph: which node a request is for."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol

from listener.call import Call, Columns, Context, Reply, Stay, whole
from listener.errors import BadRequest, ListenerError, Unavailable, UnknownModel
from listener.graph.node import Node
from listener.graph.step import Step
from listener.handler import Handler, Model
from listener.pool import Pool
from listener.triton.relay import Relay

#: Every route is one step.
NO_GRAPHS: Mapping[str, Node] = MappingProxyType({})
NO_STEPS: Mapping[str, Step] = MappingProxyType({})


class Models(Protocol):
    """What Triton has; `triton/catalogue.py`."""

    def names(self) -> list[str]: ...

    async def find(self, name: str) -> Model | None: ...

    async def versions(self, name: str) -> tuple[str, ...]: ...

    async def has_version(self, name: str, version: str) -> bool: ...


class Router:
    """The root: chooses the step by the path, by the request's `parameters`, or takes the default.

    Args:
        steps: by route.
        default: the name that counts where a request says none; "" = the only model of the repository.
        models: those that no route names are served without a handler.
        relay: for their steps.
        pool: likewise.
        graphs: routes of several steps.
        alone: routes under which an instance that is at fault fails alone.
        single: the step of those of `graphs` that are nothing but one, with limits around it.

    Attributes:
        steps, graphs, default, alone: those.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        default: str,
        models: Models,
        relay: Relay,
        pool: Pool,
        graphs: Mapping[str, Node] = NO_GRAPHS,
        alone: Collection[str] = (),
        single: Mapping[str, Step] = NO_STEPS,
    ) -> None:
        self.steps, self.graphs, self.default = steps, graphs, default
        self.alone, self._single = alone, single
        self._several = len(steps) + len(graphs) > 1
        self._usual: Node | None = None if default in alone else steps.get(default) or graphs.get(default)
        self._models, self._relay, self._pool = models, relay, pool
        self._unrouted: dict[str, tuple[Model, Step]] = {}

    def __call__(self, call: Call) -> Awaitable[Reply]:
        context = call.context
        if context.parameters or context.model or self._usual is None:
            return self._chosen(call)
        if (stay := context.stay) is not None:
            stay.route = self.default
            if self._several:
                stay.share(self.default)
        return self._usual(call)  # as most requests have it

    def share(self, stay: Stay | None, name: str) -> None:
        """A request is for a route, or for a model beside them; it takes of its share where there is more than one.

        Raises:
            Overloaded: too many for it are here.
        """
        if stay is None:
            return
        stay.route = name if self._is_known(name) else "unknown"
        if self._several:
            stay.share(name)

    def _is_known(self, name: str) -> bool:
        """Whether there is such a route or model: what callers make up is not counted by its name."""
        if name in self.steps or name in self.graphs:
            return True
        with suppress(Unavailable):  # Triton has not said which it has
            return name in self._models.names()
        return False

    async def _chosen(self, call: Call) -> Reply:
        node, call = await self.choose(call)
        return await node(call)

    async def choose(self, call: Call) -> tuple[Node, Call]:
        """The node for a call, and the call as it shall get it: with the version, if one was asked for.

        Raises:
            BadRequest: the parameters name no route, model or version.
            UnknownModel: the path does.
            Unavailable: the model is there and not ready.
            Overloaded: too many requests for it are here.
        """
        name = _asked_for(call.context) or self._default()
        self.share(call.context.stay, name)
        call = self._told(name, call)
        if graph := self.graphs.get(name):
            return graph, await self._of_graph(name, call)
        return await self._versioned(name, call)

    async def _of_graph(self, name: str, call: Call) -> Call:
        if (step := self._single.get(name)) is not None:
            return await self._at_version(name, step, call)
        if _version(call.context):
            raise _unknown(call.context, "version", f"route {name!r} has several steps, and no versions")
        return call

    def _told(self, name: str, call: Call) -> Call:
        """The call with what listener.yaml says of a route. Columns have no place for an instance's error."""
        if name not in self.alone or type(call.instances) is Columns:
            return call
        return call._replace(alone=True)

    async def choose_step(self, call: Call) -> tuple[Step, Call]:
        """As `choose`, for what Triton answers by itself, to which one model belongs.

        Raises:
            BadRequest: likewise, or the route has several steps.
        """
        name = _asked_for(call.context) or self._default()
        self.share(call.context.stay, name)
        if (single := self._single.get(name)) is not None:
            return single, await self._at_version(name, single, call)
        if name in self.graphs:
            raise BadRequest(
                f"route {name!r} has several steps, so a request to it has instances, or inputs by columns"
            )
        return await self._versioned(name, call)

    async def _versioned(self, name: str, call: Call) -> tuple[Step, Call]:
        step = await self.step(name, call.context)
        return step, await self._at_version(name, step, call)

    async def _at_version(self, name: str, step: Step, call: Call) -> Call:
        """The call with the version that it asks for, if the step's model has that."""
        context = call.context
        version = _version(context)
        if version and not step.model:
            raise _unknown(context, "version", f"route {name!r} has no model of its own, and no versions")
        if version and not await self._models.has_version(step.model, version):
            known = ", ".join(await self._models.versions(step.model))
            raise _unknown(context, "version", f"model {step.model!r} has no version {version}; it has {known}")
        return call if version == context.version else call._replace(context=context._replace(version=version))

    async def step(self, name: str, context: Context) -> Step:
        """The step of a route that has one, or of a model without a route; raises as `choose` does."""
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
        return list(dict.fromkeys([*self.steps, *self.graphs, *self._models.names()]))

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
    version = whole(context.version or context.parameters.get("version"))
    if version is None:
        return ""
    text = str(version) if isinstance(version, str | int) and not isinstance(version, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest("parameters.version is not the number of a version")
    return str(int(text))


def _unknown(context: Context, what: str, sentence: str) -> ListenerError:
    return UnknownModel(sentence) if context.model else BadRequest(f"parameters.{what}: {sentence}")
