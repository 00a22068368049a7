"""Serves ONNX models in a Triton that has no onnxruntime backend of its own.

Triton takes a folder `<backend-directory>/onnxruntime` with this file for the backend "onnxruntime", so models with
`backend: "onnxruntime"`, with `platform: "onnxruntime_onnx"` or without a config.pbtxt come here unchanged. Triton
imports it in a process of its own for every instance, with this folder on the path and without the package around it:
nothing but numpy, onnxruntime and the modules beside this one can be imported.
"""

from __future__ import annotations

import json
import time
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from ort_batch import Array, Job, decoded, groups, one_line, run_group
from ort_config import check, complete
from ort_session import default_max_batch_size, open_session, open_signature, runner, server_arguments

# Asking whether a request was cancelled goes through Triton and back and takes some 100 microseconds, more than a small
# model's whole work. So only models are asked for that take a hundred times as long per request.
SECONDS_WORTH_ASKING = 0.01


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
        self._run = runner(session)
        self._batching = config["max_batch_size"] > 0
        specs = (signature.inputs | signature.optional).values()
        self._texts = {spec.name for spec in specs if spec.data_type == "TYPE_STRING"}
        self._scalars = {spec.name for spec in specs if not spec.dims}
        # Infinite, so that the first requests are asked; afterwards the measured time per request.
        self._seconds = float("inf")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a batch, each with its outputs or its own error."""
        responses: list[Any] = [None] * len(requests)
        jobs = []
        for place, request in enumerate(requests):
            try:
                if self._seconds > SECONDS_WORTH_ASKING and request.is_cancelled():
                    responses[place] = _failure("the request was cancelled", pb_utils.TritonError.CANCELLED)
                else:
                    jobs.append(Job(place, self._feeds(request), request.requested_output_names()))
            except ValueError as error:
                responses[place] = _failure(one_line(error), pb_utils.TritonError.INVALID_ARG)
        if jobs:
            start = time.perf_counter()
            for group in groups(jobs, self._batching):
                for job, result in run_group(self._run, group, self._batching):
                    responses[job.place] = _response(result)
            self._seconds = (time.perf_counter() - start) / len(jobs)
        return responses

    def finalize(self) -> None:
        """Frees the session when the model is unloaded."""
        del self._run

    def _feeds(self, request: Any) -> dict[str, Array]:
        feeds: dict[str, Array] = {}
        for tensor in request.inputs():
            name, array = tensor.name(), tensor.as_numpy()
            if name in self._texts:
                array = decoded(name, array)
            feeds[name] = array.reshape(()) if name in self._scalars else array
        return feeds


def _response(result: dict[str, Array] | Exception) -> Any:
    if isinstance(result, Exception):
        # onnxruntime's class for inputs that the model cannot take; its other classes are not the caller's fault.
        wrong_input = type(result).__name__ == "InvalidArgument"
        code = pb_utils.TritonError.INVALID_ARG if wrong_input else pb_utils.TritonError.INTERNAL
        return _failure(one_line(result), code)
    # Triton has no tensors without dimensions: a scalar is a [1] there.
    tensors = [pb_utils.Tensor(name, array if array.ndim else array.reshape(1)) for name, array in result.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
