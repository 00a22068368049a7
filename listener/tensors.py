"""What a model says of its tensors, and arrays held against it. Pure: no I/O, no asyncio.

Datatypes carry Triton's names (`FP32`, `INT64`, `BYTES`, ...). JSON to arrays is `values.py`, arrays to JSON
`predictions.py`; rules and sources: docs/reference/contract.md, "Tensors".
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener import bf16

#: numpy's type for each datatype inside the listener. BYTES are objects of type `bytes`. numpy has no BF16, whose
#: numbers are all FP32 numbers as well; on the way to Triton and back it has two bytes (`bf16.py`).
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
    "BF16": np.dtype(np.float32),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
#: struct's letters for numbers; it refuses what is no number, too large, or no whole number where one is wanted.
LETTERS: Mapping[str, str] = {
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
#: Those of which Triton gives classes. It refuses the others, but for BYTES, of which Triton 2.51 dies.
CLASSIFIED = frozenset(NUMPY) - {"BOOL", "FP16", "BF16", "BYTES"}
#: The key of a model's `parameters` in config.pbtxt that has short rows padded, and with what.
PAD = "listener_pad"


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
        ragged: an input whose rows may differ in shape; each shape is then a call of its own.
        labelled: an output whose classes have names.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    ragged: bool = False
    labelled: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model takes and gives.

    Attributes:
        max_batch_size: rows that one call may carry; 0 = the model does not batch, each instance is a call of its own.
        independent: rows have nothing to do with one another; not so in a sequence model.
        decoupled: a request is answered in any number of responses.
        pad: what short rows are filled up with, as the configuration's `listener_pad` says it; None = they are not.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    independent: bool = True
    decoupled: bool = False
    pad: str | None = None

    @property
    def only_input(self) -> TensorSpec | None:
        """The input of a model that has just one."""
        return self.inputs[0] if len(self.inputs) == 1 else None

    @property
    def classified(self) -> tuple[TensorSpec, ...]:
        """The outputs of which Triton can say the best classes by name."""
        return tuple(output for output in self.outputs if output.labelled and output.datatype in CLASSIFIED)

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
            pad=config.get("parameters", {}).get(PAD, {}).get("string_value"),
        )


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    datatype = str(entry["data_type"]).removeprefix("TYPE_")
    return TensorSpec(
        name=str(entry["name"]),
        datatype="BYTES" if datatype == "STRING" else datatype,
        shape=tuple(int(size) for size in entry.get("dims", ())),
        optional=bool(entry.get("optional", False)),
        ragged=bool(entry.get("allow_ragged_batch", False)),
        labelled=bool(entry.get("label_filename")),
    )


def itemsize(datatype: str) -> int:
    """Bytes that an element takes on the way to Triton. Not for BYTES."""
    return bf16.SIZE if datatype == "BF16" else NUMPY[datatype].itemsize


@functools.lru_cache(256)
def packer(count: int, datatype: str) -> struct.Struct:
    """Makes the contents of a tensor out of so many numbers; for the datatypes of `LETTERS`."""
    return struct.Struct(f"={count}{LETTERS[datatype]}")


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape is one that `wanted`, with -1 for any size, allows."""
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def is_bare(shape: Sequence[int]) -> bool:
    """Whether a tensor of that shape may be given as its one value."""
    return all(size in (1, -1) for size in shape)


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
    is_bf16 = spec.datatype == "BF16"
    if wanted is None or (array.dtype == wanted and not is_bf16):
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
        made = bf16.rounded(array) if is_bf16 else array.astype(wanted)
    if wanted.kind == "f" and np.isinf(made).sum() != np.isinf(array).sum():
        raise TensorError(f"input {spec.name!r} has a number outside {spec.datatype}")
    return made


def dims(shape: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"


def listed(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{t.name!r} ({t.datatype} {dims(t.shape)})" for t in tensors)
