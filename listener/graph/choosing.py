"""What a request or an instance says, as a switch or a split asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from listener.call import Call, Json, whole
from listener.hooks import Hook
from listener.nodes import From
from listener.pool import Pool
from listener.said import words


class _Missing:
    """Nothing is said."""


MISSING = _Missing()


class Source(Protocol):
    """Gives a value for each instance, `MISSING` where there is none."""

    async def __call__(self, call: Call) -> list[Json]: ...


def source(said: From) -> Source:
    """What reads it off the request.

    Args:
        said: anything but a function.
    """
    assert isinstance(said.what, str)
    path = said.what.split(".")
    if said.kind == "field":
        return _Told(lambda call: [reach(instance, path) for instance in call.instances])
    if said.kind == "header":
        header = said.what.lower()
        return _Told(lambda call: [call.context.headers.get(header, MISSING)] * len(call.instances))
    return _Told(lambda call: [reach(call.context.parameters, path)] * len(call.instances))


def read(call: Call, by: From) -> Call:
    """The call that goes on where a value of it has said the way."""
    return call._replace(chosen_by=call.chosen_by | {by.key}) if by.key else call


class _Told:
    def __init__(self, read: Callable[[Call], list[Json]]) -> None:
        self._read = read

    async def __call__(self, call: Call) -> list[Json]:
        return self._read(call)


class Asked:
    """A user's function of an instance and the context.

    Args:
        function: the function.
        pool: threads for it.
    """

    def __init__(self, function: Hook, pool: Pool) -> None:
        self._function, self._pool = function, pool

    async def __call__(self, call: Call) -> list[Json]:
        return await self._function.each(call.plain().instances, call.context, self._pool, call.alone)


def reach(value: Json, path: list[str]) -> Json:
    """What lies in objects within one another; `MISSING` if nothing does."""
    for name in path:
        if not hasattr(value, "get") or (value := value.get(name, MISSING)) is MISSING:
            return MISSING
    return value


def word(value: Json) -> str | None:
    """A value as the cases of a switch write it: text as it is, all else in JSON's words; None = it has none.

    A list of one is its element: the prediction of a model whose output has one number is such a list.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    try:
        return None if value is MISSING else words(whole(value))
    except TypeError:
        return None
