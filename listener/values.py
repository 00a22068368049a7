"""JSON values as the arrays that a model takes. Pure.

Rules: docs/reference/contract.md, "Tensors". `as_batch` reads all instances of a request at once; where that does not
work, `from_instance` reads one, and its sentence is about that one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener import bf16
from listener.call import Json
from listener.elements import READERS, Elements
from listener.tensors import (
    NUMPY,
    ModelSpec,
    TensorError,
    TensorSpec,
    as_array,
    cast,
    dims,
    fits,
    is_bare,
    itemsize,
    listed,
)

_LISTS = {list, tuple}
_JSON = {*_LISTS, dict, str, bytes, bool, int, float, type(None)}


def from_instance(instance: Json, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """One instance as arrays without batch dimension: an object by input name, or the bare value of a single input.

    Raises:
        TensorError: an input is unknown, missing, or its value does not fit.
    """
    given = _by_name(instance, spec)
    return {tensor.name: from_json(given[tensor.name], tensor) for tensor in spec.inputs if tensor.name in given}


def as_batch(instances: Sequence[Json], spec: ModelSpec) -> dict[str, NDArray[Any]] | None:
    """All instances as one batch; None where they are none, or something is wrong with one."""
    try:
        first = _by_name(instances[0], spec)
        if not first or not _alike(instances):
            return None
        if isinstance(instances[0], dict):
            columns = {name: [instance[name] for instance in instances] for name in first}
        else:
            columns = {name: list(instances) for name in first}
        return {tensor.name: column(columns[tensor.name], tensor) for tensor in spec.inputs if tensor.name in first}
    except TensorError:
        return None


def from_json(value: Json, spec: TensorSpec) -> NDArray[Any]:
    """A value as an array of `spec.shape`.

    Args:
        value: a (nested) list; a bare value, where every size is 1 or -1; or for a tensor of numbers, `bytes`: its
            little-endian contents, or in a list the contents of a part.
        spec: of the tensor. BF16 comes as FP32.

    Raises:
        TensorError: ragged, of another type or shape, or out of the datatype's range.
    """
    if isinstance(value, (np.ndarray, np.generic)):  # a handler's
        array = cast(as_array(value), spec)
        return _shaped(array, array.shape, spec, 0)
    return _read(value, spec, 0)


def column(values: list[Json], spec: TensorSpec) -> NDArray[Any]:
    """One input of all instances, each as `from_json` takes it, with a leading batch dimension.

    Raises:
        TensorError: as `from_json`; or they differ in shape. Which of them it is about is not said.
    """
    return _read(values, spec, 1)


def from_rows(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any] | None:
    """An array with a row for each instance, as a batch of a model's only input; None = look closer at each.

    Instances that came as bytes would otherwise become objects of some hundred bytes each.
    """
    wanted = NUMPY.get(spec.datatype)
    kinds = ("b",) if spec.datatype == "BOOL" else ("i", "u", "f")
    if wanted is None or wanted.kind == "O" or array.dtype.kind not in kinds:
        return None
    try:
        return np.ascontiguousarray(_shaped(cast(array, spec), array.shape, spec, 1))
    except TensorError:
        return None


def _by_name(instance: Json, spec: ModelSpec) -> dict[str, Json]:
    if isinstance(instance, dict):
        if unknown := sorted(instance.keys() - {tensor.name for tensor in spec.inputs}):
            takes = listed(spec.inputs) or "no inputs"
            raise TensorError(f"unknown input {unknown[0]!r}; model {spec.name!r} takes {takes}")
        given = instance
    elif len(spec.inputs) == 1:
        given = {spec.inputs[0].name: instance}
    else:
        takes = f"the inputs {listed(spec.inputs)}" if spec.inputs else "no inputs, so an instance is {}"
        raise TensorError(f"is not an object; model {spec.name!r} takes {takes}")
    for tensor in spec.inputs:
        if tensor.name not in given and not tensor.optional:
            raise TensorError(f"input {tensor.name!r} is missing")
    if not given and spec.max_batch_size:  # nothing would tell how many rows there are
        raise TensorError(f"gives no input; model {spec.name!r} takes {listed(spec.inputs)}, and needs at least one")
    return given


def _alike(instances: Sequence[Json]) -> bool:
    """Whether they all give their inputs in the same way, and the same ones."""
    if not isinstance(instances[0], dict):
        return dict not in set(map(type, instances))
    names = instances[0].keys()
    return set(map(type, instances)) == {dict} and all(instance.keys() == names for instance in instances)


def _read(value: Json, spec: TensorSpec, lead: int) -> NDArray[Any]:
    """A value with so many dimensions, 0 or 1, before those of the tensor."""
    dtype = NUMPY.get(spec.datatype)
    if dtype is None:
        raise TensorError(f"input {spec.name!r} is {spec.datatype}, which is not known here")
    elements = _unfolded(value, spec, lead)
    if dtype.kind != "O" and elements.kinds == {bytes}:
        return _raw(elements, lead)
    return _shaped(READERS[dtype.kind](elements), elements.shape, spec, lead)


def _unfolded(value: Json, spec: TensorSpec, lead: int) -> Elements:
    """What is in the innermost of nested lists."""
    shape: list[int] = []
    level, kinds = [value], {type(value)}
    while level:
        if not kinds <= _JSON:  # a handler's
            level = [item.tolist() if isinstance(item, (np.ndarray, np.generic)) else item for item in level]
            kinds = set(map(type, level))
        if kinds.isdisjoint(_LISTS):
            break
        if not kinds <= _LISTS or len(lengths := set(map(len, level))) != 1:
            raise TensorError(f"input {spec.name!r} is ragged: its lists differ in length or depth")
        if len(shape) == len(spec.shape) + lead:
            raise TensorError(f"input {spec.name!r} is nested deeper than the model takes, {dims(spec.shape)}")
        shape.append(lengths.pop())
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
        kinds = set(map(type, level))
    return Elements(level, kinds, tuple(shape), spec)


def _shaped(array: NDArray[Any], shape: tuple[int, ...], spec: TensorSpec, lead: int) -> NDArray[Any]:
    """The items of lists of such lengths in the shape of the tensor, if they have it."""
    if len(shape) == lead and is_bare(spec.shape):
        shape += (1,) * len(spec.shape)
    elif not array.size:  # an empty list says nothing of what is in its items
        shape += tuple(max(size, 0) for size in spec.shape[len(shape) - lead :])
    if not fits(shape[lead:], spec.shape):
        given = dims(shape[lead:])
        raise TensorError(f"input {spec.name!r} has shape {given}; the model takes {dims(spec.shape)}")
    return array.reshape(shape)


# Raw contents


def _raw(given: Elements, lead: int) -> NDArray[Any]:
    """The contents of the whole tensor, or in lists of a part each: what is left of its dimensions."""
    shape, spec = given.shape, given.spec
    sizes = set(map(len, given.items))
    if len(sizes) != 1:
        raise TensorError(f"input {spec.name!r} is ragged: its {{'b64': ...}} differ in length")
    shape += _inferred(sizes.pop(), spec.shape[max(len(shape) - lead, 0) :], spec)
    raw = np.concatenate([np.frombuffer(item, np.uint8) for item in given.items])
    array: NDArray[Any]
    if spec.datatype == "BF16":
        array = bf16.unpacked(raw.view("<u2"))
    elif spec.datatype == "BOOL":
        array = raw != 0
    else:
        dtype = NUMPY[spec.datatype]
        array = raw.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    return _shaped(array, shape, spec, lead)


def _inferred(nbytes: int, wanted: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """The sizes that a number of bytes makes of dimensions of which one may be free."""
    free = [place for place, size in enumerate(wanted) if size == -1]
    unit = math.prod(size for size in wanted if size != -1) * itemsize(spec.datatype)
    whole = nbytes % unit == 0 if free and unit else nbytes == unit
    if len(free) > 1 or (free and not unit) or not whole:
        raise TensorError(f"input {spec.name!r}: {nbytes} bytes do not make {spec.datatype} {dims(wanted)}")
    return tuple(nbytes // unit if size == -1 else size for size in wanted)
