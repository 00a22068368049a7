"""Rows: instances as a batch, and a batch's outputs as rows again.

Whole requests of numbers become one array in one pass, which is what most requests to a model without a handler are.
`batches.py` and `predictions.py` know every case and what to say of each mistake; the functions for the plain case give
None for all others.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays, Json, Numbers
from listener.predictions import printable
from listener.tensors import LETTERS, NUMPY, ModelSpec, TensorError, TensorSpec, fits, is_bare, packer

#: The least and the greatest number of a datatype; of whole ones only as far as doubles hold them all.
_LIMITS = {
    NUMPY[name]: (float(np.finfo(NUMPY[name]).min), float(np.finfo(NUMPY[name]).max))
    if NUMPY[name].kind == "f"
    else (float(max(np.iinfo(NUMPY[name]).min, -(2**53))), float(min(np.iinfo(NUMPY[name]).max, 2**53)))
    for name in LETTERS
}


def stack(rows: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Arrays of single rows, joined along a new leading batch dimension.

    Raises:
        TensorError: they differ in names or shapes.
    """
    first = rows[0]
    if len(rows) == 1:  # nothing to copy
        return {name: array[np.newaxis] for name, array in first.items()}
    for row in rows:
        if row.keys() != first.keys() or any(array.shape != first[name].shape for name, array in row.items()):
            raise TensorError("the rows differ in their tensors or in the tensors' shapes")
    return {name: np.stack([row[name] for row in rows]) for name in first}


def from_instances(instances: Sequence[Json], tensor: TensorSpec, booleans: bool) -> NDArray[Any] | None:
    """Instances that are numbers or lists of them, or one that is a tensor's bytes, as a batch.

    Args:
        instances: N of them.
        tensor: the model's only input.
        booleans: whether there may be some among the numbers.

    Returns:
        An array of shape [N, *tensor.shape] and the tensor's dtype, read-only; None = look closer.
    """
    if tensor.datatype not in LETTERS:
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
            if len(shape) > 1 or not is_bare(tensor.shape):
                return None
            shape += [1] * len(tensor.shape)
            break
        shape.append(len(level[0]))
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    try:
        packed = packer(len(level), tensor.datatype).pack(*level)
    except (struct.error, OverflowError):
        return None
    return np.ndarray(shape, NUMPY[tensor.datatype], packed)


def _same_length(level: Sequence[Json]) -> bool:
    """Whether these are lists, all as long as the first."""
    if len(level) == 1:
        return type(level[0]) is list
    return set(map(type, level)) == {list} and len(set(map(len, level))) == 1


def _numbers(given: Numbers, tensor: TensorSpec) -> NDArray[Any] | None:
    shape = given.shape
    if not fits(shape[1:], tensor.shape):
        if len(shape) > 1 or not is_bare(tensor.shape):
            return None
        shape += (1,) * len(tensor.shape)
    dtype = NUMPY[tensor.datatype]
    values = np.frombuffer(given.values)
    if not _within(values, dtype):
        return None
    array = values.astype(dtype, copy=False)
    return array.reshape(shape) if dtype.kind == "f" or (array == values).all() else None


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
    if len(spec.outputs) > 1 or len(parts[0]) != 1:
        return None
    (array,) = parts[0].values()
    if array.dtype.kind == "O":
        return None
    if len(parts) > 1 or not spec.max_batch_size:
        joined = _joined(parts, spec)
        if joined is None:
            return None
        array = joined
    return printable(array, spec.outputs[0].datatype if spec.outputs else "")


def _joined(parts: Sequence[Arrays], spec: ModelSpec) -> NDArray[Any] | None:
    """The one output of several parts, if its rows are alike."""
    arrays = [array for part in parts for array in part.values()]
    lead = 1 if spec.max_batch_size else 0
    if len(arrays) != len(parts) or len({(array.dtype, array.shape[lead:]) for array in arrays}) > 1:
        return None
    return np.concatenate(arrays) if lead else np.stack(arrays)


def rows_of(parts: Sequence[Arrays], spec: ModelSpec) -> list[dict[str, NDArray[Any]]]:
    """The outputs of each row, without batch dimension; a part of a model without batching is a row."""
    if spec.max_batch_size == 0:
        return [dict(part) for part in parts]
    return [row for part in parts for row in singles(part)]


def singles(arrays: Arrays) -> list[dict[str, NDArray[Any]]]:
    """Each row by itself, without batch dimension."""
    return [{name: array[index, ...] for name, array in arrays.items()} for index in range(row_count(arrays))]


def row_count(arrays: Arrays) -> int:
    """The leading dimension that they share; no arrays at all are the one row of a call without inputs."""
    for array in arrays.values():
        return len(array)
    return 1
