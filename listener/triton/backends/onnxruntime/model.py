"""Serves ONNX models in a Triton that has no onnxruntime backend of its own.

Triton takes a folder `<backend-directory>/onnxruntime` with this file for the backend "onnxruntime", so models with
`backend: "onnxruntime"`, with `platform: "onnxruntime_onnx"` or without a config.pbtxt come here unchanged. Triton
imports it in a process of its own for every instance, with this folder on the path and without the package around it:
nothing but numpy, onnxruntime, the modules beside this one and those in `_shared` can be imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

# The backend directory may be one of links; what the backends share lies beside where this one points.
sys.path.append(str(Path(__file__).resolve().parents[1] / "_shared"))

from ort_config import check, complete
from ort_session import default_max_batch_size, open_session, open_signature, runner, server_arguments
from shared_answers import Answers


class TritonPythonModel:
    """One instance of one model; the methods are those that Triton calls."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Completes the configuration from the ONNX file; called once per model, before any instance exists.

        Raises:
            LoadError: the file cannot be loaded, or contradicts the configuration.
        """
        config = auto_complete_model_config.as_dict()
        signature = open_signature(config, pb_utils.get_model_dir())
        given = config["max_batch_size"]
        complete(config, signature, default_max_batch_size(server_arguments()))
        check(config, signature)
        if config["max_batch_size"] != given:
            pb_utils.Logger.log_info(
                f"model '{config['name']}' can batch and sets no max_batch_size: it is {config['max_batch_size']} now"
            )
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the session of this instance.

        Args:
            args: Triton's strings, of which `model_config` is JSON.

        Raises:
            LoadError: as above; the configuration is checked again, as completing it may have been turned off.
        """
        config = json.loads(args["model_config"])
        session, signature = open_session(
            config,
            pb_utils.get_model_dir(),
            args["model_instance_kind"],
            args["model_instance_device_id"],
            pb_utils.Logger.log_warn,
        )
        check(config, signature)
        specs = (signature.inputs | signature.optional).values()
        scalars = frozenset(spec.name for spec in specs if not spec.dims)
        self._answers = Answers(runner(session), config, _is_about_the_inputs, scalars)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a batch, each with its outputs or its own error."""
        return self._answers.to(requests)

    def finalize(self) -> None:
        """Frees the session when the model is unloaded."""
        del self._answers


def _is_about_the_inputs(error: Exception) -> bool:
    """onnxruntime's class for inputs that the model cannot take; its other classes are not the caller's fault."""
    return type(error).__name__ == "InvalidArgument"
