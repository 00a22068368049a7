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
#: Into which instances are cut that cannot be read at once. With two, many wrong ones would all be read 17 times.
_PARTS = 8
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


class Batch(NamedTuple):
    """Rows that are alike.

    Attributes:
        places: of its rows among the instances, in order.
        arrays: inputs by name, each with a leading dimension of so many rows. None at all for the one row of a model
            without batching that gives none.
    """

    places: Sequence[int]
    arrays: dict[str, NDArray[Any]]


def of_json(instances: Sequence[Json], spec: ModelSpec, wrong: list[TensorError] | None = None) -> list[Batch]:
    """Instances as a model without a handler takes them.

    Args:
        instances: of a request.
        spec: of the model.
        wrong: gets an error for each instance that is wrong, in no certain order; the batches then have the others.
            None = the first error is raised.

    Raises:
        TensorError: an instance does not fit, or not beside the others; `args[1]` is its index.
    """
    if (whole := as_batch(instances, spec)) is not None:
        return [Batch(range(len(instances)), whole)]
    forms: dict[Any, list[int]] = {}
    for place, instance in enumerate(instances):
        forms.setdefault(_form(instance), []).append(place)
    return _grouped(sorted(_read(instances, forms.values(), spec, wrong), key=_first), spec, wrong)


def of_rows(rows: Sequence[Mapping[str, Any]], spec: ModelSpec, wrong: list[TensorError] | None = None) -> list[Batch]:
    """Arrays of single instances, without batch dimension, as batches. Numbers and lists count as arrays.

    Args:
        rows: of a request.
        spec: of the model.
        wrong: as of `of_json`.

    Raises:
        TensorError: an instance differs from the first in what the model does not allow; `args[1]` is its index.
    """
    named = [{name: as_array(array)[np.newaxis] for name, array in row.items()} for row in rows]
    return _grouped([Batch([index], arrays) for index, arrays in enumerate(named)], spec, wrong)


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


def _first(batch: Batch) -> int:
    return batch.places[0]


def _blame(sentence: str, places: Sequence[int], wrong: list[TensorError] | None) -> None:
    """Raises the error of the first of some places, or adds that of each."""
    if wrong is None:
        raise TensorError(sentence, places[0])
    wrong += [TensorError(sentence, place) for place in places]


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


def _read(
    instances: Sequence[Json], forms: Iterable[Sequence[int]], spec: ModelSpec, wrong: list[TensorError] | None
) -> list[Batch]:
    """Instances by the places of those of one form, which come in the order of the first of each.

    Raises:
        TensorError: of the first instance that is wrong, if nobody collects them.
    """
    blocks: list[Batch] = []
    first: TensorError | None = None
    for places in forms:
        if first is not None and places[0] > first.args[1]:
            break
        try:
            blocks += _blocks(instances, places, spec, wrong)
        except TensorError as error:
            if first is None or error.args[1] < first.args[1]:
                first = error
    if first is not None:
        raise first
    return blocks


def _blocks(
    instances: Sequence[Json], places: Sequence[int], spec: ModelSpec, wrong: list[TensorError] | None
) -> list[Batch]:
    """Instances of one form in as few pieces as can be read at once: parts where the whole cannot be.

    So one that is wrong among a hundred thousand is found in the time that a few hundred thousand take, and all of
    those that are in the time of as many, times a few.
    """
    chosen = [instances[place] for place in places]
    if (whole := as_batch(chosen, spec)) is not None:
        return [Batch(places, whole)]
    if len(places) > 1:
        size = -(-len(places) // _PARTS)
        parts = [places[start : start + size] for start in range(0, len(places), size)]
        return [block for part in parts for block in _blocks(instances, part, spec, wrong)]
    try:
        arrays = from_instance(chosen[0], spec)
    except TensorError as error:
        _blame(str(error), places, wrong)
        return []
    return [Batch(places, {name: array[np.newaxis] for name, array in arrays.items()})]


def _grouped(blocks: Sequence[Batch], spec: ModelSpec, wrong: list[TensorError] | None) -> list[Batch]:
    """Blocks that are alike joined into batches."""
    if len(blocks) < 2:
        return list(blocks)
    if spec.pad is not None and spec.max_batch_size:
        blocks = _padded(blocks, spec, wrong)
    groups: dict[Any, list[Batch]] = {}
    for block in blocks:
        kind = frozenset((name, array.shape[1:]) for name, array in block.arrays.items())
        groups.setdefault(kind or block.places[0], []).append(block)
    alike = list(groups.values())
    return [_joined(group) for group in (_beside(alike, spec, wrong) if spec.max_batch_size else alike)]


def _joined(blocks: Sequence[Batch]) -> Batch:
    if len(blocks) == 1:
        return blocks[0]
    places = np.array(_places(blocks))
    arrays = {name: np.concatenate([block.arrays[name] for block in blocks]) for name in blocks[0].arrays}
    order = np.argsort(places)  # instances of one form came together, and others may lie between them
    return Batch(places[order].tolist(), {name: array[order] for name, array in arrays.items()})


def _places(blocks: Sequence[Batch]) -> list[int]:
    return [place for block in blocks for place in block.places]


def _beside(
    groups: Sequence[Sequence[Batch]], spec: ModelSpec, wrong: list[TensorError] | None
) -> list[Sequence[Batch]]:
    """Those that may differ as they do from the first one, and from the first that has the same tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    fit = []
    for group in groups:
        given = group[0].arrays
        if sentence := _misfit(given, groups[0][0].arrays, shapes, spec):
            _blame(sentence, _places(group), wrong)
        else:
            fit.append(group)
            shapes = {name: array.shape[1:] for name, array in given.items()} | shapes
    return fit


def _misfit(given: Arrays, first: Arrays, shapes: Mapping[str, tuple[int, ...]], spec: ModelSpec) -> str:
    """In what rows differ from others though they may not; "" = in nothing."""
    known = {tensor.name: tensor for tensor in spec.inputs}
    if any(name not in known or not known[name].optional for name in given.keys() ^ first.keys()):
        return f"gives the tensors {_quoted(given)} where another instance gives {_quoted(first)}"
    for name, array in given.items():
        shape, wanted = array.shape[1:], shapes.get(name, array.shape[1:])
        if shape != wanted and not (name in known and known[name].ragged and fits(shape, known[name].shape)):
            return f"{name!r} has shape {dims(shape)} where another instance has {dims(wanted)}"
    return ""


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


def _padded(blocks: Sequence[Batch], spec: ModelSpec, wrong: list[TensorError] | None) -> list[Batch]:
    """The same rows, in each input of a variable size as long as the longest that fits the model."""
    made = [Batch(block.places, dict(block.arrays)) for block in blocks]
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    for name, pad in padding(spec).items():
        fit = [name in block.arrays and fits(block.arrays[name].shape[1:], tensors[name].shape) for block in made]
        holders = [block for block, fitting in zip(made, fit, strict=True) if fitting]
        if len({block.arrays[name].shape[1:] for block in holders}) < 2:
            continue
        holders = _with_room(name, holders, pad, wrong)
        shape = _longest(name, holders)
        for block in holders:
            block.arrays[name] = _filled(cast(block.arrays[name], tensors[name]), shape, pad)
        others = [block for block, fitting in zip(made, fit, strict=True) if not fitting]
        made = sorted(others + holders, key=_first)
    return made


def _longest(name: str, blocks: Sequence[Batch]) -> tuple[int, ...]:
    """The shape that has room for one input's rows of all blocks."""
    return tuple(map(max, zip(*[block.arrays[name].shape[1:] for block in blocks], strict=True)))


def _with_room(name: str, blocks: list[Batch], pad: NDArray[Any], wrong: list[TensorError] | None) -> list[Batch]:
    """The rows that can be padded: all, or without the longest ones, which are to blame."""
    width = pad.dtype.itemsize if pad.dtype.kind != "O" else len(pad[()]) + 4
    rows, shape = sum(len(block.places) for block in blocks), _longest(name, blocks)
    if (nbytes := rows * math.prod(shape) * width) <= _PADDED:
        return blocks
    taken = f"would take {nbytes >> 20} MiB where {_PADDED >> 20} are allowed"
    sentence = f"input {name!r}: {rows} rows padded to {dims(shape)} {taken}"
    longest = sorted(blocks, key=lambda block: -math.prod(block.arrays[name].shape[1:]))
    if wrong is None:
        raise TensorError(sentence, longest[0].places[0])
    kept: list[Batch] = []
    rows, shape = 0, (0,) * len(shape)
    for block in reversed(longest):
        larger = tuple(map(max, zip(shape, block.arrays[name].shape[1:], strict=True)))
        room = max(0, _PADDED // max(1, math.prod(larger) * width) - rows)
        if room:
            kept.append(_rows(block, slice(room)))
            rows, shape = rows + len(kept[-1].places), larger
        if block.places[room:]:
            _blame(sentence, block.places[room:], wrong)
    return kept


def _rows(block: Batch, which: slice) -> Batch:
    return Batch(block.places[which], {name: array[which] for name, array in block.arrays.items()})


def _filled(array: NDArray[Any], shape: tuple[int, ...], pad: NDArray[Any]) -> NDArray[Any]:
    """Rows in a larger shape, and the rest of it."""
    made = np.empty((len(array), *shape), pad.dtype)
    made[...] = pad
    made[tuple(map(slice, array.shape))] = array
    return made


def _quoted(arrays: Arrays) -> str:
    return ", ".join(repr(name) for name in arrays) or "none"
