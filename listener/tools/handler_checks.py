"""Handlers, as far as they can be checked without a model: their shape, and their `example` on its way to the model."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NoReturn

import numpy as np

from listener import importing, loader, shapes
from listener.by_name import ByName
from listener.call import Context
from listener.errors import ConfigError, one_line
from listener.handler import Handler
from listener.hooks import with_context
from listener.pool import Pool
from listener.service import Route, Service
from listener.tensors import NUMPY, ModelSpec, TensorSpec, fits
from listener.triton.asking import seconds_of, version_of


class _NeedsModel(BaseException):
    """A handler asks for what only a running model can tell. Not an Exception, so that no handler swallows it."""


class _Offline:
    """Stands for a model while there is none: knows its tensors, computes nothing."""

    def __init__(self, spec: ModelSpec | None) -> None:
        self._spec = spec

    @property
    def spec(self) -> ModelSpec:
        if self._spec is None:
            raise _NeedsModel
        return self._spec

    def at(self, version: str) -> _Offline:
        return self

    async def infer(self, arrays: Any, *, version: str | int = "", timeout: float | None = None) -> NoReturn:
        version_of(version)
        seconds_of(timeout)
        raise _NeedsModel

    async def infer_rows(self, arrays: Any, *, version: str | int = "", timeout: float | None = None) -> NoReturn:
        await self.infer(arrays, version=version, timeout=timeout)

    async def infer_batches(self, batches: Any, top_k: int = 0) -> NoReturn:
        raise _NeedsModel

    async def infer_checked(self, arrays: Any, top_k: int = 0) -> NoReturn:
        raise _NeedsModel


def import_class(service: Service, route: Route, mistakes: list[str]) -> type[Handler] | None:
    """The class of a route's handler; None after adding to `mistakes`."""
    try:
        with quiet():
            return importing.handler_class(service, route)
    except ConfigError as error:
        mistakes += error.mistakes
    return None


def check(service: Service, route: Route, handler: type[Handler], specs: Mapping[str, ModelSpec | None]) -> list[str]:
    """What is wrong with one handler.

    Args:
        service: the service.
        route: the handler's route.
        handler: its class.
        specs: all models of the repository; None = its tensors are not known here.

    Returns:
        A sentence per mistake.
    """
    place = f"{_place(service, route)}.handler: {handler.__name__}"
    told = [*shapes.near_misses(service, handler), *(f"{place}.uses: {s}" for s in _absent(service, handler, specs))]
    mistakes = list(told)
    try:
        with quiet():
            mistakes += [f"{place}{sentence}" for sentence in asyncio.run(_driven(service, route, handler, specs))]
    except _NeedsModel:
        pass  # nothing can be said without a model
    except ConfigError as error:
        mistakes += error.mistakes
    except (Exception, SystemExit) as error:
        mistakes.append(f"{place}: fails with {one_line(f'{type(error).__name__}: {error}')}")
    return mistakes


def _absent(service: Service, handler: type[Handler], specs: Mapping[str, ModelSpec | None]) -> Iterator[str]:
    """What a handler uses that the repository, if there is one, does not have."""
    for name in handler.uses if specs or service.repository.is_dir() else ():
        if name not in specs:
            near = difflib.get_close_matches(name, specs, n=1)
            yield f"no model {name!r} in {service.repository}" + (f"; did you mean {near[0]!r}?" if near else "")


def _callable(service: Service) -> set[str]:
    """The models that handlers may call when the service runs.

    Raises:
        ConfigError: that cannot be told, as one of them is wrong.
    """
    classes = [(route, importing.handler_class(service, route)) for route in service.steps.values()]
    return set().union(*(loader.model_names(route, handler) for route, handler in classes))


async def _driven(
    service: Service, route: Route, handler: type[Handler], specs: Mapping[str, ModelSpec | None]
) -> list[str]:
    """Loads the handler, sends the example and closes it."""
    with closing(Pool(1)) as pool:
        known: Iterable[str] = specs
        with contextlib.suppress(ConfigError):  # which is another route's mistake
            known = sorted(_callable(service))
        offline = ByName({name: _Offline(specs.get(name)) for name in known})
        made = await loader.load(service, route, handler, offline, pool)
        sentences = await _example(made, specs, pool)
        await loader.called(made.close)
        return sentences


def _place(service: Service, route: Route) -> str:
    return f"{service.file}:{route.line_of('handler')}: {route.field}"


def quiet() -> contextlib.AbstractContextManager[Any]:
    """What handlers print goes to standard error: on standard output, each line is a mistake."""
    return contextlib.redirect_stdout(sys.stderr)


async def _example(made: Handler, specs: Mapping[str, ModelSpec | None], pool: Pool) -> list[str]:
    """Sends the example through `preprocess`, unless `predict` is overridden: then nobody knows what happens to it."""
    if made.example is None or type(made).predict is not Handler.predict:
        return []
    preprocess = with_context(made.preprocess)
    try:
        result = await pool.run(lambda: preprocess(made.example, Context()))
        arrays = await result if inspect.isawaitable(result) else result
    except Exception as error:
        return [f".example: preprocess refuses it: {one_line(f'{type(error).__name__}: {error}')}"]
    if not isinstance(arrays, Mapping):
        return [f".preprocess: gives {type(arrays).__name__} for the example, not a mapping of names to arrays"]
    spec = specs.get(made.model or "")
    return [] if spec is None else [f".preprocess: {sentence}" for sentence in _compare(arrays, spec)]


def _compare(arrays: Mapping[str, Any], spec: ModelSpec) -> Iterator[str]:
    known = {tensor.name: tensor for tensor in spec.inputs}
    for name, array in arrays.items():
        if name not in known:
            yield f"gives {name!r} for the example; model {spec.name!r} takes {', '.join(map(repr, known))}"
        else:
            yield from _compare_tensor(np.asarray(array), known[name])
    for tensor in spec.inputs:
        if tensor.name not in arrays and not tensor.optional:
            yield f"gives no {tensor.name!r} for the example, which model {spec.name!r} needs"


def _compare_tensor(array: np.ndarray[Any, Any], tensor: TensorSpec) -> Iterator[str]:
    wanted = NUMPY.get(tensor.datatype)
    if wanted is not None and not np.can_cast(array.dtype, wanted, casting="same_kind"):
        yield f"gives {tensor.name!r} as {array.dtype} for the example; the model takes {tensor.datatype}"
    if not fits(array.shape, tensor.shape):
        shapes = f"{list(array.shape)} for the example; the model takes {list(tensor.shape)}"
        yield f"gives {tensor.name!r} the shape {shapes}, without the batch dimension"
