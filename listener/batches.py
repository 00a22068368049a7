"""Instances as batches for the model: mostly one; where rows may differ, one of each kind.

Rows differ in what the configuration allows: optional inputs that some leave out, ragged inputs, padded ones; and in
whatever they like where the model does not batch. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays, Json
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
    forms: dict[Any, list[int]] = {}
    for place, instance in enumerate(instances):
        forms.setdefault(_form(instance), []).append(place)
    return _grouped(sorted(_read(instances, forms.values(), spec), key=lambda block: block.places[0]), spec)


def of_rows(rows: Sequence[Mapping[str, Any]], spec: ModelSpec) -> list[Batch]:
    """Arrays of single instances, without batch dimension, as batches. Numbers and lists count as arrays.

    Raises:
        TensorError: an instance differs from the first in what the model does not allow; `args[1]` is its index.
    """
    named = [{name: as_array(array)[np.newaxis] for name, array in row.items()} for row in rows]
    return _grouped([Batch([index], arrays) for index, arrays in enumerate(named)], spec)


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


def _form(instance: Json) -> Any:
    """What instances have in common that can be read together, if they are in order."""
    if isinstance(instance, dict):
        return tuple([(name, _lengths(value)) for name, value in instance.items()])
    return _lengths(instance)


def _lengths(value: Json) -> tuple[int, ...]:
    """Of the first of the lists on each level, and of bytes in the last."""
    lengths = []
    while isinstance(value, list):
        lengths.append(len(value))
        value = value[0] if value else None
    return (*lengths, -1, len(value)) if isinstance(value, bytes) else tuple(lengths)


def _read(instances: Sequence[Json], forms: Iterable[Sequence[int]], spec: ModelSpec) -> list[Batch]:
    """Instances by the places of those of one form, which come in the order of the first of each.

    Raises:
        TensorError: of the first instance that is wrong.
    """
    blocks: list[Batch] = []
    wrong: TensorError | None = None
    for places in forms:
        if wrong is not None and places[0] > wrong.args[1]:
            break
        try:
            blocks += _blocks(instances, places, spec)
        except TensorError as error:
            if wrong is None or error.args[1] < wrong.args[1]:
                wrong = error
    if wrong is not None:
        raise wrong
    return blocks


def _blocks(instances: Sequence[Json], places: Sequence[int], spec: ModelSpec) -> list[Batch]:
    """Instances of one form in as few pieces as can be read at once: halves where the whole cannot be.

    So one that is wrong among a hundred thousand is found in the time that a few hundred thousand take.
    """
    chosen = [instances[place] for place in places]
    if (whole := as_batch(chosen, spec)) is not None:
        return [Batch(places, whole)]
    if len(places) > 1:
        half = len(places) // 2
        return _blocks(instances, places[:half], spec) + _blocks(instances, places[half:], spec)
    try:
        arrays = from_instance(chosen[0], spec)
    except TensorError as error:
        raise TensorError(str(error), places[0]) from None
    return [Batch(places, {name: array[np.newaxis] for name, array in arrays.items()})]


def _grouped(blocks: Sequence[Batch], spec: ModelSpec) -> list[Batch]:
    """Blocks that are alike joined into batches."""
    if len(blocks) == 1:
        return [blocks[0]]
    if spec.pad is not None and spec.max_batch_size:
        blocks = _padded(blocks, spec)
    groups: dict[Any, list[Batch]] = {}
    firsts: dict[str, tuple[int, tuple[int, ...]]] = {}
    for block in blocks:
        kind = frozenset((name, array.shape[1:]) for name, array in block.arrays.items())
        if kind not in groups and spec.max_batch_size:
            _check_beside(block, blocks[0].arrays, firsts, spec)
        groups.setdefault(kind or block.places[0], []).append(block)
    return [_joined(group) for group in groups.values()]


def _joined(blocks: Sequence[Batch]) -> Batch:
    if len(blocks) == 1:
        return blocks[0]
    places = [place for block in blocks for place in block.places]
    return Batch(places, {name: np.concatenate([block.arrays[name] for block in blocks]) for name in blocks[0].arrays})


def _check_beside(block: Batch, first: Arrays, firsts: dict[str, tuple[int, tuple[int, ...]]], spec: ModelSpec) -> None:
    """Whether rows may differ as they do from the first one, and from the first that has the same tensor."""
    known, given = {tensor.name: tensor for tensor in spec.inputs}, block.arrays
    if any(name not in known or not known[name].optional for name in given.keys() ^ first.keys()):
        told = f"gives the tensors {_quoted(given)} where instances[0] gives {_quoted(first)}"
        raise TensorError(told, block.places[0])
    for name, array in given.items():
        shape = array.shape[1:]
        place, wanted = firsts.setdefault(name, (block.places[0], shape))
        if shape != wanted and not (name in known and known[name].ragged and fits(shape, known[name].shape)):
            told = f"{name!r} has shape {dims(shape)} where instances[{place}] has {dims(wanted)}"
            raise TensorError(told, block.places[0])


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


def _padded(blocks: Sequence[Batch], spec: ModelSpec) -> list[Batch]:
    """The same rows, in each input of a variable size as long as the longest."""
    made = [Batch(block.places, dict(block.arrays)) for block in blocks]
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    for name, pad in padding(spec).items():
        holders = [block for block in made if name in block.arrays]
        shapes = {block.arrays[name].shape[1:] for block in holders}
        if len(shapes) < 2 or not all(fits(shape, tensors[name].shape) for shape in shapes):
            continue
        shape = tuple(map(max, zip(*shapes, strict=True)))
        _check_room(name, holders, shape, pad)
        for block in holders:
            block.arrays[name] = _filled(cast(block.arrays[name], tensors[name]), shape, pad)
    return made


def _check_room(name: str, holders: Sequence[Batch], shape: tuple[int, ...], pad: NDArray[Any]) -> None:
    rows = sum(len(block.places) for block in holders)
    width = pad.dtype.itemsize if pad.dtype.kind != "O" else len(pad[()]) + 4
    if (nbytes := rows * math.prod(shape) * width) > _PADDED:
        longest = max(holders, key=lambda block: math.prod(block.arrays[name].shape[1:]))
        taken = f"would take {nbytes >> 20} MiB where {_PADDED >> 20} are allowed"
        raise TensorError(f"input {name!r}: {rows} rows padded to {dims(shape)} {taken}", longest.places[0])


def _filled(array: NDArray[Any], shape: tuple[int, ...], pad: NDArray[Any]) -> NDArray[Any]:
    """Rows in a larger shape, and the rest of it."""
    made = np.empty((len(array), *shape), pad.dtype)
    made[...] = pad
    made[tuple(map(slice, array.shape))] = array
    return made


def _quoted(arrays: Arrays) -> str:
    return ", ".join(repr(name) for name in arrays) or "none"
