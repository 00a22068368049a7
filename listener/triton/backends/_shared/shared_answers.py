"""Answers the requests that Triton hands over at once: joined where that is possible, each with its own error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from shared_batch import Array, Arrays, Job, Run, decoded, groups, run_group
from shared_config import one_line

# Asking whether a request was cancelled goes through Triton and back and takes some 100 microseconds, more than a small
# model's whole work. So only models are asked for that take a hundred times as long per request.
SECONDS_WORTH_ASKING = 0.01


class Answers:
    """What one instance of a model answers.

    Args:
        run: computes the named outputs for the inputs.
        config: the model configuration; its `max_batch_size` says whether the first dimension is the batch.
        callers_fault: whether an error that `run` raised is about what the caller sent.
        scalars: inputs to which `run` takes no dimension; Triton has no such tensors, and hands over one element.
    """

    def __init__(
        self,
        run: Run,
        config: dict[str, Any],
        callers_fault: Callable[[Exception], bool] = lambda error: False,
        scalars: frozenset[str] = frozenset(),
    ) -> None:
        self._run, self._callers_fault, self._scalars = run, callers_fault, scalars
        self._batching = config["max_batch_size"] > 0
        # Infinite, so that the first requests are asked; afterwards the measured time per request.
        self._seconds = float("inf")

    def to(self, requests: list[Any]) -> list[Any]:
        """The responses to all requests of a batch, in their order."""
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
                    responses[job.place] = self._response(result)
            self._seconds = (time.perf_counter() - start) / len(jobs)
        return responses

    def _feeds(self, request: Any) -> Arrays:
        feeds: Arrays = {}
        for tensor in request.inputs():
            name, array = tensor.name(), tensor.as_numpy()
            if array.dtype == object:
                array = decoded(name, array)
            feeds[name] = array.reshape(()) if name in self._scalars else array
        return feeds

    def _response(self, result: Arrays | Exception) -> Any:
        if isinstance(result, Exception):
            fault = pb_utils.TritonError.INVALID_ARG if self._callers_fault(result) else pb_utils.TritonError.INTERNAL
            return _failure(one_line(result), fault)
        tensors = [pb_utils.Tensor(name, _dimensioned(array)) for name, array in result.items()]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _dimensioned(array: Array) -> Array:
    """Triton has no tensors without dimensions: a scalar is a [1] there."""
    return array if array.ndim else array.reshape(1)


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
