"""Whether a service's own code can be called as it will be: a handler's hooks, and the functions of its graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from listener.handler import Handler
from listener.hooks import takes_context


def of_handler(handler: type[Handler]) -> Iterator[str]:
    """What is wrong with the arguments of a handler's methods, `.preprocess: has to take ...`."""
    for hook, arguments in (("preprocess", "instance"), ("postprocess", "outputs")):
        function = _bound(handler, hook)
        count = 2 if takes_context(function) else 1
        if not _takes(function, count):
            yield f".{hook}: has to take (self, {arguments}) or (self, {arguments}, context)"
    predict = _bound(handler, "predict")
    if not _takes(predict, 1):
        yield ".predict: has to take (self, call)"
    if not _takes(_bound(handler, "load"), 1):
        yield ".load: has to take (self, artifacts)"
    if not _takes(handler, 0):
        yield ".__init__: may take no arguments; load(artifacts) is the place for what a handler reads"


def of_function(function: Callable[..., Any], argument: str) -> str:
    """What is wrong with a function of the graph, which may take the context besides; "" = nothing.

    Args:
        function: the function; it may be `async def`.
        argument: the name of what it is called with.
    """
    if inspect.isasyncgenfunction(function):
        return "cannot be a generator"
    try:
        inspect.signature(function).bind(*[None] * (2 if takes_context(function) else 1))
    except ValueError:  # written in C, it does not tell
        return ""
    except TypeError:
        return f"has to take ({argument}) or ({argument}, context)"
    return ""


def _bound(handler: type[Handler], name: str) -> Callable[..., Any]:
    """A method as it looks from an instance, without making one."""
    method = inspect.getattr_static(handler, name)
    found = method.__get__(object(), handler) if hasattr(method, "__get__") else method
    return found if callable(found) else lambda: None


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True
