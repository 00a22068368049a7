"""Models of Triton's Python backend that take one number a row and give one."""

from __future__ import annotations

from pathlib import Path

_CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


def write(service: Path, name: str, code: str) -> None:
    """Adds a model to a service's repository.

    Args:
        service: its folder, which may not be there yet.
        name: of the model.
        code: of its model.py.
    """
    folder = service / "triton_repo" / name
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.py").write_text(code)
    (folder / "config.pbtxt").write_text(_CONFIG)
