"""What `listener new --model` writes around an ONNX file: its configuration, and code that names its tensors."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listener.errors import ConfigError
from listener.tensors import NUMPY
from listener.tools import onnx_model
from listener.tools.python_source import Code, block, quoted

#: Batches that Triton makes of a model whose first dimension is free.
_MAX_BATCH = 64
#: In place of a size that may be any: of a sequence, and of a picture, which convolutions make smaller.
_LENGTH, _SIDE = 8, 64
#: Up to so many elements of an example are written out.
_WRITTEN = 16
_TEXT = "text"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as a handler sees it.

    Attributes:
        name: its name.
        datatype: Triton's name, such as FP32.
        dims: without the batch dimension, -1 = any size; of a scalar per row, [1].
        scalar: the file has one number per row where `dims` says [1].
        sizes: `dims` with some size in place of each -1.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    scalar: bool
    sizes: tuple[int, ...]

    @property
    def kind(self) -> str:
        """`b`, `i`, `u`, `f`, or `O` for strings, as numpy has it."""
        return NUMPY[self.datatype].kind

    @property
    def bare(self) -> bool:
        """Whether it is one value, which needs no list around it."""
        return all(size == 1 for size in self.dims)

    @property
    def zero(self) -> Any:
        """One element, as JSON has it."""
        return {"b": False, "f": 0.0, "O": _TEXT}.get(self.kind, 0)

    @property
    def numpy(self) -> str:
        """Its dtype, in Python's code."""
        return {"b": "np.bool_", "O": "np.object_"}.get(self.kind, f"np.{NUMPY[self.datatype].name}")

    @property
    def value(self) -> Any:
        """Zeros as JSON has them, or code that makes them where they are many."""
        if self.bare:
            return self.zero
        if math.prod(self.sizes) > _WRITTEN:
            return Code(f"{self.zeros(repr(self.sizes), quoted(_TEXT))}.tolist()")
        made = self.zero
        for size in reversed(self.sizes):
            made = [made] * size
        return made

    def zeros(self, shape: str, text: str) -> str:
        """Code of an array."""
        return f"np.full({shape}, {text}, np.object_)" if self.kind == "O" else f"np.zeros({shape}, {self.numpy})"

    def schema(self, nullable: bool) -> dict[str, Any]:
        """Of OpenAPI 3.0."""
        kinds = {"b": {"type": "boolean"}, "f": {"type": "number"}, "O": {"type": "string"}}
        made: dict[str, Any] = kinds.get(self.kind, {"type": "integer"})
        if nullable and self.kind == "f":
            made = {**made, "nullable": True}  # for NaN and infinities
        for size in () if self.bare else reversed(self.dims):
            sizes = {} if size == -1 else {"minItems": size, "maxItems": size}
            made = {"type": "array", "items": made, **sizes}
        return made

    def prediction(self) -> Code:
        """Code that makes JSON of the output."""
        array = f"outputs[{quoted(self.name)}]"
        if self.kind != "O":
            return Code(f"{array}.{'item' if self.bare else 'tolist'}()")
        if self.bare:
            return Code(f"{array}.item().decode()")
        if len(self.dims) == 1:
            return Code(f"[text.decode() for text in {array}]")
        return Code(f"np.char.decode({array}.astype(np.bytes_)).tolist()")

    def __str__(self) -> str:
        return f"{quoted(self.name)}: {self.datatype} {list(self.dims)}"


@dataclass(frozen=True, slots=True)
class OwnModel:
    """An ONNX file that a service can be made around.

    Attributes:
        file: the file.
        weights: files that it names, relative to its folder.
        max_batch_size: 0 = its first dimension is no batch.
        inputs: those that have to be given.
        outputs: all of them.
    """

    file: Path
    weights: tuple[str, ...]
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def example(self) -> Any:
        """An instance: the value of the only input, or an object by name; may hold Code."""
        if len(self.inputs) == 1:
            return self.inputs[0].value
        return {tensor.name: tensor.value for tensor in self.inputs}

    def marks(self) -> dict[str, str]:
        """What stands in the templates in place of the words between two @."""
        made = {
            "config": self._config(),
            "example": block(self.example, "    example = ", room=len("  # sent through at start")),
            "instance_schema": block(self._instance_schema(), "    instance_schema = "),
            "prediction_schema": block(_object(self.outputs, nullable=True), "    prediction_schema = "),
            "takes": "\n".join(f"        # {tensor}, {tensor.numpy}" for tensor in self.inputs),
            "gives": "\n".join(f"        # {tensor}" for tensor in self.outputs),
            "arrays": block(
                {tensor.name: Code(f"arrays[{quoted(tensor.name)}]") for tensor in self.inputs}, "        return "
            ),
            "prediction": block({tensor.name: tensor.prediction() for tensor in self.outputs}, "        return "),
            "instance": block(self.example, "INSTANCE = "),
            "expected": block({tensor.name: tensor.value for tensor in self.outputs}, "PREDICTION = "),
            "run": self._run(),
            "inputs": block(_signature(self.inputs), "        inputs=", room=1),
            "outputs": block(_signature(self.outputs), "        outputs=", room=1),
            "batch": "" if self.max_batch_size else "        max_batch_size=0,\n",
        }
        uses_numpy = any("np." in made[mark] for mark in ("example", "prediction"))
        return {**made, "numpy": "import numpy as np\n" if uses_numpy else ""}

    def ask(self) -> str:
        """A shell command that prints an instance."""
        said = block(self.example, "", width=sys.maxsize)
        if "np.zeros(" not in said and "np.full(" not in said:
            return f"echo {shlex.quote(json.dumps(self.example))}"
        return f"python -c {shlex.quote(f'import json, numpy as np; print(json.dumps({said}))')}"

    def _instance_schema(self) -> dict[str, Any]:
        return self.inputs[0].schema(False) if len(self.inputs) == 1 else _object(self.inputs, nullable=False)

    def _config(self) -> str:
        lines = [f"max_batch_size: {self.max_batch_size}"]
        if self.max_batch_size:
            lines += ["dynamic_batching { }", "", "# Shapes of one instance, without the batch dimension."]
        if self.max_batch_size and any(-1 in tensor.dims for tensor in self.inputs):
            lines += [
                "# Instances of one request have to be alike in the sizes of -1; with this, short ones are filled up:",
                '# parameters { key: "listener_pad" value { string_value: "0" } }',
            ]
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"{kind} [", ",\n".join(self._entry(tensor) for tensor in tensors), "]"]
        return "\n".join(lines)

    def _entry(self, tensor: Tensor) -> str:
        datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
        dims = f"dims: [ {', '.join(map(str, tensor.dims))} ]"
        reshape = "\n    reshape { shape: [ ] }" if tensor.scalar and self.max_batch_size else ""
        return f"  {{\n    name: {quoted(tensor.name)}\n    data_type: TYPE_{datatype}\n    {dims}{reshape}\n  }}"

    def _run(self) -> str:
        """What a test's model returns."""
        lead = "len(inputs[" + quoted(self.inputs[0].name) + "]), " if self.max_batch_size else ""
        answers = {}
        for tensor in self.outputs:
            shape = f"({lead}{', '.join(map(str, tensor.sizes))}{'' if lead or len(tensor.sizes) > 1 else ','})"
            answers[tensor.name] = Code(tensor.zeros(shape, f"b{quoted(_TEXT)}"))
        return block(answers, "        return ")


def read(file: Path) -> OwnModel:
    """What a service around an ONNX file needs to know; the weights are not read.

    Raises:
        ConfigError: there is no such file, it is no ONNX file, or Triton cannot carry its inputs or outputs.
    """
    if not file.is_file():
        what = "is a folder; --model takes an ONNX file" if file.is_dir() else "does not exist"
        raise ConfigError(f"{file}: {what}")
    mistakes: list[str] = []
    try:
        found = onnx_model.read(file, mistakes)
    except ConfigError as error:
        raise ConfigError(f"{error}; --model takes an ONNX file, as torch.onnx.export or skl2onnx make it") from None
    weights = tuple(sorted(onnx_model.weights(file)))
    if mistakes:
        raise ConfigError(*mistakes)
    for name in weights:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError(f"{file}: its weights are in {name}, which is not beside it, so they cannot be copied")
    if not found.inputs:
        raise ConfigError(f"{file}: takes no input that has to be given, so there is nothing to predict from")
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors.values():
            if tensor.dims is None:
                raise ConfigError(
                    f'{file}: {kind} "{tensor.name}": the file does not say how many dimensions it has; '
                    "export it with its shapes"
                )
    batch = _MAX_BATCH if found.batchable else 0
    inputs, outputs = (
        tuple(_seen(tensor, batch) for tensor in tensors.values()) for tensors in (found.inputs, found.outputs)
    )
    return OwnModel(file, weights, batch, inputs, outputs)


def _seen(tensor: onnx_model.Tensor, batch: int) -> Tensor:
    dims = (tensor.dims or ())[1 if batch else 0 :]
    free = _SIDE if len(dims) > 2 else _LENGTH
    sizes = [free if size == -1 else size for size in dims]
    if not batch and dims[:1] == (-1,):
        sizes[0] = 1  # most likely a batch that something else in the file makes impossible
    datatype = "BYTES" if tensor.data_type == "TYPE_STRING" else tensor.data_type.removeprefix("TYPE_")
    return Tensor(tensor.name, datatype, dims or (1,), not dims, tuple(sizes) or (1,))


def _object(tensors: tuple[Tensor, ...], nullable: bool) -> dict[str, Any]:
    properties = {tensor.name: tensor.schema(nullable) for tensor in tensors}
    return {"type": "object", "properties": properties, "required": [*properties]}


def _signature(tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    return {tensor.name: Code(f"({quoted(tensor.datatype)}, {list(tensor.dims)})") for tensor in tensors}
