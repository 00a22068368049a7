"""Instances as batches for the model: mostly one; where rows may differ, one of each kind.

Rows differ in what the configuration allows: optional inputs that some leave out, ragged inputs, padded ones; and in
whatever they like where the model does not batch. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays, Json
from listener.rows import stack
from listener.tensors import PAD, ModelSpec, TensorError, TensorSpec, as_array, cast, dims, fits
from listener.values import as_batch, from_instance, from_json

T = TypeVar("T")

#: Bytes that one input may have when it is padded: a few short rows beside a long one could ask for any number.
_PADDED = 256 << 20
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


class Batch(NamedTuple):
    """Rows that are alike.

    Attributes:
        places: of its rows among the instances.
        arrays: inputs by name, each with a leading dimension of so many rows. None at all for the one row of a model
            without batching that gives none.
    """

    places: Sequence[int]
    arrays: dict[str, NDArray[Any]]


def of_json(instances: Sequence[Json], spec: ModelSpec) -> list[Batch]:
    """Instances as a model without a handler takes them.

    Raises:
        TensorError: an instance does not fit, or not beside the others; `args[1]` is its index.
    """
    if (whole := as_batch(instances, spec)) is not None:
        return [Batch(range(len(instances)), whole)]
    rows = []
    for index, instance in enumerate(instances):
        try:
            rows.append(from_instance(instance, spec))
        except TensorError as error:
            raise TensorError(str(error), index) from None
    return of_rows(rows, spec)


def of_rows(rows: Sequence[Mapping[str, Any]], spec: ModelSpec) -> list[Batch]:
    """Arrays of single instances, without batch dimension, as batches. Numbers and lists count as arrays.

    Raises:
        TensorError: an instance differs from the first in what the model does not allow; `args[1]` is its index.
    """
    made = [{name: as_array(array) for name, array in row.items()} for row in rows]
    if spec.pad is not None and spec.max_batch_size:
        made = _padded(made, spec)
    groups: dict[Any, list[int]] = {}
    firsts: dict[str, tuple[int, tuple[int, ...]]] = {}
    for index, row in enumerate(made):
        kind = frozenset((name, array.shape) for name, array in row.items())
        if kind not in groups and spec.max_batch_size:
            _check_beside(row, index, made[0], firsts, spec)
        groups.setdefault(kind if row else index, []).append(index)
    return [Batch(places, stack([made[place] for place in places])) for places in groups.values()]


def in_order(batches: Sequence[Batch], results: Sequence[Sequence[T]]) -> list[T]:
    """What came of each row of each batch, in the order of the instances."""
    if len(results) == 1:
        return list(results[0])
    found = {
        place: result
        for batch, each in zip(batches, results, strict=True)
        for place, result in zip(batch.places, each, strict=True)
    }
    return [found[place] for place in range(len(found))]


def _check_beside(
    row: Arrays, index: int, first: Arrays, firsts: dict[str, tuple[int, tuple[int, ...]]], spec: ModelSpec
) -> None:
    """Whether a row may differ as it does from the first one, and from the first that has the same tensor."""
    known = {tensor.name: tensor for tensor in spec.inputs}
    if any(name not in known or not known[name].optional for name in row.keys() ^ first.keys()):
        raise TensorError(f"gives the tensors {_quoted(row)} where instances[0] gives {_quoted(first)}", index)
    for name, array in row.items():
        place, wanted = firsts.setdefault(name, (index, array.shape))
        may_differ = name in known and known[name].ragged and fits(array.shape, known[name].shape)
        if array.shape != wanted and not may_differ:
            told = f"{name!r} has shape {dims(array.shape)} where instances[{place}] has {dims(wanted)}"
            raise TensorError(told, index)


# Padding


def padding(spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """What each input of a variable size is filled up with, as an array without dimensions.

    Raises:
        TensorError: `listener_pad` is no value of one of them.
    """
    if spec.pad is None:
        return {}
    return {tensor.name: _pad_of(spec.pad, tensor) for tensor in spec.inputs if -1 in tensor.shape}


def _pad_of(text: str, tensor: TensorSpec) -> NDArray[Any]:
    value: Json = text
    if tensor.datatype == "BOOL":
        value = {"true": True, "false": False}.get(text, text)
    elif _NUMBER.fullmatch(text) and tensor.datatype != "BYTES":
        value = int(text) if text.lstrip("-").isdigit() else float(text)
    try:
        return from_json(value, replace(tensor, shape=()))
    except TensorError:
        where = f"input {tensor.name!r}, which is {tensor.datatype}"
        raise TensorError(f"the parameter {PAD} is {text!r}, which cannot fill up {where}") from None


def _padded(rows: Sequence[Arrays], spec: ModelSpec) -> list[dict[str, NDArray[Any]]]:
    """The same rows, in each input of a variable size as long as the longest."""
    made = [dict(row) for row in rows]
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    for name, pad in padding(spec).items():
        holders = [row for row in made if name in row]
        shapes = {row[name].shape for row in holders}
        if len(shapes) < 2 or not all(fits(shape, tensors[name].shape) for shape in shapes):
            continue
        shape = tuple(map(max, zip(*shapes, strict=True)))
        width = pad.dtype.itemsize if pad.dtype.kind != "O" else len(pad[()]) + 4
        if (nbytes := len(holders) * math.prod(shape) * width) > _PADDED:
            longest = max(range(len(made)), key=lambda index: made[index][name].size if name in made[index] else -1)
            taken = f"would take {nbytes >> 20} MiB where {_PADDED >> 20} are allowed"
            raise TensorError(f"input {name!r}: {len(holders)} rows padded to {dims(shape)} {taken}", longest)
        for row in holders:
            row[name] = _filled(cast(row[name], tensors[name]), shape, pad)
    return made


def _filled(array: NDArray[Any], shape: tuple[int, ...], pad: NDArray[Any]) -> NDArray[Any]:
    made = np.empty(shape, pad.dtype)
    made[...] = pad
    made[tuple(slice(size) for size in array.shape)] = array
    return made


def _quoted(arrays: Arrays) -> str:
    return ", ".join(repr(name) for name in arrays) or "none"
