"""A handler's hooks as they are run: over every item of a request, on the loop or in a thread, and who is to blame."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from listener.call import Context
from listener.errors import HandlerFailed, InstanceError, ListenerError
from listener.pool import Pool
from listener.tensors import TensorError

log = logging.getLogger("listener.handler")


class Hook:
    """One of a handler's hooks, applied to every item of a request.

    Attributes:
        is_default: the handler has not overridden it.
    """

    def __init__(self, route: str, name: str, function: Callable[..., Any], default: Callable[..., Any]) -> None:
        self._route, self._name = route, name
        self.is_default = getattr(function, "__func__", None) is default
        self._is_async = inspect.iscoroutinefunction(function)
        self._function = function if takes_context(function) else _without_context(function)

    async def each(self, items: Sequence[Any], context: Context, pool: Pool) -> list[Any]:
        """Results in order. A plain hook gets one thread for the whole request, so that a batch costs one hand-over."""
        if self._is_async:
            return list(await together([self._awaited(i, item, context) for i, item in enumerate(items)]))
        return await pool.run(lambda: [self._called(i, item, context) for i, item in enumerate(items)])

    def _called(self, index: int, item: Any, context: Context) -> Any:
        try:
            return self._function(item, context)
        except BaseException as error:  # in a thread of the pool: not even SystemExit may get out of it
            raise self._blame(error, index, context) from error

    async def _awaited(self, index: int, item: Any, context: Context) -> Any:
        try:
            return await self._function(item, context)
        except (Exception, SystemExit) as error:
            raise self._blame(error, index, context) from error
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            raise self._blame(error, index, context) from error

    def _blame(self, error: BaseException, index: int, context: Context) -> ListenerError:
        if isinstance(error, InstanceError):
            return error if error.index is not None else error.at(index)
        if isinstance(error, TensorError):
            return InstanceError(str(error), index)
        return error if isinstance(error, ListenerError) else failed(self._route, self._name, error, context, index)


def is_cancelled() -> bool:
    """Whether it is this task that is being cancelled, and not something that a handler waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def together(calls: Sequence[Coroutine[Any, Any, Any]]) -> Sequence[Any]:
    """Results in order; of several failures the one of the lowest index is raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a hook wants the context: a second parameter without default, or one of that name."""
    parameters = list(inspect.signature(function).parameters.values())
    second = [p for p in parameters[1:2] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty or p.name == "context" for p in second)


def _without_context(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda item, _context: function(item)


def failed(route: str, hook: str, error: BaseException, context: Context, index: int | None = None) -> HandlerFailed:
    """The caller reads a fixed sentence; the log has the trace and the request's id."""
    where = "" if index is None else f" on instances[{index}]"
    fields = {"request_id": context.request_id}
    log.error("the handler of %r failed in %s%s", route, hook, where, exc_info=error, extra={"fields": fields})
    return HandlerFailed(hook, route)


def blamed(error: BaseException, route: str, hook: str, context: Context, index: int | None = None) -> BaseException:
    """A handler's failure as the caller is told of it; the error itself where it says enough, or is no handler's."""
    if isinstance(error, InstanceError):
        return error if error.index is not None or index is None else error.at(index)
    is_ours = isinstance(error, ListenerError) or (isinstance(error, asyncio.CancelledError) and is_cancelled())
    if is_ours or not isinstance(error, Exception | SystemExit | asyncio.CancelledError):
        return error
    return failed(route, hook, error, context, index)
