"""A config.pbtxt held against the ONNX file that it is about, by the rules of Triton's native onnxruntime backend.

Differs from the check at load time (listener/triton/backends/onnxruntime/ort_config.py) in that it goes on after the
first mistake and knows lines; a test holds the two together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from listener.batches import padding
from listener.tensors import PAD, ModelSpec, TensorError, TensorSpec
from listener.tools.model_config import ModelConfig, type_name
from listener.tools.onnx_model import Signature, Tensor

DEFAULT_MAX_BATCH_SIZE = 4
"""Triton's, for a model that can batch and whose configuration leaves something open."""
_SCALAR = "one number for each instance is `dims: [ 1 ] reshape { shape: [ ] }`"


def max_batch_size(config: ModelConfig, backend: str, signature: Signature | None) -> int | None:
    """As it will be once the backend has completed the configuration; None = cannot be told."""
    declared = int(config.message.max_batch_size)
    if declared:
        return declared
    if signature is None:  # a Python model may change even a complete configuration
        return 0 if config.complete and backend not in ("python", "onnxruntime") else None
    if config.complete or signature.batchable is False:
        return 0
    return DEFAULT_MAX_BATCH_SIZE if signature.batchable else None


def check(config: ModelConfig, signature: Signature) -> Iterator[str]:
    """What in a configuration contradicts the file; a sentence per mistake."""
    batch = max_batch_size(config, "onnxruntime", signature)
    for kind, index, entry in config.tensors:
        known = signature.outputs if kind == "output" else {**signature.inputs, **signature.optional}
        tensor = known.get(entry.name)
        if tensor is not None:
            yield from _check_tensor(config, (kind, index), entry, signature, tensor, batch)
            if batch is not None:
                yield from _check_dims(config, (kind, index), entry, signature, tensor, batch)
        elif entry.name:
            near = difflib.get_close_matches(entry.name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known)) or 'none'}"
            sentence = f"{signature.file} has no such {kind}; {hint}"
            yield config.mistake(f'{kind} "{entry.name}"', sentence, kind, index, "name")
    yield from _check_absent(config, signature)
    if batch and config.message.max_batch_size:
        yield from _check_batchable(config, signature)


def spec(name: str, config: ModelConfig, signature: Signature | None) -> ModelSpec | None:
    """What a handler's tensors have to fit; None = cannot be told without Triton."""
    batch = max_batch_size(config, "onnxruntime", signature)
    message = config.message
    pad = message.parameters[PAD].string_value if PAD in message.parameters else None
    if config.complete:
        inputs, outputs = (tuple(map(_declared, entries)) for entries in (message.input, message.output))
        decoupled = bool(message.model_transaction_policy.decoupled)
        return ModelSpec(name, inputs, outputs, batch or 0, decoupled=decoupled, pad=pad)
    if signature is None or batch is None or message.input or message.output:
        return None
    given = [*signature.inputs.values()]
    return ModelSpec(name, _stated(given, batch), _stated([*signature.outputs.values()], batch), batch, pad=pad)


def check_padding(config: ModelConfig, found: ModelSpec) -> Iterator[str]:
    """Whether the listener can pad rows as the configuration says."""
    try:
        padding(found)
    except TensorError as error:
        yield config.mistake("parameters", str(error), "parameters")


def _declared(entry: Any) -> TensorSpec:
    return TensorSpec(
        entry.name,
        _datatype(type_name(entry)),
        tuple(entry.dims),
        optional=bool(getattr(entry, "optional", False)),
        ragged=bool(getattr(entry, "allow_ragged_batch", False)),
        labelled=bool(getattr(entry, "label_filename", "")),
    )


def _stated(tensors: list[Tensor], batch: int) -> tuple[TensorSpec, ...]:
    known = ((tensor, (tensor.dims or ())[1 if batch else 0 :]) for tensor in tensors)
    return tuple(TensorSpec(tensor.name, _datatype(tensor.data_type), dims or (1,)) for tensor, dims in known)


def _datatype(name: str) -> str:
    return "BYTES" if name == "TYPE_STRING" else name.removeprefix("TYPE_")


def _check_tensor(
    config: ModelConfig, where: tuple[str, int], entry: Any, signature: Signature, tensor: Tensor, batch: int | None
) -> Iterator[str]:
    what = f'{where[0]} "{entry.name}"'
    declared = "" if not entry.data_type else type_name(entry)
    for name in ("data_type", "dims"):
        if not getattr(entry, name):
            sentence = "is missing; Triton's own onnxruntime backend fills in all inputs or outputs, or none"
            if name == "dims" and _is_scalar(tensor, batch):
                sentence = f"is missing; {_SCALAR}"
            yield config.mistake(f"{what}.{name}", sentence, *where, name)
    if declared and tensor.data_type and declared != tensor.data_type:
        sentence = f"is {declared}, but {signature.file} has {tensor.data_type}"
        yield config.mistake(f"{what}.data_type", sentence, *where, "data_type")
    if where[0] == "input":
        yield from _check_optional(config, where, entry, signature)


def _is_scalar(tensor: Tensor, batch: int | None) -> bool:
    """Whether the file has nothing but the batch dimension."""
    return bool(batch) and tensor.dims == (-1,)


def _check_optional(config: ModelConfig, where: tuple[str, int], entry: Any, signature: Signature) -> Iterator[str]:
    what = f'input "{entry.name}".optional'
    if entry.optional and entry.name in signature.inputs:
        yield config.mistake(what, f"is true, but {signature.file} has no default for it", *where, "optional")
    elif entry.optional and config.message.max_batch_size > 0:
        yield config.mistake(what, "may be true only where max_batch_size is 0", *where, "optional")
    elif not entry.optional and entry.name in signature.optional:
        sentence = f"{signature.file} has a default for this input: set it to true, or leave the input out"
        yield config.mistake(what, sentence, *where)


def _check_dims(
    config: ModelConfig, where: tuple[str, int], entry: Any, signature: Signature, tensor: Tensor, batch: int
) -> Iterator[str]:
    field = "reshape" if entry.HasField("reshape") else "dims"
    dims = list(entry.reshape.shape if field == "reshape" else entry.dims)
    if tensor.dims is None or not entry.dims or (batch and tensor.dims[:1] != (-1,)):
        return
    wanted = list(tensor.dims[1:] if batch else tensor.dims)
    if not tensor.dims:
        agree = all(size == 1 for size in dims)
    else:
        exact = where[0] == "output" and tensor.sure
        agree = len(dims) == len(wanted) and all(
            size == w or (w == -1 and not exact) for size, w in zip(dims, wanted, strict=True)
        )
    if not agree:
        hint = f", without the batch dimension as max_batch_size is {batch}" if batch else ""
        line = f"; {_SCALAR}" if _is_scalar(tensor, batch) else ""
        sentence = f"is {dims}, but {signature.file} has {wanted}{hint}{line}"
        yield config.mistake(f'{where[0]} "{entry.name}".{field}', sentence, *where, field)


def _check_absent(config: ModelConfig, signature: Signature) -> Iterator[str]:
    batching = config.message.sequence_batching
    declared = {entry.name for entry in config.message.input}
    declared |= {control.name for control in batching.control_input} | {state.input_name for state in batching.state}
    if config.message.input:
        for name in signature.inputs.keys() - declared:
            yield config.mistake("input", f"{name!r} is missing, which {signature.file} needs", "input")


def _check_batchable(config: ModelConfig, signature: Signature) -> Iterator[str]:
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        # Where some are declared the others are not used; where none is, all are filled in.
        used = {entry.name for entry in getattr(config.message, kind)} or tensors.keys()
        for tensor in tensors.values():
            if tensor.name in used and tensor.dims is not None and tensor.dims[:1] != (-1,):
                yield config.mistake(
                    "max_batch_size",
                    f"is {config.message.max_batch_size}, but {kind} {tensor.name!r} of {signature.file} has the shape "
                    f"{list(tensor.dims)}, whose first dimension is not dynamic: only 0 is possible",
                    "max_batch_size",
                )
