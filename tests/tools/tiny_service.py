"""Services of a few bytes, for the tests of `listener check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from listener.tools import checks

Dims = Sequence[int | str | None] | None

CONFIG = """\
name: "tiny"
backend: "onnxruntime"
max_batch_size: 8
dynamic_batching { }

input [
  {
    name: "X"
    data_type: TYPE_FP32
    dims: [ 2 ]
  }
]
output [
  {
    name: "Y"
    data_type: TYPE_FP32
    dims: [ 2 ]
  }
]
"""


def onnx_file(
    file: Path, dims: Dims = ("N", 2), out: Dims = ("N", 2), kind: int = TensorProto.FLOAT, name: str = "X"
) -> None:
    """An ONNX file that passes its one input on to its output Y."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["Y"])],
        "tiny",
        [helper.make_tensor_value_info(name, kind, dims)],
        [helper.make_tensor_value_info("Y", kind, out)],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


class Tiny:
    """A service with the one model `tiny`, in order as it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.repository = self.folder / "triton_repo"
        self.model = self.repository / "tiny"
        self.config = self.model / "config.pbtxt"
        self.onnx = self.model / "1" / "model.onnx"
        self.yaml = self.folder / "listener.yaml"
        onnx_file(self.onnx)
        self.config.write_text(CONFIG)
        self.yaml.write_text("routes:\n  tiny: {}\n")

    def change(self, old: str, new: str) -> None:
        """Changes config.pbtxt, in which `old` has to stand."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def mistakes(self) -> list[str]:
        """What the check says, without the repository's folder at the start."""
        return [mistake.replace(f"{self.repository}/", "") for mistake in checks.run(self.folder)]

    def handler(self, source: str) -> Path:
        """Makes `source` the handler of the route: a module, whose class is H."""
        file = self.folder / "handlers" / "mine.py"
        file.parent.mkdir()
        file.write_text(f"import numpy as np\nfrom listener import Handler\n{source}\n")
        self.yaml.write_text("routes:\n  tiny:\n    handler: handlers.mine:H\n")
        return file
