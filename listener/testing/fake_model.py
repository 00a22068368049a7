"""A model of the fake Triton: a function of yours, and what Triton would say of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from listener.tensors import PAD

Tensors = dict[str, NDArray[Any]]
#: From the inputs, batch dimension included, to the outputs.
Run = Callable[[Tensors], Tensors]


@dataclass
class FakeModel:
    """A model as a function.

    Attributes:
        inputs: datatype and per-instance shape by name, as `{"X": ("FP32", [64])}`.
        outputs: likewise.
        run: from the inputs, batch dimension included, to the outputs.
        max_batch_size: 0 = without batching.
        ready: answer of its readiness check.
        labels: names of the classes, by output.
        optional: inputs that requests may leave out.
        ragged: inputs whose rows may differ in shape.
        pad: the configuration's `listener_pad`.
        versions: those that can be called; the last one is Triton's choice. With functions by version, each is called
            in place of `run`.
        events: makes it a decoupled model: from the JSON of a generate request to any number of responses, outputs by
            name.
        delay: seconds that each inference call takes.
    """

    inputs: Mapping[str, tuple[str, list[int]]]
    outputs: Mapping[str, tuple[str, list[int]]]
    run: Run
    max_batch_size: int = 64
    ready: bool = True
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    optional: Collection[str] = ()
    ragged: Collection[str] = ()
    pad: str | None = None
    versions: Sequence[str] | Mapping[str, Run] = ("1",)
    events: Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]] | None = None
    delay: float = 0.0

    def answer(self, inputs: Tensors, version: str | None) -> Tensors:
        """The outputs of one version; None = of the one that is Triton's choice."""
        own = self.versions.get(version or self.choice) if isinstance(self.versions, Mapping) else None
        return (own or self.run)(inputs)

    @property
    def choice(self) -> str:
        """The version of requests that name none."""
        return list(self.versions)[-1]

    def config(self, name: str) -> dict[str, Any]:
        """Triton's ModelConfig."""
        return {
            "name": name,
            "max_batch_size": self.max_batch_size,
            "input": [
                {**_entry(key, *tensor), "optional": key in self.optional, "allow_ragged_batch": key in self.ragged}
                for key, tensor in self.inputs.items()
            ],
            "output": [
                {**_entry(key, *tensor), "label_filename": "labels.txt" if key in self.labels else ""}
                for key, tensor in self.outputs.items()
            ],
            "parameters": {} if self.pad is None else {PAD: {"string_value": self.pad}},
            "model_transaction_policy": {"decoupled": self.events is not None},
        }

    def metadata(self, name: str) -> dict[str, Any]:
        """Triton's model metadata, whose shapes begin with the batch."""
        batch = [-1] if self.max_batch_size else []
        inputs, outputs = (
            [{"name": key, "datatype": datatype, "shape": [*batch, *shape]} for key, (datatype, shape) in of.items()]
            for of in (self.inputs, self.outputs)
        )
        return {
            "name": name,
            "versions": list(self.versions),
            "platform": "fake",
            "inputs": inputs,
            "outputs": outputs,
        }


def _entry(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}", "dims": shape}
