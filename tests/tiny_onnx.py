"""Small ONNX files of many kinds, whose outputs are known without running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
Tensors = Mapping[str, tuple[int, Sequence[str | int]]]


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        nodes: operator, inputs, outputs and attributes of each.
        inputs: type and shape by name.
        outputs: likewise.
        instance: one that it takes.
        prediction: what it answers to that, by the names of the outputs.
    """

    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]]
    inputs: Tensors
    outputs: Tensors
    instance: Any
    prediction: Mapping[str, Any]

    def write(self, file: Path) -> Path:
        """The file."""
        graph = helper.make_graph(
            [helper.make_node(name, list(takes), list(gives), **more) for name, takes, gives, more in self.nodes],
            "tiny",
            [helper.make_tensor_value_info(name, *tensor) for name, tensor in self.inputs.items()],
            [helper.make_tensor_value_info(name, *tensor) for name, tensor in self.outputs.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, file)
        return file


def _same(datatype: int, shape: Sequence[str | int], value: Any) -> Kind:
    """A model that answers what it gets."""
    return Kind(
        [("Identity", ["given"], ["got"], {})],
        {"given": (datatype, shape)},
        {"got": (datatype, shape)},
        value,
        {"got": value},
    )


KINDS: Mapping[str, Kind] = {
    # as skl2onnx makes them: a label for each row, beside a row of numbers
    "classes": Kind(
        [("ArgMax", ["X"], ["label"], {"axis": 1, "keepdims": 0}), ("Relu", ["X"], ["scores"], {})],
        {"X": (FLOAT, ["N", 4])},
        {"label": (INT64, ["N"]), "scores": (FLOAT, ["N", 4])},
        [0.0, -1.0, 7.5, 2.0],
        {"label": 2, "scores": [0.0, 0.0, 7.5, 2.0]},
    ),
    # as skl2onnx makes them of a table with columns of several types
    "columns": Kind(
        [("Identity", ["age"], ["years"], {}), ("Identity", ["sex"], ["said"], {}), ("Not", ["no"], ["yes"], {})],
        {"age": (FLOAT, ["N", 1]), "sex": (STRING, ["N", 1]), "no": (BOOL, ["N", 2])},
        {"years": (FLOAT, ["N", 1]), "said": (STRING, ["N", 1]), "yes": (BOOL, ["N", 2])},
        {"age": 7, "sex": "é", "no": [True, False]},
        {"years": 7.0, "said": "é", "yes": [False, True]},
    ),
    "picture": Kind(
        [("ReduceMean", ["image"], ["mean"], {"axes": [2, 3], "keepdims": 0})],
        {"image": (FLOAT, ["N", 3, "H", "W"])},
        {"mean": (FLOAT, ["N", 3])},
        [[[1, 2]], [[3, 3]], [[0, 0]]],
        {"mean": [1.5, 3.0, 0.0]},
    ),
    "sized_picture": Kind(
        [("ReduceMax", ["image"], ["most"], {"axes": [1, 2, 3], "keepdims": 0})],
        {"image": (FLOAT, ["N", 3, 224, 224])},
        {"most": (FLOAT, ["N"])},
        [[[2.0] * 224] * 224] * 3,
        {"most": 2.0},
    ),
    "text": _same(INT64, ["N", "S"], [101, 7592, 102]),
    "words": _same(STRING, ["N", "S"], ["so", "", "weit"]),
    "pages": _same(STRING, ["N", 2, "S"], [["a", "b"], ["ü", ""]]),
    "number": _same(FLOAT, ["N"], 2.5),
    "sentence": _same(STRING, ["N", 1], "a sentence"),
    "one_at_a_time": _same(FLOAT, [1, 3], [[1.0, 2.0, 3.0]]),
    "odd_names": Kind(
        [("Identity", ["""a"b\\c'@name@"""], ["class"], {})],
        {"""a"b\\c'@name@""": (FLOAT, ["N", 2])},
        {"class": (FLOAT, ["N", 2])},
        [1.0, 2.0],
        {"class": [1.0, 2.0]},
    ),
    "many_outputs": Kind(
        [("Identity", ["given"], [f"a_rather_long_name_of_an_output_{i}"], {}) for i in range(5)],
        {"given": (INT64, ["N", 2])},
        {f"a_rather_long_name_of_an_output_{i}": (INT64, ["N", 2]) for i in range(5)},
        [1, 2],
        {f"a_rather_long_name_of_an_output_{i}": [1, 2] for i in range(5)},
    ),
}
