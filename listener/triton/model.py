"""A model as a handler sees it: named arrays in, named arrays out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays
from listener.errors import Unavailable
from listener.tensors import NUMPY, ModelSpec, TensorError, TensorSpec, fits
from listener.triton.client import TritonClient
from listener.triton.split import join, parts


class Model:
    """One model of the repository.

    Attributes:
        name: its name.
    """

    def __init__(self, name: str, client: TritonClient) -> None:
        self.name = name
        self._client = client
        self._spec: ModelSpec | None = None

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives.

        Raises:
            Unavailable: it has not been read from Triton yet.
        """
        if self._spec is None:
            raise Unavailable(f"model {self.name!r} is not ready")
        return self._spec

    async def lacks(self) -> str | None:
        """Why the model cannot be called, as the rest of a sentence; None if it can. Never raises."""
        if await self._client.model_ready(self.name):
            return None
        return "is not ready" if await self._client.has_model(self.name) else "is not in the repository"

    async def read_spec(self) -> None:
        """Reads the configuration anew, as after a restart of Triton.

        Raises:
            Unavailable: Triton does not answer.
        """
        self._spec = await self._client.spec(self.name)

    async def infer(self, arrays: Arrays, deadline: float = float("inf")) -> dict[str, NDArray[Any]]:
        """Runs the model on a batch; more rows than it takes at a time go out in parts, in parallel.

        Args:
            arrays: inputs by name, all with the same leading batch dimension N >= 1.
            deadline: `time.monotonic()` by which the answer must be there.

        Returns:
            Outputs by name, each with leading dimension N, in the order of the rows.

        Raises:
            TensorError: a name, shape or dtype is not the model's, or the batch dimensions differ.
            ListenerError: as `TritonClient.infer`.
        """
        spec = self.spec
        checked = _checked(arrays, spec)
        if spec.max_batch_size == 0:
            replies = await _all(self._one(spec, _row(checked, i), deadline) for i in range(_rows(checked)))
            return {name: np.stack([reply[name] for reply in replies]) for name in replies[0]}
        return join(await _all(self._one(spec, part, deadline) for part in parts(checked, spec.max_batch_size)))

    async def _one(self, spec: ModelSpec, arrays: Arrays, deadline: float) -> dict[str, NDArray[Any]]:
        return await self._client.infer(spec, arrays, min(deadline - time.monotonic(), 3600.0))


async def _all(calls: Any) -> list[dict[str, NDArray[Any]]]:
    """Results in order; the first failure cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _checked(arrays: Arrays, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    known = {tensor.name: tensor for tensor in spec.inputs}
    if unknown := sorted(arrays.keys() - known.keys()):
        raise TensorError(f"model {spec.name!r} has no input {unknown[0]!r}; it takes {', '.join(map(repr, known))}")
    if absent := [t.name for t in spec.inputs if t.name not in arrays and not t.optional]:
        raise TensorError(f"model {spec.name!r} misses its input {absent[0]!r}")
    checked = {name: _as_tensor(array, known[name]) for name, array in arrays.items()}
    if len({array.shape[0] for array in checked.values()}) != 1 or _rows(checked) == 0:
        raise TensorError(f"the inputs of model {spec.name!r} do not share one batch dimension of at least 1")
    return checked


def _as_tensor(array: Any, tensor: TensorSpec) -> NDArray[Any]:
    array = np.asarray(array)
    wanted = NUMPY.get(tensor.datatype)
    if wanted is not None and array.dtype != wanted:
        if not np.can_cast(array.dtype, wanted, casting="same_kind"):
            raise TensorError(f"input {tensor.name!r} is {array.dtype}, the model takes {tensor.datatype}")
        array = array.astype(wanted)
    if array.ndim == 0 or not fits(array.shape[1:], tensor.shape):
        raise TensorError(
            f"input {tensor.name!r} has shape {list(array.shape)}, the model takes {['batch', *tensor.shape]}"
        )
    return np.ascontiguousarray(array)


def _rows(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _row(arrays: Arrays, index: int) -> dict[str, NDArray[Any]]:
    return {name: array[index, ...] for name, array in arrays.items()}
