"""Tensors to the bytes of an inference call and back, prepared per model: OIP v2 with its binary extension.

A request is a head, which says names, types, shapes and sizes, and the tensors' own memory. Heads depend on the shapes
alone, so they are kept; so is what an answer's head says, found again by its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from listener import bf16
from listener.errors import TritonFailed
from listener.tensors import ModelSpec, TensorError
from listener.triton.outputs import Output, in_json, layout_of, mixed, read, row_sizes
from listener.triton.paths import model_path

#: Heads, and layouts of answers, kept per model; the oldest goes first.
_KEPT = 256
#: Bytes from which on a tensor is sent from its own memory; a smaller one is copied sooner than a view of it is made.
_LARGE = 32 << 10
#: For calls without outputs in shared memory.
NOWHERE: Mapping[str, Any] = MappingProxyType({})


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


class Slot(NamedTuple):
    """Room for an output in shared memory which Triton has been told of.

    Attributes:
        region: its registered name.
        offset: of the room in it, in bytes.
        nbytes: of the room; the output may be smaller.
    """

    region: str
    offset: int
    nbytes: int


#: One waiting request's inputs by name.
Group: TypeAlias = Mapping[str, NDArray[Any] | Region]


class _Tensor(NamedTuple):
    """An input as the head says it; `size` is that of the contents in bytes, None where type and shape tell it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int | None


class Codec:
    """Requests and answers of one model.

    Args:
        spec: of the model; all its outputs are asked for.
        host: for the header `Host`.
        version: of the model, digits; "" = Triton chooses.
        top_k: asks for so many classes in place of each labelled output; they come as BYTES. 0 = for none.

    Attributes:
        largest_output: bytes of the largest output in a full call, as far as the configuration tells sizes; 0 = of no
            output.
        bf16: names of the inputs that are BF16.
        version: as above.
        repeatable: a call that Triton may have got can be sent again. Not so where rows depend on those before.
    """

    def __init__(self, spec: ModelSpec, host: str, version: str = "", top_k: int = 0) -> None:
        self._model, self.version, self.repeatable = spec.name, version, spec.independent
        self._datatypes = {tensor.name: tensor.datatype for tensor in spec.inputs}
        self.bf16 = frozenset(name for name, datatype in self._datatypes.items() if datatype == "BF16")
        self._outputs: dict[str, Mapping[str, Any]] = {output.name: {"binary_data": True} for output in spec.outputs}
        if top_k:
            for output in spec.classified:
                self._outputs[output.name] = {"binary_data": True, "classification": top_k}
        self._batches = spec.max_batch_size > 0
        self._row_sizes = {} if top_k else row_sizes(spec)  # classes and shared memory exclude one another
        self.largest_output = max(self._row_sizes.values(), default=0) * max(spec.max_batch_size, 1)
        path = f"{model_path(spec.name, version)}/infer"
        self._lines = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n".encode()
        self._heads: dict[tuple[Any, ...], bytes] = {}
        self._layouts: dict[bytes, tuple[Output, ...]] = {}

    def output_sizes(self, groups: Sequence[Group]) -> dict[str, int]:
        """Bytes of each output of a call, without those whose size the configuration does not tell.

        Args:
            groups: as `request` takes them, all of arrays.
        """
        rows = sum(len(next(iter(group.values()), ())) for group in groups) if self._batches else 1
        return {name: rows * size for name, size in self._row_sizes.items()}

    def forget_sizes(self) -> None:
        """From now on no output's size is known: the model's are not those of its configuration."""
        self._row_sizes, self.largest_output = {}, 0

    def as_sent(self, groups: Sequence[Mapping[str, NDArray[Any]]]) -> Sequence[Mapping[str, NDArray[Any]]]:
        """The requests with every BF16 input in the two bytes of its elements."""
        if not self.bf16:
            return groups
        return [
            {name: bf16.packed(array) if name in self.bf16 else array for name, array in group.items()}
            for group in groups
        ]

    def datatype(self, name: str, dtype: np.dtype[Any]) -> str:
        """Triton's name for the type of an input: as the model has it, or of an input that it does not name, numpy.

        Raises:
            TensorError: it has none.
        """
        found = self._datatypes.get(name) or np_to_triton_dtype(dtype)
        if found is None:
            raise TensorError(f"input {name!r} is {dtype}, which Triton has no datatype for")
        return str(found)

    def request(
        self, groups: Sequence[Group], slots: Mapping[str, Slot] = NOWHERE
    ) -> tuple[bytes, list[bytes | memoryview]]:
        """The inference call for some requests as one batch.

        Args:
            groups: each request's inputs, as `as_sent` gives them; several groups have the same names, dtypes and
                shapes after the batch dimension, which each leads with. A group with a `Region` stands alone.
            slots: where outputs are to be written, by name; the others come with the answer.

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
        found = (*key, *slots.items()) if slots else tuple(key)
        head = self._heads.get(found)
        if head is None:
            head = self._head(key, slots)
            _keep(self._heads, found, head)
        return head, parts

    def response(
        self, body: bytes, header_length: int | str | None, placed: Mapping[str, memoryview] = NOWHERE
    ) -> dict[str, NDArray[Any]]:
        """The outputs by name, as read-only views of the answer's body where that is possible.

        Args:
            body: of an answer with status 200.
            header_length: what the answer's header `Inference-Header-Content-Length` says; None = it has none, all is
                JSON.
            placed: the contents of the request's slots, by output.

        Returns:
            All outputs of the answer; those in slots are copied. BYTES come as object arrays of `bytes`, BF16 as FP32.

        Raises:
            TritonFailed: that is no answer, not a whole one, or one that does not fit its slots.
        """
        try:
            length = len(body) if header_length is None else int(header_length)
            if not 0 <= length <= len(body):
                raise ValueError("the header is longer than the body")
            header = body[:length]
            layout = self._layouts.get(header)
            if layout is None:
                entries = orjson.loads(header)["outputs"]
                if any(map(in_json, entries)):
                    return mixed(entries, body, length, placed)
                layout = layout_of(entries, length)
                _keep(self._layouts, header, layout)
            return read(layout, body, length, placed)
        except Exception as error:  # whatever is wrong with it, the answer was none
            raise TritonFailed(f"Triton's answer of model {self._model!r} cannot be read") from error

    def _head(self, inputs: Sequence[tuple[Any, ...]], slots: Mapping[str, Slot]) -> bytes:
        entries, total = [], 0
        for name, *rest in inputs:
            if isinstance(rest[0], Region):
                entries.append(_shared(name, rest[0]))
                continue
            entry, size = _entry(_Tensor(name, *rest), self.datatype(name, rest[0]))
            entries.append(entry)
            total += size
        said: dict[str, Any] = {"inputs": entries}
        if self._outputs:
            said["outputs"] = [
                {"name": name, "parameters": _place(slots[name]) if name in slots else parameters}
                for name, parameters in self._outputs.items()
            ]
        else:
            said["parameters"] = {"binary_data_output": True}
        text = orjson.dumps(said)
        lengths = f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(text) + total}\r\n\r\n"
        return b"".join([self._lines, lengths.encode(), text])


def traced(head: bytes, traceparent: str) -> bytes:
    """The head of a request with one header more."""
    line, _, rest = head.partition(b"\r\n")
    return b"%b\r\ntraceparent: %b\r\n%b" % (line, traceparent.encode(), rest)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


# Inputs


def _entry(tensor: _Tensor, datatype: str) -> tuple[dict[str, Any], int]:
    """What the head says of an input, and the size of its contents in bytes."""
    size = math.prod(tensor.shape) * tensor.dtype.itemsize if tensor.size is None else tensor.size
    parameters = {"binary_data_size": size}
    return {"name": tensor.name, "shape": tensor.shape, "datatype": datatype, "parameters": parameters}, size


def _shared(name: str, region: Region) -> dict[str, Any]:
    return {"name": name, "shape": region.shape, "datatype": region.datatype, "parameters": _place(region)}


def _place(there: Region | Slot) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shared_memory_region": there.region,
        "shared_memory_byte_size": there.nbytes,
    }
    if there.offset:
        parameters["shared_memory_offset"] = there.offset
    return parameters


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
