"""A handler's hooks as they are run: over every item of a request, on the loop or in a thread, and who is to blame."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from asyncio.events import _set_running_loop as set_running_loop
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, NoReturn, TypeVar

from listener.apart import Apart, Raised
from listener.call import Call, Context, Reply
from listener.errors import HandlerFailed, InstanceError, InstancesFailed, ListenerError
from listener.offload import CannotTravel, Died
from listener.pool import Pool
from listener.tensors import TensorError

log = logging.getLogger("listener.handler")
T = TypeVar("T")

#: Where plain hooks may be told to run; "" = on the loop while they prove short, else in threads.
PLACES = ("", "thread", "process", "inline")

#: Seconds of work below which the hand-over to a thread would cost more than it spares the loop.
_SHORT = 0.0003
#: Seconds on the loop after which a hook is not trusted any more.
_MUCH_TOO_LONG = 0.005
#: Of a new measurement in the estimate. After nine calls a cold first one counts for less than 0.2 %.
_WEIGHT = 0.5


class Pace:
    """Where work of one kind runs: in threads, or on the loop while it has proved short.

    Args:
        name: for the log.
        place: one of `PLACES` but `process`.
        clock: seconds; another one in tests.
    """

    def __init__(self, name: str, place: str = "", clock: Callable[[], float] = time.perf_counter) -> None:
        self._name, self._place, self._clock = name, place, clock
        self._seconds: float | None = None  # for one item; unknown before the first call

    def is_short(self, items: int) -> bool:
        """Whether a call with so many items may hold the loop."""
        if self._place:
            return self._place == "inline"
        return self._seconds is not None and self._seconds * items < _SHORT

    async def run(self, function: Callable[[], T], items: int, pool: Pool) -> T:
        """The function's result, or what it raised. It sees this task's context variables and cannot change them.

        Args:
            function: the work.
            items: how many it is for.
            pool: the threads.
        """
        if not self.is_short(items):
            return await pool.run(lambda: self._measured(function, items))
        start = self._clock()
        try:
            return contextvars.copy_context().run(self._as_in_a_thread, function, items)
        finally:
            if not self._place and (took := self._clock() - start) > _MUCH_TOO_LONG:
                self._place = "thread"
                log.info("%s took %.1f ms on the event loop; from now on it runs in threads", self._name, took * 1e3)

    def _as_in_a_thread(self, function: Callable[[], T], items: int) -> T:
        """Runs it where no loop can be seen, so that a hook that calls `asyncio.run` may do so here as well."""
        loop = asyncio.get_running_loop()
        set_running_loop(None)
        try:
            return self._measured(function, items)
        finally:
            set_running_loop(loop)

    def _measured(self, function: Callable[[], T], items: int) -> T:
        start = self._clock()
        try:
            return function()
        finally:
            each = (self._clock() - start) / max(1, items)
            known = self._seconds
            self._seconds = each if known is None else known + _WEIGHT * (each - known)


class Hook:
    """One of a handler's hooks, applied to every item of a request.

    Args:
        route: the handler's, for messages.
        name: of the hook.
        function: the hook.
        default: what it is if the handler has not overridden it; None = it is a function that stands by itself.
        place: one of `PLACES`, for a plain hook.
        apart: the processes, where that is `process`.

    Attributes:
        is_default: the handler has not overridden it.
    """

    def __init__(
        self,
        route: str,
        name: str,
        function: Callable[..., Any],
        default: Callable[..., Any] | None = None,
        place: str = "",
        apart: Apart | None = None,
    ) -> None:
        self._route, self._name, self._apart = route, name, apart
        self._pace = Pace(f"{name} of {route!r}", "thread" if place == "process" else place)
        self.is_default = default is not None and getattr(function, "__func__", None) is default
        self._is_async = waits(function)
        self._function = with_context(function)

    async def each(self, items: Sequence[Any], context: Context, pool: Pool, alone: bool = False) -> list[Any]:
        """Results in order. A plain hook gets all items of a request at once, so that a batch costs one hand-over.

        Args:
            items: instances, or what the model gave for each.
            context: of the request.
            pool: of threads.
            alone: go on after an item that is at fault.

        Raises:
            InstanceError: of the first item that is at fault.
            InstancesFailed: in its place, of all that are, if they fail alone.
            HandlerFailed: the hook raised something else.
        """
        if self._is_async:
            calls = [self._awaited(i, item, context) for i, item in enumerate(items)]
            return sorted_out(await asyncio.gather(*calls, return_exceptions=True), alone)
        if self._apart:
            return await self._each_apart(self._apart, items, context, alone)
        if alone:
            kept = partial(self._kept, items, context)
            return sorted_out(await self._pace.run(kept, len(items), pool), alone)
        return await self._pace.run(
            lambda: [self._called(i, item, context) for i, item in enumerate(items)], len(items), pool
        )

    async def _each_apart(self, apart: Apart, items: Sequence[Any], context: Context, alone: bool) -> list[Any]:
        try:
            results = await apart.each(self._name, items, context, alone)
        except (Exception, SystemExit) as error:
            if isinstance(error, CannotTravel | Died):
                error.add_note("it ran in another process, because of `offload: process`")
            raise failed(self._route, self._name, error, context) from error
        told = [
            self._blame(each.error, index, context) if isinstance(each, Raised) else each
            for index, each in enumerate(results)
        ]
        return sorted_out(told, alone)

    def _kept(self, items: Sequence[Any], context: Context) -> list[Any]:
        """Results, or in their place what is wrong with an instance."""
        made: list[Any] = []
        for index, item in enumerate(items):
            try:
                made.append(self._called(index, item, context))
            except InstanceError as error:
                made.append(error)
        return made

    def _called(self, index: int, item: Any, context: Context) -> Any:
        try:
            made = self._function(item, context)
            if type(made) is CoroutineType:  # maybe of a plain function around an `async def`
                raise TypeError(f"{self._name} returned {kind(made)} for instances[{index}]")
            return made
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


def waits(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def`, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def kind(given: object) -> str:
    """What a hook returned, in words."""
    if not inspect.iscoroutine(given):
        return type(given).__name__
    given.close()  # or else Python would warn of it as well, at some other time
    return "a coroutine, which is a call without its `await` (in an `async def` hook),"


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether it is a plain `def`: neither a coroutine function, nor an async generator, nor a wrapper of one."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return not any(kind(each) for each in (function, inspect.unwrap(function)) for kind in kinds)


def in_thread(predict: Callable[[Call], Any], pool: Pool) -> Callable[[Call], Awaitable[Reply]]:
    """A plain `predict` as if it were `async def`: it runs in a thread."""

    async def run(call: Call) -> Reply:
        made: Any = await pool.run(partial(_guarded, predict, call))
        reply: Reply = await made if inspect.isawaitable(made) else made
        return reply

    return run


def _guarded(function: Callable[[Call], Any], call: Call) -> Any:
    try:
        return function(call)
    except (Exception, SystemExit):
        raise
    except BaseException as error:  # KeyboardInterrupt would end the loop, and the worker with it
        raise RuntimeError(f"it raised {error!r}") from error


def is_cancelled() -> bool:
    """Whether it is this task that is being cancelled, and not something that a handler waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def sorted_out(results: Sequence[Any], alone: bool) -> list[Any]:
    """The results, if none is an error.

    Raises:
        InstancesFailed: where instances fail alone, and nothing is wrong but some of them.
        BaseException: the first of the errors; those that are not about an instance come first where these fail alone.
    """
    errors = [result for result in results if isinstance(result, BaseException)]
    if not errors:
        return list(results)
    others = [error for error in errors if not (alone and isinstance(error, InstanceError))]
    if others:
        raise others[0]
    about = [error for error in errors if isinstance(error, InstanceError)]
    raise InstancesFailed(str(about[0]), about)


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a hook wants the context: a second parameter without default, or one of that name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some of Python's own, such as max
        return False
    second = [p for p in parameters[1:2] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty or p.name == "context" for p in second)


def with_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The hook as a function of item and context, whether it wants the context or not."""
    return function if takes_context(function) else lambda item, _context: function(item)


def failed(route: str, hook: str, error: BaseException, context: Context, index: int | None = None) -> HandlerFailed:
    """The caller reads a fixed sentence; the log has the trace and the request's id."""
    where = "" if index is None else f" on instances[{index}]"
    if isinstance(error, TypeError | AttributeError) and "coroutine" in str(error):
        error.add_note(
            "a coroutine is a call without its `await`: models are called with `await`, in an `async def` hook"
        )
    fields = {"request_id": context.request_id}
    log.error("the handler of %r failed in %s%s", route, hook, where, exc_info=error, extra={"fields": fields})
    return HandlerFailed(hook, route)


def blame(error: BaseException, route: str, hook: str, context: Context, index: int | None = None) -> NoReturn:
    """Raises a handler's failure as the caller is told of it: itself, where it says enough or is no handler's."""
    if isinstance(error, InstanceError) and error.index is None and index is not None:
        raise error.at(index) from error
    is_ours = isinstance(error, ListenerError) or (isinstance(error, asyncio.CancelledError) and is_cancelled())
    if is_ours or not isinstance(error, Exception | SystemExit | asyncio.CancelledError):
        raise error
    raise failed(route, hook, error, context, index) from error
