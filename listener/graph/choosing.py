"""What a request or an instance says, as a switch or a split asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from listener.call import Call, Context, Json
from listener.errors import HandlerFailed, InstanceError, ListenerError
from listener.hooks import failed
from listener.nodes import From


class _Missing:
    """Nothing is said."""


MISSING = _Missing()


class Source(Protocol):
    """Gives a value for each instance: `MISSING` where there is none, an `InstanceError` where it is at fault."""

    async def __call__(self, call: Call) -> list[Json]: ...


def source(said: From, name: str) -> Source:
    """What asks for it.

    Args:
        said: what is asked for; a function has been imported.
        name: of the node, for messages.
    """
    if said.kind == "function":
        assert callable(said.what)
        return _Asked(said.what, name)
    assert isinstance(said.what, str)
    path = said.what.split(".")
    if said.kind == "field":
        return _Told(lambda call: [reach(instance, path) for instance in call.instances])
    if said.kind == "header":
        header = said.what.lower()
        return _Told(lambda call: [call.context.headers.get(header, MISSING)] * len(call.instances))
    return _Told(lambda call: [reach(call.context.parameters, path)] * len(call.instances))


class _Told:
    def __init__(self, read: Callable[[Call], list[Json]]) -> None:
        self._read = read

    async def __call__(self, call: Call) -> list[Json]:
        return self._read(call)


class _Asked:
    """A user's function of an instance and the context."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function, self._name = function, name
        self._is_async = inspect.iscoroutinefunction(function)

    async def __call__(self, call: Call) -> list[Json]:
        plain = call.plain()
        return [await self._one(index, item, call.context) for index, item in enumerate(plain.instances)]

    async def _one(self, index: int, instance: Json, context: Context) -> Json:
        try:
            found = self._function(instance, context)
            return await found if self._is_async else found
        except InstanceError as error:
            return error
        except ListenerError:
            raise
        except (Exception, SystemExit) as error:
            raise failed(self._name, "its function", error, context, index) from error


def reach(value: Json, path: list[str]) -> Json:
    """What lies in objects within one another; `MISSING` if nothing does."""
    for name in path:
        if not hasattr(value, "get") or (value := value.get(name, MISSING)) is MISSING:
            return MISSING
    return value


def word(value: Json) -> str | None:
    """A value as the cases of a switch write it: text as it is, all else in JSON's words; None = it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():  # every number may come as a double
        value = int(value)
    try:
        return None if value is MISSING else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError:
        return None


def not_usable(name: str, what: str) -> HandlerFailed:
    """A user's function gave what cannot be used."""
    error = HandlerFailed("its function", name)
    error.add_note(what)
    return error
