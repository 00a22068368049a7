"""Rows: instances as a batch, and a batch's outputs as rows again.

Whole requests of numbers become one array in one pass, which is what most requests to a model without a handler are.
`tensors.py` knows every case and what to say of each mistake, one instance at a time; the functions for the plain case
give None for all others.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays, Json, Numbers
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec, as_array, dims, fits, printable

#: struct's letters; it refuses what is no number, too large, or no whole number where one is wanted.
_LETTERS = {
    "INT8": "b",
    "UINT8": "B",
    "INT16": "h",
    "UINT16": "H",
    "INT32": "i",
    "UINT32": "I",
    "INT64": "q",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
#: The least and the greatest number of a datatype; of whole ones only as far as doubles hold them all.
_LIMITS = {
    NUMPY[name]: (float(np.finfo(NUMPY[name]).min), float(np.finfo(NUMPY[name]).max))
    if NUMPY[name].kind == "f"
    else (float(max(np.iinfo(NUMPY[name]).min, -(2**53))), float(min(np.iinfo(NUMPY[name]).max, 2**53)))
    for name in _LETTERS
}


def stack(instances: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Arrays of single instances, joined along a new leading batch dimension. Numbers and lists count as arrays.

    Raises:
        TensorError: an instance has other names or shapes than the first; `args[1]` is its index.
    """
    made = [{name: as_array(array) for name, array in arrays.items()} for arrays in instances]
    first = made[0]
    for index, arrays in enumerate(made):
        if arrays.keys() != first.keys():
            raise TensorError(f"gives the tensors {_quoted(arrays)} where instances[0] gives {_quoted(first)}", index)
        for name, array in arrays.items():
            if array.shape != first[name].shape:
                raise TensorError(
                    f"{name!r} has shape {dims(array.shape)} where instances[0] has {dims(first[name].shape)}", index
                )
    if len(made) == 1:  # nothing to copy
        return {name: array[np.newaxis] for name, array in first.items()}
    return {name: np.stack([arrays[name] for arrays in made]) for name in first}


def from_instances(instances: Sequence[Json], tensor: TensorSpec, booleans: bool) -> NDArray[Any] | None:
    """Instances that are lists of numbers, or one that is a tensor's bytes, as a batch.

    Args:
        instances: N of them.
        tensor: the model's only input.
        booleans: whether there may be some among the numbers.

    Returns:
        An array of shape [N, *tensor.shape] and the tensor's dtype, read-only; None = look closer.
    """
    if tensor.datatype not in _LETTERS:
        return None
    if isinstance(instances, Numbers):
        return _numbers(instances, tensor)
    if len(instances) == 1 and isinstance(instances[0], (bytes, memoryview)):
        return _bytes(instances[0], tensor)
    if booleans:
        return None
    level: Sequence[Json] = instances
    shape = [len(instances)]
    for size in tensor.shape:
        if not _same_length(level) or size not in (-1, len(level[0])):
            return None
        shape.append(len(level[0]))
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    try:
        packed = _packer(len(level), tensor.datatype).pack(*level)
    except (struct.error, OverflowError):
        return None
    return np.ndarray(shape, NUMPY[tensor.datatype], packed)


def _same_length(level: Sequence[Json]) -> bool:
    """Whether these are lists, all as long as the first."""
    if len(level) == 1:
        return type(level[0]) is list
    return set(map(type, level)) == {list} and len(set(map(len, level))) == 1


@functools.lru_cache(256)
def _packer(count: int, datatype: str) -> struct.Struct:
    return struct.Struct(f"={count}{_LETTERS[datatype]}")


def _numbers(given: Numbers, tensor: TensorSpec) -> NDArray[Any] | None:
    if not fits(given.shape[1:], tensor.shape):
        return None
    dtype = NUMPY[tensor.datatype]
    values = np.frombuffer(given.values)
    if not _within(values, dtype):
        return None
    array = values.astype(dtype, copy=False)
    return array.reshape(given.shape) if dtype.kind == "f" or (array == values).all() else None


def _within(values: NDArray[np.float64], dtype: np.dtype[Any]) -> bool:
    """Whether a datatype can hold all of some doubles; False as well where it is not sure."""
    low, high = _LIMITS[dtype]
    return bool(values.min() >= low and values.max() <= high)


def _bytes(value: bytes | memoryview, tensor: TensorSpec) -> NDArray[Any] | None:
    if -1 in tensor.shape or not value:
        return None
    dtype = NUMPY[tensor.datatype]
    if len(value) != dtype.itemsize * math.prod(tensor.shape) or sys.byteorder != "little":
        return None
    return np.ndarray((1, *tensor.shape), dtype, value)


def plain_output(parts: Sequence[Arrays], spec: ModelSpec) -> NDArray[Any] | None:
    """The predictions of a model with one numeric output, as an array with a row for each; None = look closer."""
    if len(parts) != 1 or len(parts[0]) != 1 or spec.max_batch_size == 0:
        return None
    (array,) = parts[0].values()
    return None if array.dtype.kind == "O" else printable(array)


def rows_of(parts: Sequence[Arrays], spec: ModelSpec) -> list[dict[str, NDArray[Any]]]:
    """The outputs of each row, without batch dimension; a part of a model without batching is a row."""
    if spec.max_batch_size == 0:
        return [dict(part) for part in parts]
    return [row for part in parts for row in singles(part)]


def singles(arrays: Arrays) -> list[dict[str, NDArray[Any]]]:
    """Each row by itself, without batch dimension."""
    return [{name: array[index, ...] for name, array in arrays.items()} for index in range(row_count(arrays))]


def row_count(arrays: Arrays) -> int:
    """The leading dimension that they share."""
    return len(next(iter(arrays.values())))


def _quoted(arrays: Arrays) -> str:
    return ", ".join(repr(name) for name in arrays) or "none"
