"""Serves TorchScript models in a Triton that has no pytorch backend of its own.

Triton takes a folder `<backend-directory>/pytorch` with this file for the backend "pytorch", so models with
`backend: "pytorch"` or `platform: "pytorch_libtorch"` come here unchanged. Triton imports it in a process of its own
for every instance, with this folder on the path and without the package around it: nothing but numpy, torch, the
modules beside this one and those in `_shared` can be imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

# The backend directory may be one of links; what the backends share lies beside where this one points.
sys.path.append(str(Path(__file__).resolve().parents[1] / "_shared"))

from pt_config import plan, require_complete
from pt_module import arguments_of, device_of, load, options_of, prepare, require_torch, runner
from shared_answers import Answers
from shared_config import model_file


class TritonPythonModel:
    """One instance of one model; the methods are those that Triton calls."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Completes nothing, as TorchScript files do not hold enough, but says so where something is missing.

        Raises:
            LoadError: an input or output is not declared, or the file that could say more cannot be loaded.
        """
        config = auto_complete_model_config.as_dict()

        def arguments() -> Any:
            file = model_file(config, pb_utils.get_model_dir(), "model.pt")
            return arguments_of(load(require_torch(config["name"]), config["name"], file, "cpu", lambda line: None))

        require_complete(config, arguments)
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model for this instance.

        Args:
            args: Triton's strings, of which `model_config` is JSON.

        Raises:
            LoadError: torch is missing, the file cannot be loaded, or the configuration contradicts it.
        """
        config, warn = json.loads(args["model_config"]), pb_utils.Logger.log_warn
        options, file = options_of(config), model_file(config, pb_utils.get_model_dir(), "model.pt")
        torch = require_torch(config["name"])  # after what can be told without, as it takes a second or two
        prepare(torch, options)
        device = device_of(torch, config["name"], args["model_instance_kind"], args["model_instance_device_id"], warn)
        with torch.inference_mode(options.inference_mode):  # for loading as well, as the native backend has it
            module = load(torch, config["name"], file, device, warn)
        arguments = arguments_of(module)
        require_complete(config, lambda: arguments)
        self._answers = Answers(runner(torch, module, plan(config, arguments, warn), device, options), config)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a batch, each with its outputs or its own error."""
        return self._answers.to(requests)

    def finalize(self) -> None:
        """Frees the model when it is unloaded."""
        del self._answers
