"""A model repository of a few bytes, whose models give back what they get."""

from __future__ import annotations

_MODEL = """\
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        return [utils.InferenceResponse([utils.Tensor("Y", utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""
_CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


def repository(*models: str) -> dict[str, bytes | str]:
    """Its files, by path."""
    files: dict[str, bytes | str] = {f"{model}/config.pbtxt": _CONFIG for model in models}
    return files | {f"{model}/1/model.py": _MODEL for model in models}


def below(prefix: str, files: dict[str, bytes | str]) -> dict[str, bytes | str]:
    """The same files, further down."""
    return {f"{prefix}/{name}": content for name, content in files.items()}
