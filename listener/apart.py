"""A handler's hooks in another process: what is sent there, and the handler that is made there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

from listener.by_name import NoSuchModel
from listener.call import Context
from listener.errors import InstanceError, Unavailable
from listener.offload import Carried, Processes
from listener.tensors import ModelSpec, TensorError

Specs = Mapping[str, ModelSpec | None]
#: A hook of an item and the context.
CallHook = Callable[[Any, Context], Any]


class Recipe(Protocol):
    """Makes a handler in another process; can be pickled."""

    @property
    def key(self) -> str:
        """Tells it from the recipes of other routes."""

    def make(self, models: Mapping[str, Any]) -> Mapping[str, CallHook]:
        """The hooks by name of the handler, which is loaded."""


class Raised(NamedTuple):
    """In place of a result: the hook raised something.

    Attributes:
        error: what it raised.
    """

    error: BaseException


class Apart:
    """Where a handler's hooks run if not in this process.

    Args:
        recipe: of the handler.
        models: those whose specs the hooks may ask for.
        processes: where.
    """

    def __init__(self, recipe: Recipe, models: Mapping[str, Any], processes: Processes) -> None:
        self._recipe, self._models, self._processes = recipe, models, processes
        processes.first.append(partial(_hooks, recipe, tuple(models)))

    async def each(self, hook: str, items: Sequence[Any], context: Context, alone: bool = False) -> list[Any]:
        """The results for all items, in order, up to the first that `Raised`.

        Args:
            hook: its name.
            items: for it.
            context: likewise.
            alone: go on after an item that is at fault.

        Raises:
            Died: the process did.
            CannotTravel: a result.
            Exception: the handler could not be made there.
        """
        context = context._replace(
            headers=dict(context.headers),
            parameters=dict(context.parameters),
            extras=dict(context.extras),
            stay=None,  # the answer is sent from here
        )
        specs = {name: _spec(model) for name, model in self._models.items()}
        results: list[Any] = await self._processes.run(_called, self._recipe, hook, items, context, specs, alone)
        return results


def _spec(model: Any) -> ModelSpec | None:
    try:
        spec: ModelSpec = model.spec
    except Unavailable:
        return None
    return spec


# In the process


class _Described:
    """Stands for a model where it cannot be called."""

    def __init__(self, name: str, specs: dict[str, ModelSpec | None]) -> None:
        self._name, self._specs = name, specs

    @property
    def spec(self) -> ModelSpec:
        spec = self._specs.get(self._name)
        if spec is None:
            raise Unavailable(f"model {self._name!r} is not known yet")
        return spec

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"{name}: a plain hook with `offload: process` knows its models' spec and cannot call them; an `async def` "
            "hook can, as it stays in the listener's process"
        )


class _Models(Mapping[str, _Described]):
    """Every model by name, as the last call described them."""

    def __init__(self) -> None:
        self.specs: dict[str, ModelSpec | None] = {}

    def __getitem__(self, name: str) -> _Described:
        if name not in self.specs:
            raise NoSuchModel(name, self.specs)
        return _Described(name, self.specs)  # also before the first call: `load` may keep one

    def __iter__(self) -> Any:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)


_models = _Models()
_made: dict[str, Mapping[str, CallHook]] = {}


def _hooks(recipe: Recipe, models: Iterable[str]) -> Mapping[str, CallHook]:
    for name in models:
        _models.specs.setdefault(name, None)
    if (made := _made.get(recipe.key)) is None:
        made = _made[recipe.key] = recipe.make(_models)
    return made


def _called(recipe: Recipe, hook: str, items: Sequence[Any], context: Context, specs: Specs, alone: bool) -> list[Any]:
    """The results of the items, or `Raised` for one that did."""
    _models.specs.update(specs)
    call = _hooks(recipe, specs)[hook]
    results: list[Any] = []
    for item in items:
        try:
            results.append(call(item, context))
        except BaseException as error:  # not even SystemExit may end the process
            results.append(Raised(Carried(error)))  # type: ignore[arg-type]  # arrives as the error
            if not (alone and isinstance(error, InstanceError | TensorError)):
                break
    return results
