"""The model repository of the conformance suite: `python -m tests.contract.models DIR` writes it.

Small models of Triton's Python backend, one for each thing that the contract distinguishes. What they do stands in
`python_models.py`, by the class that a model's `behaviour` names.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

_CODE = Path(__file__).with_name("python_models.py")

#: Of requests that name no model: LISTENER_DEFAULT_MODEL of a container that serves this repository.
DEFAULT = "identity_fp32"
#: Takes and gives a tensor of every datatype.
EVERYTHING = "everything"

#: Triton's names of the datatypes.
DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES"),
)

LABELS = ("cat", "dog", "fish")


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: its name.
        datatype: Triton's name of its type.
        dims: without the batch dimension; -1 = any size.
        more: further words of its configuration.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    more: str = ""

    def __str__(self) -> str:
        datatype = "STRING" if self.datatype == "BYTES" else self.datatype
        return f'{{ name: "{self.name}" data_type: TYPE_{datatype} dims: {list(self.dims)} {self.more} }}'


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        behaviour: a class of `python_models.py`.
        max_batch_size: 0 = it does not batch.
        more: further words of its configuration.
        parameters: of its configuration, beside `behaviour`.
        versions: how many.
        files: further files of its folder: name and contents.
    """

    behaviour: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int = 8
    more: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    versions: int = 1
    files: dict[str, str] = field(default_factory=dict)

    def config(self) -> str:
        """The text of config.pbtxt."""
        parameters = "".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
            for key, value in {"behaviour": self.behaviour, **self.parameters}.items()
        )
        return (
            f'backend: "python"\nmax_batch_size: {self.max_batch_size}\n{self.more}\n{parameters}'
            f"input [ {', '.join(map(str, self.inputs))} ]\noutput [ {', '.join(map(str, self.outputs))} ]\n"
            "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        )

    def write(self, folder: Path) -> None:
        for version in range(1, self.versions + 1):
            (folder / str(version)).mkdir(parents=True)
            shutil.copyfile(_CODE, folder / str(version) / "model.py")
        (folder / "config.pbtxt").write_text(self.config())
        for name, text in self.files.items():
            (folder / name).write_text(text)


def one(datatype: str, dims: tuple[int, ...] = (1,), name: str = "X", more: str = "") -> tuple[Tensor, ...]:
    """The tensors of a model that has but one."""
    return (Tensor(name, datatype, dims, more),)


def _identity(datatype: str) -> Model:
    """Takes lists of any length, many rows at a time."""
    behaviour = "Untouched" if datatype == "BF16" else "Identity"
    return Model(behaviour, one(datatype, (-1,)), one(datatype, (-1,), "Y"), max_batch_size=256)


_AB = (Tensor("A", "INT32", (4,)), Tensor("B", "INT32", (4,)))
_OPTIONAL = "optional: true"
_BATCHER = "dynamic_batching { }"
_DECOUPLED = "model_transaction_policy { decoupled: true }"
_LENGTH = (Tensor("LENGTH", "INT32", (1,)), Tensor("SUM", "FP32", (1,)))

MODELS: dict[str, Model] = {
    **{f"identity_{datatype.lower()}": _identity(datatype) for datatype in DATATYPES},
    EVERYTHING: Model(
        "Everything",
        tuple(Tensor(datatype, datatype, (-1, -1, -1)) for datatype in DATATYPES),
        tuple(Tensor(f"{datatype}_OUT", datatype, (-1, -1, -1)) for datatype in DATATYPES),
    ),
    # two inputs, two outputs
    "add_sub": Model("AddSub", _AB, (Tensor("SUM", "INT32", (4,)), Tensor("DIFFERENCE", "INT32", (4,)))),
    # fixed and variable dimensions, each with a batch, and a whole tensor without one
    "matrix": Model("Sum", one("FP32", (2, 3)), one("FP32", (3,), "Y")),
    "variable": Model("Sum", one("FP32", (-1, 3)), one("FP32", (3,), "Y")),
    "unbatched": Model("Sum", one("FP32", (-1, 2)), one("FP32", (2,), "Y"), max_batch_size=0),
    "upper": Model("Upper", one("BYTES"), one("BYTES", name="Y")),
    "picture": Model(
        "Picture",
        one("BYTES"),
        (Tensor("SIZE", "INT32", (1,)), Tensor("HEAD", "BYTES", (1,)), Tensor("HEAD_bytes", "BYTES", (1,))),
    ),
    "not_finite": Model("NotFinite", one("FP32"), one("FP32", (4,), "Y")),
    "labelled": Model(
        "Identity",
        one("FP32", (3,)),
        one("FP32", (3,), "Y", 'label_filename: "labels.txt"'),
        files={"labels.txt": "".join(f"{label}\n" for label in LABELS)},
    ),
    "optional": Model(
        "Optional",
        (Tensor("A", "FP32", (1,)), Tensor("B", "FP32", (1,), _OPTIONAL)),
        one("FP32", (1,), "Y"),
    ),
    "ragged": Model(
        "Length", one("FP32", (-1,), more="allow_ragged_batch: true"), _LENGTH, more="dynamic_batching { }"
    ),
    "padded": Model("Length", one("FP32", (-1,)), _LENGTH, parameters={"listener_pad": "0"}),
    "slow": Model("Slow", one("FP32"), one("FP32", name="Y")),
    "failing": Model("Failing", one("BYTES"), one("BYTES", name="Y")),
    "versions": Model("Versioned", one("FP32"), one("FP32", name="Y"), more="version_policy { all { } }", versions=2),
    "greeting": Model("Greeting", one("BYTES", name="text_input"), one("BYTES", name="text_output")),
    "talking": Model(
        "Talking", one("BYTES", name="text_input"), one("BYTES", name="text_output"), max_batch_size=0, more=_DECOUPLED
    ),
    "counting": Model(
        "Counting",
        (
            Tensor("COUNT", "INT32", (1,)),
            Tensor("PAUSE", "FP32", (1,), _OPTIONAL),
            Tensor("FAIL_AFTER", "INT32", (1,), _OPTIONAL),
        ),
        one("INT32", name="N"),
        max_batch_size=0,
        more=_DECOUPLED,
    ),
}


def write(folder: Path, names: Collection[str] = tuple(MODELS)) -> Path:
    """Writes models into a folder; gives the folder."""
    for name in names:
        MODELS[name].write(folder / name)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.contract.models DIR")
    write(Path(sys.argv[1]))
