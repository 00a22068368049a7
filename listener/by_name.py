"""What a handler has its models in: a mapping that says what to do about a name that is not there. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Model = TypeVar("Model")


class NoSuchModel(KeyError):
    """A handler asks for a model that is not among `self.models`.

    Args:
        name: of that model.
        known: of those that are.
    """

    def __init__(self, name: object, known: Iterable[str]) -> None:
        has = ", ".join(map(repr, known)) or "none"
        super().__init__(f"no model {name!r} for this handler; it has {has}; name further ones in uses = ({name!r},)")

    def __str__(self) -> str:
        return str(self.args[0])  # which KeyError shows in quotes


class ByName(dict[str, Model]):
    """Models by name. Names that are there are found as in any dict, at the same cost."""

    def __missing__(self, name: object) -> Model:
        raise NoSuchModel(name, self)
