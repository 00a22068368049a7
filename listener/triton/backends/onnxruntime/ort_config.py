"""An ONNX file and its config.pbtxt: how the file completes the configuration, and whether both agree.

The rules are those of Triton's native onnxruntime backend, so that a model that loads here loads there as well:

* a configuration that declares all its inputs and outputs is left as it is; otherwise the file gives what is missing;
* a model can batch when the first dimension of every input and output is dynamic; then, where the configuration gives
  no `max_batch_size`, it becomes the server's default, and above 1 the dynamic batcher is turned on;
* a dynamic dimension of an input may be declared as a number; every other one must be declared as the file has it.

Beyond the native rules an input or output may be declared by its name alone. Only the standard library and the modules
of _shared are needed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from shared_config import Config, LoadError, is_complete, shape_of

# Triton's name of each ONNX element type that both sides know. BF16 is not among them: Triton's native backend has no
# BF16 tensors either, and numpy cannot hold one.
TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}


class Node(Protocol):
    """What onnxruntime tells of an input or output: the shape has a number, a symbol or None per dimension."""

    name: str
    type: str
    shape: list[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the file; `dims` has the batch dimension and -1 for what is dynamic."""

    name: str
    data_type: str
    dims: tuple[int, ...]

    @property
    def batchable(self) -> bool:
        return bool(self.dims) and self.dims[0] == -1


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs of the file `file`; `optional` are the inputs for which the file has a default."""

    model: str
    file: str
    inputs: dict[str, TensorSpec]
    optional: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    @property
    def batchable(self) -> bool:
        return all(spec.batchable for spec in (*self.inputs.values(), *self.outputs.values()))

    def error(self, message: str) -> LoadError:
        return LoadError(f"model '{self.model}': {message}")


def signature_of(
    model: str, file: str, inputs: Iterable[Node], optional: Iterable[Node], outputs: Iterable[Node]
) -> Signature:
    """Reads what an open session tells about its file.

    Raises:
        LoadError: an input or output is not a tensor, or of an element type that Triton cannot carry.
    """

    def specs(kind: str, nodes: Iterable[Node]) -> dict[str, TensorSpec]:
        found = {}
        for node in nodes:
            if node.type not in TRITON_TYPES:
                raise LoadError(
                    f"model '{model}': {kind} '{node.name}' of {file} is a {node.type}, which Triton cannot carry"
                )
            dims = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
            found[node.name] = TensorSpec(node.name, TRITON_TYPES[node.type], dims)
        return found

    return Signature(model, file, specs("input", inputs), specs("input", optional), specs("output", outputs))


def complete(config: Config, signature: Signature, default_max_batch_size: int) -> None:
    """Fills in what `config` leaves open, in place: inputs, outputs, `max_batch_size` and the dynamic batcher.

    Args:
        config: the model configuration as Triton gives it, as a dictionary.
        signature: what the model's file has.
        default_max_batch_size: of the server; for a model that can batch and does not say how much.
    """
    if is_complete(config):
        return
    if signature.batchable:
        if not config["max_batch_size"]:
            config["max_batch_size"] = max(default_max_batch_size, 0)
        schedulers = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")
        if config["max_batch_size"] > 1 and not any(scheduler in config for scheduler in schedulers):
            config["dynamic_batching"] = {}
    batched = config["max_batch_size"] > 0
    for key, specs in (("input", signature.inputs), ("output", signature.outputs)):
        known = specs | signature.optional if key == "input" else specs
        declared = config[key] or [{"name": name} for name in specs]
        config[key] = [_completed(entry, known.get(entry["name"]), batched) for entry in declared]


def _completed(entry: Config, spec: TensorSpec | None, batched: bool) -> Config:
    if spec is None:
        return entry  # `check` has the words for it
    full = dict(entry)
    if full.get("data_type", "TYPE_INVALID") == "TYPE_INVALID":
        full["data_type"] = spec.data_type
    if not full.get("dims"):
        dims = list(spec.dims[1:] if batched else spec.dims)
        full["dims"] = dims or [1]  # Triton has no tensors without dimensions
        if batched and not dims:
            full["reshape"] = {"shape": []}
    return full


def check(config: Config, signature: Signature) -> None:
    """Holds a complete configuration against the file.

    Raises:
        LoadError: they contradict each other; the text names the tensor, what is declared and what the file has.
    """
    inputs = signature.inputs | signature.optional
    for kind, specs in (("input", inputs), ("output", signature.outputs)):
        for entry in config[kind]:
            spec = specs.get(entry["name"])
            if spec is None:
                names = ", ".join(f"'{name}'" for name in specs) or "none"
                raise signature.error(
                    f"config.pbtxt declares the {kind} '{entry['name']}', but {signature.file} has no such {kind}; "
                    f"it has {names}"
                )
            _check_tensor(config, signature, kind, entry, spec)
    declared = {entry["name"] for entry in config["input"]} | _scheduler_inputs(config)
    for name in signature.inputs:
        if name not in declared:
            raise signature.error(f"{signature.file} needs the input '{name}', which config.pbtxt does not declare")


def _check_tensor(config: Config, signature: Signature, kind: str, entry: Config, spec: TensorSpec) -> None:
    where = f"{kind} '{spec.name}'"
    if entry["data_type"] != spec.data_type:
        raise signature.error(
            f"config.pbtxt declares {where} as {entry['data_type']}, but {signature.file} has {spec.data_type}"
        )
    if kind == "input":
        _check_optional(config, signature, entry, spec)
    max_batch_size = config["max_batch_size"]
    if max_batch_size > 0 and not spec.batchable:
        raise signature.error(
            f"config.pbtxt sets max_batch_size to {max_batch_size}, but {where} of {signature.file} has the shape "
            f"{list(spec.dims)}, whose first dimension is not dynamic: it cannot batch, so max_batch_size must be 0"
        )
    dims = shape_of(entry)
    if not _dims_agree(dims, spec, max_batch_size > 0, exact=kind == "output"):
        hint = f" (without the batch dimension, as max_batch_size is {max_batch_size})" if max_batch_size > 0 else ""
        raise signature.error(
            f"config.pbtxt declares {where} with dims {dims}, "
            f"but {signature.file} has {list(spec.dims[1:] if max_batch_size > 0 else spec.dims)}{hint}"
        )


def _check_optional(config: Config, signature: Signature, entry: Config, spec: TensorSpec) -> None:
    where = f"input '{spec.name}'"
    if entry.get("allow_ragged_batch"):
        raise signature.error(f"{where} sets allow_ragged_batch, which this backend does not have")
    optional = bool(entry.get("optional"))
    if optional and config["max_batch_size"] > 0:
        raise signature.error(f"{where} is optional, which Triton's ONNX backends allow only with max_batch_size 0")
    if optional and spec.name in signature.inputs:
        raise signature.error(f"{where} is declared optional, but {signature.file} has no default for it")
    if not optional and spec.name in signature.optional:
        raise signature.error(f"{where} has a default in {signature.file}: declare it optional: true, or not at all")


def _dims_agree(dims: list[int], spec: TensorSpec, batched: bool, exact: bool) -> bool:
    if not spec.dims:  # a scalar, or an output of a rank unknown before it is computed
        return all(size == 1 for size in dims)
    expected = spec.dims[1:] if batched else spec.dims
    return len(dims) == len(expected) and all(
        size == wanted or (wanted == -1 and not exact) for size, wanted in zip(dims, expected, strict=True)
    )


def _scheduler_inputs(config: Config) -> set[str]:
    """Inputs that Triton's sequence batcher feeds, so that the list of inputs does not have them."""
    batching = config.get("sequence_batching", {})
    controls = {control["name"] for control in batching.get("control_input", [])}
    return controls | {state["input_name"] for state in batching.get("state", [])}
