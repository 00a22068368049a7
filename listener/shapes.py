"""Whether a service's code has the form that it needs: handlers' hooks and attributes, functions of the graph."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from listener.handler import Handler
from listener.hooks import takes_context
from listener.service import Route, Service


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
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return "cannot be a generator"
    try:
        inspect.signature(function).bind(*[None] * (2 if takes_context(function) else 1))
    except ValueError:  # written in C, it does not tell
        return ""
    except TypeError:
        return f"has to take ({argument}) or ({argument}, context)"
    return ""


def of_models(route: Route, handler: type[Handler]) -> Iterator[str]:
    """What is wrong with the names of a handler's models, as the ends of sentences."""
    uses: Any = handler.uses
    if not isinstance(uses, list | tuple | set | frozenset):
        hint = f"as ({uses!r},)" if isinstance(uses, str) else "as ('other',)"
        yield f".uses is {uses!r}; it has to be a tuple of models' names, {hint}"
    elif wrong := [name for name in uses if not (isinstance(name, str) and name)]:
        yield f".uses names {wrong[0]!r}, which is no model's name"
    model: Any = handler.model
    if not isinstance(model, str | None):
        yield f".model is {model!r}; it has to be a model's name, or None for a handler that only calls others"
    if model is None and not route.model and route.version:
        yield ".model is None, so it has no versions"
    if model is None and not route.model and handler.predict is Handler.predict:
        yield ".model is None, so it has to have a predict of its own"


#: What a subclass may override or set, for `near_misses`.
_HOOKS = ("preprocess", "postprocess", "predict", "load", "close")
_ATTRIBUTES = ("model", "uses", "example", "instance_schema", "prediction_schema", "offload")
#: High enough for one letter too few, too many or wrong in the longer names; letters in another order come on top.
_NEAR = 0.9


def near_misses(service: Service, handler: type[Handler]) -> list[str]:
    """What looks like a hook or an attribute of handlers, and is none: a sentence each, for `check` and the log.

    A name is left alone where the handler has the right one as well, or where it only goes on (`predict_one`).
    """
    found = []
    for kind in handler.__mro__:
        if kind is Handler or not issubclass(kind, Handler):
            continue
        for name in vars(kind):
            meant = "" if name.startswith("_") or hasattr(Handler, name) else _meant(name)
            if meant and getattr(handler, meant) is getattr(Handler, meant):
                what = "no hook" if meant in _HOOKS else "no attribute of handlers"
                place = _file_of(service, kind)
                found.append(f"{place}: {kind.__name__}.{name} is {what}; did you mean {meant!r}?")
    return found


def _meant(name: str) -> str:
    """The hook or attribute that a name nearly is; "" = none."""
    known = {each.replace("_", ""): each for each in (*_HOOKS, *_ATTRIBUTES)}
    plain = name.lower().replace("_", "")
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=_NEAR)
    near += [each for each in known if sorted(each) == sorted(plain)]
    return "" if not near or plain.startswith(near[0]) else known[near[0]]


def _file_of(service: Service, kind: type[Handler]) -> str:
    """The file of a class, as seen from the service's folder."""
    file = Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__)
    return str(file.relative_to(service.folder) if file.is_relative_to(service.folder) else file)


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
