"""JSON values and numpy arrays, translated by what a model says of its tensors. Pure: no I/O, no asyncio.

Datatypes carry Triton's names (`FP32`, `INT64`, `BYTES`, ...); rules and sources: docs/reference/contract.md,
"Tensors".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Json

#: numpy's type for each datatype; BYTES become objects of type `bytes`.
NUMPY: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}


class TensorError(ValueError):
    """A value does not fit a tensor; the text is one sentence that names the tensor."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: its name.
        datatype: Triton's name of its type.
        shape: per instance, without the batch dimension where the model batches; -1 = any size.
        optional: requests may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model takes and gives.

    Attributes:
        max_batch_size: rows that one call may carry; 0 = the model does not batch, each instance is a call of its own.
        independent: rows have nothing to do with one another; not so in a sequence model.
        decoupled: a request is answered in any number of responses.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    independent: bool = True
    decoupled: bool = False

    @property
    def only_input(self) -> TensorSpec | None:
        """The input of a model that has just one."""
        return self.inputs[0] if len(self.inputs) == 1 else None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelSpec:
        """Reads Triton's ModelConfig as its HTTP endpoint gives it (`GET /v2/models/M/config`)."""
        return cls(
            name=str(config["name"]),
            inputs=tuple(_tensor(entry) for entry in config.get("input", ())),
            outputs=tuple(_tensor(entry) for entry in config.get("output", ())),
            max_batch_size=int(config.get("max_batch_size", 0)),
            independent="sequence_batching" not in config,
            decoupled=bool(config.get("model_transaction_policy", {}).get("decoupled", False)),
        )


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    datatype = str(entry["data_type"]).removeprefix("TYPE_")
    return TensorSpec(
        name=str(entry["name"]),
        datatype="BYTES" if datatype == "STRING" else datatype,
        shape=tuple(int(size) for size in entry.get("dims", ())),
        optional=bool(entry.get("optional", False)),
    )


def from_instance(instance: Json, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """One instance as arrays without batch dimension: an object by input name, or the bare value of a single input.

    Raises:
        TensorError: an input is unknown, missing, or its value does not fit.
    """
    names = {tensor.name for tensor in spec.inputs}
    if isinstance(instance, dict):
        if unknown := sorted(instance.keys() - names):
            raise TensorError(f"unknown input {unknown[0]!r}; model {spec.name!r} takes {_listed(spec.inputs)}")
        given = instance
    elif len(spec.inputs) == 1:
        given = {spec.inputs[0].name: instance}
    else:
        raise TensorError(f"is not an object; model {spec.name!r} takes the inputs {_listed(spec.inputs)}")
    for tensor in spec.inputs:
        if tensor.name not in given and not tensor.optional:
            raise TensorError(f"input {tensor.name!r} is missing")
    return {tensor.name: from_json(given[tensor.name], tensor) for tensor in spec.inputs if tensor.name in given}


def from_json(value: Json, spec: TensorSpec) -> NDArray[Any]:
    """A (nested) list, a scalar, or `bytes` holding the tensor's little-endian contents, as an array of `spec.shape`.

    Raises:
        TensorError: ragged, of another type or shape, or out of the datatype's range.
    """
    dtype = NUMPY.get(spec.datatype)
    if dtype is None:
        raise TensorError(f"input {spec.name!r} is {spec.datatype}, which JSON cannot carry")
    if spec.datatype == "BYTES":
        array = _byte_strings(value, spec)
    elif isinstance(value, bytes):
        return _raw(value, spec, dtype)
    else:
        array = _numbers(value, spec, dtype)
    if not fits(array.shape, spec.shape):
        raise TensorError(f"input {spec.name!r} has shape {dims(array.shape)}; the model takes {dims(spec.shape)}")
    return array


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is one that `wanted`, with -1 for any size, allows."""
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def as_array(value: Any) -> NDArray[Any]:
    """An array of what a handler gave: an array, numbers, strings, bytes, or lists of them."""
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    return np.asarray(value, dtype=np.object_) if array.dtype.kind in "SU" else array  # S drops trailing NULs


def cast(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """An array in the datatype of a tensor, if that loses nothing but precision.

    Raises:
        TensorError: another kind of type, or a number outside the datatype.
    """
    wanted = NUMPY.get(spec.datatype)
    if wanted is None or array.dtype == wanted:
        return array
    if array.dtype.kind == "S":
        raise TensorError(f"input {spec.name!r} is {array.dtype}, which drops trailing NULs; make it dtype=object")
    if not np.can_cast(array.dtype, wanted, casting="same_kind"):
        raise TensorError(f"input {spec.name!r} is {array.dtype}, the model takes {spec.datatype}")
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise TensorError(f"input {spec.name!r} has a number outside {spec.datatype}")
    with np.errstate(over="ignore"):
        made = array.astype(wanted)
    if wanted.kind == "f" and np.isinf(made).sum() != np.isinf(array).sum():
        raise TensorError(f"input {spec.name!r} has a number outside {spec.datatype}")
    return made


def to_json(array: NDArray[Any]) -> Json:
    """An array as the encoder takes it: BYTES that are UTF-8 as text, others as `{"b64": ...}`, numbers as an array.

    Numbers stay in their datatype, as a list of Python's would turn the 0.1 of an FP32 into 0.10000000149011612.
    """
    if array.dtype == np.object_:
        return _texts(array.tolist())
    return printable(array)[()]  # a scalar, if there are no dimensions


def printable(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers as the encoder prints them in the shortest form of their datatype; it prints FP16 as if it were FP32."""
    return array.astype(np.str_).astype(np.float64) if array.dtype == np.float16 else array


def _texts(value: Any) -> Json:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _numbers(value: Json, spec: TensorSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = _parsed(value, spec)
    if array.size == 0:
        return array.astype(dtype)
    if dtype.kind == "b":
        if array.dtype.kind != "b":
            raise TensorError(f"input {spec.name!r} is BOOL and takes booleans")
        return array
    if array.dtype.kind == "O":  # whole numbers beyond 64 bits, or no numbers at all
        numeric = all(type(item) in (int, float) for item in array.flat)
    else:
        numeric = array.dtype.kind in "iuf" and not _has_boolean(value)
    if not numeric:
        raise TensorError(f"input {spec.name!r} is {spec.datatype} and takes numbers")
    return _whole(value, array, spec, dtype) if dtype.kind in "iu" else _floating(array, spec, dtype)


def _parsed(value: Json, spec: TensorSpec) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, OverflowError, RecursionError):  # numpy also has a greatest depth
        raise TensorError(f"input {spec.name!r} is ragged: its lists differ in length or depth") from None


def _has_boolean(value: Json) -> bool:
    """numpy takes true for 1 among numbers; the caller more likely made a mistake."""
    if not isinstance(value, list):
        return isinstance(value, bool)
    kinds = set(map(type, value))
    return bool in kinds or (list in kinds and any(map(_has_boolean, value)))


def _whole(value: Json, array: NDArray[Any], spec: TensorSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    """3.0 is 3, because JSON parsers on the way may print every number as a double; 3.5 is a mistake."""
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.trunc(array)).all()):
            raise TensorError(f"input {spec.name!r} is {spec.datatype} and takes whole numbers only")
        if (np.abs(array) >= 2**53).any():  # whole numbers of 64 bits, mixed, have been rounded to doubles
            array = np.asarray(value, dtype=np.object_)
    limits = np.iinfo(dtype)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise TensorError(f"input {spec.name!r} has a number outside {spec.datatype}")
    return array.astype(dtype)


def _floating(array: NDArray[Any], spec: TensorSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        with np.errstate(over="ignore"):
            made = array.astype(dtype)
    except OverflowError:  # a whole number beyond the doubles
        made = np.full(1, np.inf)
    if np.isinf(made).any():  # JSON has no infinity, so the number was too large for the datatype
        raise TensorError(f"input {spec.name!r} has a number outside {spec.datatype}")
    return made


def _byte_strings(value: Json, spec: TensorSpec) -> NDArray[Any]:
    """Strings and bytes at any depth, as an object array of `bytes`."""
    shape: list[int] = []
    flat: list[Json] = [value]
    while any(isinstance(item, list) for item in flat) and len(shape) <= len(spec.shape):
        if not all(isinstance(item, list) and len(item) == len(flat[0]) for item in flat):
            raise TensorError(f"input {spec.name!r} is ragged: its lists differ in length or depth")
        shape.append(len(flat[0]))
        flat = [item for part in flat for item in part]
    if len(shape) > len(spec.shape):
        raise TensorError(f"input {spec.name!r} is nested deeper than the model takes, {dims(spec.shape)}")
    if not all(isinstance(item, (str, bytes)) for item in flat):
        raise TensorError(f"input {spec.name!r} is BYTES and takes strings or {{'b64': ...}}")
    array = np.empty(len(flat), dtype=np.object_)
    array[:] = [item.encode() if isinstance(item, str) else item for item in flat]
    return array.reshape(shape)


def _raw(value: bytes, spec: TensorSpec, dtype: np.dtype[Any]) -> NDArray[Any]:
    fixed = [size for size in spec.shape if size >= 0]
    row = int(np.prod(fixed, dtype=np.int64)) * dtype.itemsize
    free = len(spec.shape) - len(fixed)
    if free > 1 or row == 0 or len(value) % row or (free == 0 and len(value) != row):
        raise TensorError(f"input {spec.name!r}: {len(value)} bytes do not make {spec.datatype} {dims(spec.shape)}")
    array = np.frombuffer(value, dtype=dtype.newbyteorder("<")).astype(dtype)
    return array.reshape(spec.shape)


def dims(shape: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"


def _listed(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{t.name!r} ({t.datatype} {dims(t.shape)})" for t in tensors)
