"""A model's outputs as what JSON can say. Pure.

Rules: docs/reference/contract.md, "Tensors". Numbers stay in arrays, which the encoder prints: a list of Python's would
turn the 0.1 of an FP32 into 0.10000000149011612.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from listener import bf16
from listener.call import Arrays, Json, whole
from listener.errors import BadRequest
from listener.tensors import ModelSpec, TensorSpec

#: The key of a request's `parameters` that asks for the best classes of a model's labelled outputs.
TOP_K = "top_k"
#: Triton reads the number as one of 32 bits, and gives what there is.
_MOST = 2**31 - 1
#: The end of the name of a BYTES output that is no text, whatever it holds.
_BINARY = "_bytes"


def top_k(parameters: Mapping[str, Json], spec: ModelSpec) -> int:
    """How many classes a request asks for; 0 = it wants the outputs as they are.

    Raises:
        BadRequest: that is no number of classes, or the model has none.
    """
    given = whole(parameters.get(TOP_K))
    if given is None:
        return 0
    if type(given) is not int or given < 1:
        raise BadRequest(f"parameters.{TOP_K}: has to be a whole number from 1 on")
    if not spec.classified:
        labelled = [f"{output.name!r} ({output.datatype})" for output in spec.outputs if output.labelled]
        why = f"Triton cannot classify {', '.join(labelled)}" if labelled else "none of its outputs has labels"
        raise BadRequest(f"parameters.{TOP_K}: model {spec.name!r} has no classes: {why}")
    return min(given, _MOST)


def predictions(parts: Sequence[Arrays], spec: ModelSpec, classes: bool = False) -> list[Json]:
    """The prediction of each row: the value of the model's one output, or an object by the outputs' names.

    Args:
        parts: a model's answers in their order, with the batch dimension; without it, where the model does not batch.
        spec: of the model.
        classes: labelled outputs hold classes as Triton says them.
    """
    if spec.max_batch_size:
        return [row for part in parts for row in _rows(part, spec, classes)]
    return [prediction(part, spec, classes) for part in parts]


def prediction(row: Arrays, spec: ModelSpec, classes: bool = False) -> Json:
    """Likewise for outputs without the batch dimension."""
    if not row:  # a model need not give any
        return {}
    return _rows({name: array[np.newaxis] for name, array in row.items()}, spec, classes)[0]


def _rows(part: Arrays, spec: ModelSpec, classes: bool) -> list[Json]:
    known = {output.name: output for output in spec.outputs}
    named = {output.name for output in spec.classified} if classes else set()
    columns = {
        name: _each(array.tolist(), _class) if name in named else column(name, array, known.get(name))
        for name, array in part.items()
    }
    if len(spec.outputs) < 2 and len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def printable(array: NDArray[Any], datatype: str = "") -> NDArray[Any]:
    """Numbers as the encoder prints them in the shortest form of their datatype.

    It does so with FP32, FP64 and whole numbers. Of the others each becomes the double whose shortest form is theirs.

    Args:
        array: numbers; those of BF16 as FP32.
        datatype: has to be said of BF16.
    """
    if array.dtype == np.float16:
        return _shortest_fp16()[array.view(np.uint16)]
    if datatype == "BF16":
        bits = bf16.packed(array)
        return np.copysign(_shortest_bf16()[bits & 0x7FFF], array)
    return array


@functools.cache
def _shortest_fp16() -> NDArray[np.float64]:
    """For each pattern of 16 bits the double with the fewest digits that is nearer to its number than to any other."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.str_).astype(np.float64)


@functools.cache
def _shortest_bf16() -> NDArray[np.float64]:
    """Likewise for each pattern without the sign's bit; of BF16 numpy prints nothing."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        numbers = bf16.unpacked(np.arange(1 << 15, dtype=np.uint16)).astype(np.float64)
    left, found = np.flatnonzero(np.isfinite(numbers)), numbers.copy()
    for digits in range(4):  # after the first one; no BF16 needs more
        units = 10.0 ** (np.floor(np.log10(np.maximum(numbers, 1e-60))) - digits)
        # the nearest decimal; and the next one above, as a power of two has more room above than below
        for shift, every in ((0.0, 1), (0.499, 128)):
            tried = left[left % every == 0]
            doubles = np.char.mod(f"%.{digits}e", numbers[tried] + shift * units[tried]).astype(np.float64)
            same = bf16.packed(bf16.rounded(doubles)) == tried
            found[tried[same]] = doubles[same]
            left = np.setdiff1d(left, tried[same])
    return found


def column(name: str, array: NDArray[Any], tensor: TensorSpec | None) -> list[Json]:
    """The values of one output, one for each row.

    Args:
        name: of the output.
        array: with the batch dimension.
        tensor: the output as the model's configuration has it, if it does.
    """
    if array.dtype == np.object_:
        said = _in_base64 if name.endswith(_BINARY) else _text
        texts: list[Json] = _each(array.tolist(), said)
        return texts
    return list(printable(array, tensor.datatype if tensor else ""))


def _each(value: Any, said: Callable[[Any], Json]) -> Any:
    """The same lists with each item said."""
    return [_each(item, said) for item in value] if isinstance(value, list) else said(value)


def _text(value: Any) -> Json:
    """Text where it is some; a handler's own model may give strings."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _in_base64(value)


def _in_base64(value: Any) -> Json:
    raw = value if isinstance(value, bytes) else str(value).encode()
    return {"b64": pybase64.b64encode(raw).decode()}


def _class(said: bytes) -> Json:
    """One class, which Triton says as `score:index[:label]`. Whole numbers stay such."""
    score, index, *label = said.split(b":", 2)
    return {
        "label": _text(label[0]) if label else None,
        "index": int(index),
        "score": int(score) if score.lstrip(b"-").isdigit() else float(score),
    }
