"""Runs the requests of one batch in as few calls as possible, and keeps the failure of one from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
Run = Callable[[list[str], Arrays], list[Array]]


@dataclass(frozen=True)
class Job:
    """One request: its place in the batch, its inputs by name, and the names of the outputs it wants."""

    place: int
    feeds: Arrays
    wanted: list[str]

    @property
    def rows(self) -> int:
        """The size of the batch dimension, which all inputs of a batching model share; 0 without inputs."""
        return next((int(feed.shape[0]) for feed in self.feeds.values()), 0)

    def key(self) -> tuple[Any, ...]:
        """Equal for jobs whose inputs can be joined along the first dimension."""
        return tuple(sorted((name, feed.dtype.str, feed.shape[1:]) for name, feed in self.feeds.items()))


def groups(jobs: list[Job], batching: bool) -> list[list[Job]]:
    """Jobs that can run in one call, together; every job alone for a model without batching."""
    if not batching or len(jobs) < 2:
        return [[job] for job in jobs]
    found: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        found.setdefault(job.key(), []).append(job)
    return list(found.values())


def run_group(run: Run, jobs: list[Job], batching: bool) -> Iterator[tuple[Job, Arrays | Exception]]:
    """Runs one group of jobs; where that fails, each job alone.

    Args:
        run: computes the named outputs for the inputs.
        jobs: a group that `groups` made.
        batching: whether the first dimension of all tensors is the batch.

    Yields:
        Each job with its outputs by name, or with the error of that job.
    """
    if len(jobs) > 1:
        try:
            yield from list(_run_joined(run, jobs))
            return
        except Exception:  # the fault may be that of one job: each must find out for itself
            pass
    for job in jobs:
        try:
            if batching:
                yield from list(_run_joined(run, [job]))
            else:
                yield job, _named(run, job.wanted, job.feeds)
        except Exception as error:
            yield job, error


def _named(run: Run, wanted: list[str], feeds: Arrays) -> Arrays:
    return dict(zip(wanted, run(wanted, feeds), strict=True))


def _run_joined(run: Run, jobs: list[Job]) -> Iterator[tuple[Job, Arrays]]:
    if len(jobs) == 1:
        feeds, wanted = jobs[0].feeds, jobs[0].wanted
    else:
        feeds = {name: np.concatenate([job.feeds[name] for job in jobs]) for name in jobs[0].feeds}
        wanted = list(dict.fromkeys(name for job in jobs for name in job.wanted))
    outputs = _named(run, wanted, feeds)
    rows = sum(job.rows for job in jobs)
    for name, output in outputs.items():
        if output.ndim == 0 or output.shape[0] != rows:
            raise ValueError(f"output '{name}' has the shape {list(output.shape)} for a batch of {rows}")
    start = 0
    for job in jobs:
        end = start + job.rows
        yield job, {name: outputs[name][start:end] for name in job.wanted}
        start = end


def decoded(name: str, array: Array) -> Array:
    """The strings in a BYTES input as Python has them.

    Args:
        name: of the input, for the error.
        array: objects of type bytes.

    Returns:
        An array of the same shape with objects of type str.

    Raises:
        ValueError: an element is not UTF-8. (Neither onnxruntime's Python
            interface nor torch's can pass such bytes on.)
    """
    texts = np.empty(array.size, dtype=np.object_)
    for place, item in enumerate(array.ravel().tolist()):
        try:
            texts[place] = item.decode() if isinstance(item, bytes) else str(item)
        except UnicodeDecodeError as error:
            raise ValueError(f"element {place} of input '{name}' is not valid UTF-8") from error
    return texts.reshape(array.shape)
