"""What a user writes: a class that turns instances into tensors and tensors into predictions.

Guide: docs/write-a-handler.md.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from listener.call import Arrays, Call, Context, Json, Reply
from listener.errors import HandlerFailed, InstanceError, ListenerError
from listener.pool import Pool
from listener.tensors import ModelSpec, TensorError, from_instance, stack, to_json

log = logging.getLogger("listener.handler")


class Model(Protocol):
    """What `self.models["name"]` is."""

    @property
    def spec(self) -> ModelSpec: ...

    async def infer(self, arrays: Arrays, deadline: float = ...) -> dict[str, NDArray[Any]]: ...


class Handler:
    """Base class of handlers. Without any override it serves a model as it is: JSON in, JSON out.

    Override what differs. Each hook may be `def` (runs in a thread) or `async def` (runs on the event loop), and may
    take the request's `Context` as a second argument.

    Attributes:
        model: name of the model in the repository; listener.yaml's `model` overrides it.
        example: a valid instance (`{"b64": ...}` objects as `bytes`); it is sent through the handler before the service
            calls itself ready. None = nothing is sent.
        models: every routed model by name.
    """

    model: str = ""
    example: Json = None
    models: Mapping[str, Model]
    _name: str
    _pool: Pool

    def load(self, artifacts: Path) -> None:
        """Runs once per worker before the first request; `artifacts` is the folder of the service."""

    def close(self) -> None:
        """Runs once per worker after the last request."""

    def preprocess(self, *instance: Any) -> Any:
        """One instance -> named arrays without batch dimension, in the model's dtypes.

        Signature to override: `preprocess(self, instance)` or `preprocess(self, instance, context)`.

        Raises:
            InstanceError: the instance is wrong; the caller is told this sentence and the index, with status 400.
        """
        return from_instance(instance[0], self.models[self.model].spec)

    def postprocess(self, *outputs: Any) -> Any:
        """One instance's outputs, named arrays without batch dimension -> its prediction, anything that JSON can say.

        Signature to override: `postprocess(self, outputs)` or `postprocess(self, outputs, context)`.
        """
        arrays: Arrays = outputs[0]
        if len(arrays) == 1:
            return to_json(next(iter(arrays.values())))
        return {name: to_json(array) for name, array in arrays.items()}

    async def predict(self, call: Call) -> Reply:
        """The whole request. The default: `preprocess` each instance, one batch to the model, `postprocess` each row.

        Raises:
            InstanceError: an instance is wrong; carries its index.
            HandlerFailed: a hook raised something else, or gave what the model does not take.
            ListenerError: from the model.
        """
        batch = await self._before(call)
        try:
            outputs = await self.models[self.model].infer(batch, call.context.deadline)
        except TensorError as error:
            raise _failed(self._name, "preprocess", error) from error
        count = len(call.instances)
        rows = [{name: array[index, ...] for name, array in outputs.items()} for index in range(count)]
        hook = _Hook(self._name, "postprocess", self.postprocess)
        return Reply(await hook.each(rows, call.context, self._pool))

    async def _before(self, call: Call) -> dict[str, NDArray[Any]]:
        arrays = await _Hook(self._name, "preprocess", self.preprocess).each(call.instances, call.context, self._pool)
        try:
            return stack(arrays)
        except TensorError as error:
            raise InstanceError(str(error.args[0]), error.args[1]) from None
        except Exception as error:
            raise _failed(self._name, "preprocess", error) from error

    def bind(self, name: str, model: str, models: Mapping[str, Model], pool: Pool) -> None:
        """Hands the handler its collaborators. Called by the listener, or by a test.

        Args:
            name: the route's name, for messages.
            model: the model that `predict` calls.
            models: every model that the handler may call.
            pool: threads for its plain `def` hooks.
        """
        self._name, self.model, self.models, self._pool = name, model, models, pool


class _Hook:
    """One of a handler's hooks, applied to every item of a request."""

    def __init__(self, route: str, name: str, function: Callable[..., Any]) -> None:
        self._route, self._name = route, name
        self._is_async = inspect.iscoroutinefunction(function)
        self._function = function if takes_context(function) else _without_context(function)

    async def each(self, items: Sequence[Any], context: Context, pool: Pool) -> list[Any]:
        """Results in order. A plain hook gets one thread for the whole request, so that a batch costs one hand-over."""
        if self._is_async:
            return list(await _together([self._awaited(i, item, context) for i, item in enumerate(items)]))
        return await pool.run(lambda: [self._called(i, item, context) for i, item in enumerate(items)])

    def _called(self, index: int, item: Any, context: Context) -> Any:
        try:
            return self._function(item, context)
        except Exception as error:
            raise self._blame(error, index) from error

    async def _awaited(self, index: int, item: Any, context: Context) -> Any:
        try:
            return await self._function(item, context)
        except Exception as error:
            raise self._blame(error, index) from error

    def _blame(self, error: Exception, index: int) -> ListenerError:
        if isinstance(error, InstanceError):
            return error if error.index is not None else error.at(index)
        if isinstance(error, TensorError):
            return InstanceError(str(error), index)
        return error if isinstance(error, ListenerError) else _failed(self._route, self._name, error, index)


async def _together(calls: Sequence[Awaitable[Any]]) -> Sequence[Any]:
    """Results in order; of several failures the one of the lowest index is raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a hook has a second positional parameter, for the context."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 and positional[0].kind is not inspect.Parameter.VAR_POSITIONAL


def _without_context(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda item, _context: function(item)


def _failed(route: str, hook: str, error: Exception, index: int | None = None) -> HandlerFailed:
    """The caller reads a fixed sentence; the log has the trace."""
    where = "" if index is None else f" on instances[{index}]"
    log.error("the handler of %r failed in %s%s", route, hook, where, exc_info=error)
    return HandlerFailed(hook, route)


def check_reply(route: str, call: Call, reply: object) -> Reply:
    """What `predict` returned, if it is one prediction for each instance.

    Raises:
        HandlerFailed: it is not.
    """
    made = reply.predictions if isinstance(reply, Reply) else reply
    count = len(made) if isinstance(reply, Reply) and isinstance(made, Sized) else None
    if isinstance(reply, Reply) and count == len(call.instances):
        return reply
    got = type(made).__name__ if count is None else f"{count} predictions"
    error = TypeError(f"predict returned {got} for {len(call.instances)} instances")
    raise _failed(route, "predict", error)
