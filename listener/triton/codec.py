"""Tensors to the bytes of an inference call and back, prepared per model: OIP v2 with its binary extension.

A request is a head, which says names, types, shapes and sizes, and the tensors' own memory. Heads depend on the shapes
alone, so they are kept; so is what an answer's head says, found again by its bytes.
"""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from listener.errors import TritonFailed
from listener.tensors import ModelSpec, TensorError

#: Heads, and layouts of answers, kept per model; the oldest goes first.
_KEPT = 256
#: Bytes from which on a tensor is sent from its own memory; a smaller one is copied sooner than a view of it is made.
_LARGE = 32 << 10


class Region(NamedTuple):
    """An input that lies in shared memory which Triton has been told of.

    Attributes:
        region: its registered name.
        offset: of the tensor in it, in bytes.
        nbytes: of the tensor.
        datatype: Triton's name.
        shape: batch dimension included where the model batches.
    """

    region: str
    offset: int
    nbytes: int
    datatype: str
    shape: tuple[int, ...]


#: One waiting request's inputs by name.
Group: TypeAlias = Mapping[str, NDArray[Any] | Region]


class _Tensor(NamedTuple):
    """An input as the head says it; `size` is that of the contents in bytes, None where type and shape tell it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int | None


class _Output(NamedTuple):
    """Where an output lies in an answer; `aligned`: numpy may use it there as fast as elsewhere."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int
    aligned: bool


class Codec:
    """Requests and answers of one model.

    Args:
        spec: of the model; all its outputs are asked for.
        host: for the header `Host`.
    """

    def __init__(self, spec: ModelSpec, host: str) -> None:
        self._model = spec.name
        self._outputs = [output.name for output in spec.outputs]
        path = f"/v2/models/{urllib.parse.quote(spec.name, safe='')}/infer"
        self._lines = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n".encode()
        self._heads: dict[tuple[Any, ...], bytes] = {}
        self._layouts: dict[bytes, tuple[_Output, ...]] = {}

    def request(self, groups: Sequence[Group]) -> tuple[bytes, list[bytes | memoryview]]:
        """The inference call for some requests as one batch.

        Args:
            groups: each request's inputs; several groups have the same names, dtypes and shapes after the batch
                dimension, which each leads with. A group with a `Region` stands alone.

        Returns:
            Everything up to the binary part (request line, headers, the protocol's JSON), and the binary part: input
            by input, group by group. Large tensors are views of the arrays themselves, which must not change before
            the answer is there.

        Raises:
            TensorError: Triton has no name for a dtype.
        """
        single = len(groups) == 1
        rows = 0 if single else sum(len(next(iter(group.values()))) for group in groups)
        key: list[tuple[Any, ...]] = []
        parts: list[bytes | memoryview] = []
        for name, tensor in groups[0].items():
            if isinstance(tensor, Region):
                key.append((name, tensor))
                continue
            dtype = tensor.dtype
            shape = tensor.shape if single else (rows, *tensor.shape[1:])
            if dtype.kind in "OS":  # BYTES: the size depends on the contents
                written = [_strings(group[name]) for group in groups]
                key.append((name, dtype, shape, sum(map(len, written))))
                parts += written
            else:
                key.append((name, dtype, shape, None))
                parts += [_contents(group[name]) for group in groups]
        found = tuple(key)
        head = self._heads.get(found)
        if head is None:
            head = self._head(found)
            _keep(self._heads, found, head)
        return head, parts

    def response(self, body: bytes, header_length: int | str | None) -> dict[str, NDArray[Any]]:
        """The outputs by name, as read-only views of the answer's body where that is possible.

        Args:
            body: of an answer with status 200.
            header_length: what the answer's header `Inference-Header-Content-Length` says; None = it has none, all is
                JSON.

        Returns:
            All outputs of the answer. BYTES come as object arrays of `bytes`.

        Raises:
            TritonFailed: that is no answer, or not a whole one.
        """
        try:
            length = len(body) if header_length is None else int(header_length)
            if not 0 <= length <= len(body):
                raise ValueError("the header is longer than the body")
            header = body[:length]
            layout = self._layouts.get(header)
            if layout is None:
                entries = orjson.loads(header)["outputs"]
                if any(_size(entry) is None for entry in entries):
                    return _mixed(entries, body, length)
                layout = _layout(entries, length)
                _keep(self._layouts, header, layout)
            return _views(layout, body, length)
        except Exception as error:  # whatever is wrong with it, the answer was none
            raise TritonFailed(f"Triton's answer of model {self._model!r} cannot be read") from error

    def _head(self, key: tuple[tuple[Any, ...], ...]) -> bytes:
        entries, total = [], 0
        for name, *rest in key:
            if isinstance(rest[0], Region):
                entries.append(_shared(name, rest[0]))
                continue
            entry, size = _entry(_Tensor(name, *rest))
            entries.append(entry)
            total += size
        said: dict[str, Any] = {"inputs": entries}
        if self._outputs:
            said["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in self._outputs]
        else:
            said["parameters"] = {"binary_data_output": True}
        text = orjson.dumps(said)
        lengths = f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(text) + total}\r\n\r\n"
        return b"".join([self._lines, lengths.encode(), text])


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


# Inputs


def _entry(tensor: _Tensor) -> tuple[dict[str, Any], int]:
    """What the head says of an input, and the size of its contents in bytes."""
    datatype = np_to_triton_dtype(tensor.dtype)
    if datatype is None:
        raise TensorError(f"input {tensor.name!r} is {tensor.dtype}, which Triton has no datatype for")
    size = math.prod(tensor.shape) * tensor.dtype.itemsize if tensor.size is None else tensor.size
    parameters = {"binary_data_size": size}
    return {"name": tensor.name, "shape": tensor.shape, "datatype": datatype, "parameters": parameters}, size


def _shared(name: str, region: Region) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shared_memory_region": region.region,
        "shared_memory_byte_size": region.nbytes,
    }
    if region.offset:
        parameters["shared_memory_offset"] = region.offset
    return {"name": name, "shape": region.shape, "datatype": region.datatype, "parameters": parameters}


def _contents(array: Any) -> bytes | memoryview:
    if array.nbytes < _LARGE:
        copy: bytes = array.tobytes()
        return copy
    # through uint8, because memoryview does not know numpy's every dtype
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _strings(array: Any) -> bytes:
    """Each element's length, as 4 bytes, and the element; what is neither bytes nor string becomes one."""
    pieces = []
    for item in array.ravel().tolist():
        raw = item if isinstance(item, bytes) else str(item).encode()
        pieces.append(len(raw).to_bytes(4, "little"))
        pieces.append(raw)
    return b"".join(pieces)


# Outputs


def _size(entry: Mapping[str, Any]) -> int | None:
    """Of an output's binary part; None if its data are in the JSON."""
    size = (entry.get("parameters") or {}).get("binary_data_size")
    return None if size is None else int(size)


def _dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    found = triton_to_np_dtype(entry["datatype"])
    if found is None:
        raise ValueError(f"unknown datatype {entry['datatype']!r}")
    return np.dtype(found)


def _layout(entries: Sequence[Mapping[str, Any]], start: int) -> tuple[_Output, ...]:
    """Where the binary outputs lie in the body, the first of them at `start`."""
    layout = []
    for entry in entries:
        size, dtype, shape = _size(entry) or 0, _dtype(entry), tuple(map(int, entry["shape"]))
        if size < 0 or any(length < 0 for length in shape):
            raise ValueError(f"output {entry['name']!r} has a negative size")
        if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"output {entry['name']!r} has another size than its shape says")
        layout.append(_Output(str(entry["name"]), dtype, shape, start, start + size, start % dtype.itemsize == 0))
        start += size
    return tuple(layout)


def _views(layout: Sequence[_Output], body: bytes, end: int) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {}
    for name, dtype, shape, start, end, aligned in layout:
        if dtype.hasobject:
            outputs[name] = _read_strings(body[start:end]).reshape(shape)
        elif aligned:
            outputs[name] = np.ndarray(shape, dtype, body, start)
        else:
            outputs[name] = np.ndarray(shape, dtype, body[start:end])
    if end != len(body):
        raise ValueError(f"the body has {len(body)} bytes instead of {end}")
    return outputs


def _mixed(entries: Sequence[Mapping[str, Any]], body: bytes, start: int) -> dict[str, NDArray[Any]]:
    """Outputs of which some are in the JSON; Triton was not asked for such."""
    binary = [entry for entry in entries if _size(entry) is not None]
    outputs = _views(_layout(binary, start), body, start)
    said = {
        str(entry["name"]): np.array(entry["data"], _dtype(entry)).reshape(entry["shape"])
        for entry in entries
        if _size(entry) is None
    }
    return {str(entry["name"]): (outputs | said)[str(entry["name"])] for entry in entries}


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
