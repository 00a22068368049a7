"""What an ONNX file takes and gives, without reading its weights."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from listener.errors import ConfigError, one_line

#: Triton's name of each ONNX element type that its backends for ONNX have.
TYPES: Mapping[int, str] = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.UINT16: "TYPE_UINT16",
    onnx.TensorProto.UINT32: "TYPE_UINT32",
    onnx.TensorProto.UINT64: "TYPE_UINT64",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.INT16: "TYPE_INT16",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.STRING: "TYPE_STRING",
}

_ZIPMAP = """; from scikit-learn, convert with options={id(model): {"zipmap": False}}"""
_SMALL = 64 * 2**20
"""Files up to this size are read whole where the shapes of their outputs have to be inferred."""

# Numbers of fields in onnx.proto, of ModelProto, GraphProto and TensorProto.
_IR_VERSION, _GRAPH = 1, 7
_INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 5, 11, 12, 15
_TENSOR_NAME, _EXTERNAL_DATA, _SPARSE_VALUES = 8, 13, 1
_OVERRIDABLE_SINCE = 4  # the IR version from which an initializer is but the default of the input of its name


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: its name.
        data_type: Triton's name of its type; "" = one that Triton cannot carry.
        dims: -1 = any size, the batch dimension included; None = not even their number is known.
        sure: onnxruntime will not find out more about the dims than is known here.
    """

    name: str
    data_type: str
    dims: tuple[int, ...] | None
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs and outputs of a file, by name; `optional` are the inputs for which the file has a default."""

    file: Path
    inputs: Mapping[str, Tensor]
    optional: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @property
    def batchable(self) -> bool | None:
        """Whether the first dimension of everything is dynamic; None = cannot be told."""
        dims = [tensor.dims for tensor in (*self.inputs.values(), *self.outputs.values())]
        if any(known is not None and known[:1] != (-1,) for known in dims):
            return False
        return None if None in dims else True


@dataclass(slots=True)
class _Found:
    ir_version: int = 0
    graphs: int = 0
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)
    locations: set[str] = field(default_factory=set)


def read(file: Path, mistakes: list[str]) -> Signature:
    """Reads an ONNX file, or the `model.onnx` in a folder of that name.

    Args:
        file: what Triton loads.
        mistakes: gets a sentence for every input or output that Triton cannot carry, and every missing file of weights.

    Raises:
        ConfigError: it is no ONNX file, or a damaged one.
    """
    file = file / "model.onnx" if file.is_dir() else file
    try:
        found = _skim(file)
        inputs, outputs = map(_infos, (found.inputs, found.outputs))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's DecodeError and whatever else broken bytes lead to
        raise ConfigError(f"{file}: is damaged or no ONNX file: {one_line(str(error))}") from None
    if not found.graphs or not outputs:
        raise ConfigError(f"{file}: is damaged or no ONNX file: it holds no graph with outputs")
    for kind, info in [*(("input", info) for info in inputs), *(("output", info) for info in outputs)]:
        mistakes += _check_type(file, kind, info)
    missing = sorted(name for name in found.locations if not (file.parent / name).is_file())
    mistakes += [f"{file}: its weights are in {file.parent / name}, which does not exist" for name in missing]
    taken = {info.name: _tensor(info) for info in inputs}
    constant = found.initializers if found.ir_version < _OVERRIDABLE_SINCE else set()
    return Signature(
        file,
        {name: tensor for name, tensor in taken.items() if name not in found.initializers},
        {name: tensor for name, tensor in taken.items() if name in found.initializers - constant},
        {tensor.name: tensor for tensor in _refined(file, [_tensor(info) for info in outputs])},
    )


def weights(file: Path) -> set[str]:
    """The files in which an ONNX file that `read` can read has its weights, relative to its folder."""
    return _skim(file).locations


def _infos(encoded: list[bytes]) -> list[onnx.ValueInfoProto]:
    return [onnx.ValueInfoProto.FromString(data) for data in encoded]


def _tensor(info: onnx.ValueInfoProto) -> Tensor:
    kind = info.type.tensor_type
    dims = None
    if kind.HasField("shape"):
        dims = tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else -1 for dim in kind.shape.dim
        )
    return Tensor(info.name, TYPES.get(kind.elem_type, ""), dims)


def _check_type(file: Path, kind: str, info: onnx.ValueInfoProto) -> Iterator[str]:
    what = info.type.WhichOneof("value") or "value without a type"
    if what != "tensor_type":
        hint = _ZIPMAP if what == "sequence_type" and kind == "output" else ""
        yield f'{file}: {kind} "{info.name}": is a {what.removesuffix("_type")}, and Triton carries only tensors{hint}'
    elif info.type.tensor_type.elem_type not in TYPES:
        number = info.type.tensor_type.elem_type
        known = number in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(number) if known else number
        yield f'{file}: {kind} "{info.name}": is {name}, which Triton cannot carry'


def _refined(file: Path, outputs: list[Tensor]) -> list[Tensor]:
    """The outputs with the sizes that onnxruntime infers beyond those that the file states."""
    if not any(output.dims is None or -1 in output.dims[1:] for output in outputs):
        return outputs
    inferred: dict[str, Tensor] = {}
    sure = False
    if file.stat().st_size <= _SMALL:
        try:
            model = onnx.load(file, load_external_data=False)
            sure = all(node.domain in ("", "ai.onnx", "ai.onnx.ml") for node in model.graph.node)
            graph = onnx.shape_inference.infer_shapes(model).graph
            inferred = {info.name: _tensor(info) for info in graph.output}
        except Exception:  # a graph that contradicts itself is onnxruntime's to explain
            sure = False
    best = ((output, inferred.get(output.name, output).dims) for output in outputs)
    return [Tensor(output.name, output.data_type, dims, sure and dims is not None) for output, dims in best]


def _skim(file: Path) -> _Found:
    """Walks over the file's fields and touches only those that are needed, so the weights are not read."""
    found = _Found()
    with file.open("rb") as stream:
        if not stream.seek(0, 2):
            raise ValueError("it is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, start, end in _fields(data, 0, len(data)):
                if number == _GRAPH:
                    found.graphs += 1
                    _skim_graph(data, start, end, found)
                elif number == _IR_VERSION:
                    found.ir_version, _ = _varint(data, start, end)
    return found


def _skim_graph(data: Any, start: int, end: int, found: _Found) -> None:
    for number, first, last in _fields(data, start, end):
        if number == _INPUT:
            found.inputs.append(data[first:last])
        elif number == _OUTPUT:
            found.outputs.append(data[first:last])
        elif number == _INITIALIZER:
            _skim_tensor(data, first, last, found)
        elif number == _SPARSE:
            for inner, begin, stop in _fields(data, first, last):
                if inner == _SPARSE_VALUES:
                    _skim_tensor(data, begin, stop, found)


def _skim_tensor(data: Any, start: int, end: int, found: _Found) -> None:
    for number, first, last in _fields(data, start, end):
        if number == _TENSOR_NAME:
            found.initializers.add(data[first:last].decode())
        elif number == _EXTERNAL_DATA:
            entry = onnx.StringStringEntryProto.FromString(data[first:last])
            found.locations |= {entry.value} if entry.key == "location" else set()


def _fields(data: Any, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of an encoded message."""
    while at < end:
        key, at = _varint(data, at, end)
        start = at
        match key & 7:
            case 0:
                _, at = _varint(data, at, end)
            case 1:
                at += 8
            case 2:
                size, start = _varint(data, at, end)
                at = start + size
            case 5:
                at += 4
            case kind:
                raise ValueError(f"byte {start} begins a field of the unknown kind {kind}")
        if at > end:
            raise ValueError(f"it ends at byte {end}, within a field that goes on to byte {at}")
        yield key >> 3, start, at


def _varint(data: Any, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError(f"it ends at byte {at}, within a number")
