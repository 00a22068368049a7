"""Outputs of an inference call: how large they will be, where they lie in an answer, and their arrays. Pure.

An output is in the answer's binary part, in its JSON, or in shared memory, where the request had room for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener import bf16
from listener.tensors import NUMPY, ModelSpec, itemsize


class Output(NamedTuple):
    """Where an output lies.

    Attributes:
        name: its name.
        dtype: of what lies there; object for BYTES, two bytes for BF16.
        shape: batch dimension included where the model batches.
        start: its first byte in the answer's body; -1 = it lies in shared memory.
        end: the byte after its last.
        as_is: an array can be a view of it there: neither BYTES nor BF16, and numpy is as fast with it as elsewhere.
        is_bf16: its array is one of FP32.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int
    as_is: bool
    is_bf16: bool


def row_sizes(spec: ModelSpec) -> dict[str, int]:
    """Bytes per row, or per call of a model that does not batch, of each output whose size the configuration tells.

    None of a model whose rows depend on one another: if the configuration is wrong its call has to be made twice, and
    a sequence would go on by two.
    """
    return {
        output.name: math.prod(output.shape) * itemsize(output.datatype)
        for output in spec.outputs
        if spec.independent
        and output.datatype in NUMPY
        and output.datatype != "BYTES"
        and min(output.shape, default=0) >= 0
    }


def in_json(entry: Mapping[str, Any]) -> bool:
    """Whether an output's data are in the answer's JSON."""
    return _size(entry) is None and "data" in entry


def layout_of(entries: Sequence[Mapping[str, Any]], start: int) -> tuple[Output, ...]:
    """Where outputs lie that are not in the JSON.

    Args:
        entries: what the answer's JSON says of them.
        start: of the first binary one in the body.

    Raises:
        ValueError, TypeError, KeyError: that makes no sense.
    """
    layout = []
    for entry in entries:
        size, dtype, shape = _size(entry), _dtype(entry), tuple(map(int, entry["shape"]))
        is_bf16 = entry["datatype"] == "BF16"
        if (size or 0) < 0 or any(length < 0 for length in shape):
            raise ValueError(f"output {entry['name']!r} has a negative size")
        if size is None:
            layout.append(Output(str(entry["name"]), dtype, shape, -1, -1, False, is_bf16))
            continue
        if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"output {entry['name']!r} has another size than its shape says")
        as_is = not (dtype.hasobject or is_bf16) and start % dtype.itemsize == 0
        layout.append(Output(str(entry["name"]), dtype, shape, start, start + size, as_is, is_bf16))
        start += size
    return tuple(layout)


def read(layout: Sequence[Output], body: bytes, end: int, placed: Mapping[str, memoryview]) -> dict[str, NDArray[Any]]:
    """The outputs of a layout, read-only but for BYTES and BF16: views of the body where that is possible, else copies.

    Args:
        layout: `layout_of` this answer's JSON.
        body: of the answer.
        end: of the JSON in it.
        placed: the room that the request had for outputs in shared memory, by name.

    Raises:
        ValueError, TypeError, KeyError: the body, or the room for an output, has another size.
    """
    outputs: dict[str, NDArray[Any]] = {}
    for name, dtype, shape, start, stop, as_is, is_bf16 in layout:
        if as_is:
            outputs[name] = np.ndarray(shape, dtype, body, start)
        elif start < 0:
            outputs[name] = _copy(placed[name], dtype, shape, is_bf16)
            continue
        elif dtype.hasobject:
            outputs[name] = _read_strings(body[start:stop]).reshape(shape)
        else:
            there: NDArray[Any] = np.ndarray(shape, dtype, body[start:stop])
            outputs[name] = bf16.unpacked(there) if is_bf16 else there
        end = stop
    if end != len(body):
        raise ValueError(f"the body has {len(body)} bytes instead of {end}")
    return outputs


def mixed(
    entries: Sequence[Mapping[str, Any]], body: bytes, start: int, placed: Mapping[str, memoryview]
) -> dict[str, NDArray[Any]]:
    """As `read`, with some outputs in the JSON; Triton was not asked for such."""
    outputs = read(layout_of([entry for entry in entries if not in_json(entry)], start), body, start, placed)
    said = {
        str(entry["name"]): np.array(entry["data"], NUMPY[entry["datatype"]]).reshape(entry["shape"])
        for entry in entries
        if in_json(entry)
    }
    return {str(entry["name"]): (outputs | said)[str(entry["name"])] for entry in entries}


def _size(entry: Mapping[str, Any]) -> int | None:
    """Of an output's binary part; None if its data are in the JSON."""
    size = (entry.get("parameters") or {}).get("binary_data_size")
    return None if size is None else int(size)


def _dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    datatype = entry["datatype"]
    return np.dtype(np.uint16) if datatype == "BF16" else NUMPY[datatype]


def _copy(room: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], is_bf16: bool) -> NDArray[Any]:
    """An output out of shared memory, so that its place can be given to others; read-only, as it is from the body."""
    if dtype.hasobject:
        raise ValueError("strings are never asked for in shared memory")
    there: NDArray[Any] = np.ndarray(shape, dtype, room)  # TypeError where the room is too small
    copy: NDArray[Any] = bf16.unpacked(there) if is_bf16 else there.copy()
    copy.flags.writeable = False
    return copy


def _read_strings(raw: bytes) -> NDArray[Any]:
    found, at = [], 0
    while at < len(raw):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        found.append(raw[start:at])
    if at != len(raw):
        raise ValueError("a string is cut off")
    array = np.empty(len(found), np.object_)
    array[:] = found
    return array
