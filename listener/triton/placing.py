"""Large inputs into shared memory: some requests' arrays become one batch where Triton reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from listener.call import Arrays
from listener.triton.codec import Group, Region
from listener.triton.shm import Lease, SharedMemory

#: Bytes of an input from which on shared memory is cheaper than the socket (docs/adr/0007-transport-to-triton.md).
THRESHOLD = 128 << 10


def worth_it(groups: Sequence[Arrays]) -> bool:
    """Whether an input is so large; judged by the first request, as the others are like it."""
    return any(array.nbytes * len(groups) >= THRESHOLD for array in groups[0].values())


def place(groups: Sequence[Arrays], memory: SharedMemory) -> tuple[Group, list[Lease]]:
    """The requests as one batch, its large inputs in leases as far as there are any.

    Args:
        groups: as `TritonClient.infer` takes them.
        memory: gives the leases.

    Returns:
        The batch, and its leases; those are the caller's to return.
    """
    batch: dict[str, NDArray[Any] | Region] = {}
    leases: list[Lease] = []
    for name in groups[0]:
        arrays = [group[name] for group in groups]
        nbytes = sum(array.nbytes for array in arrays)
        lease = memory.lease(nbytes) if nbytes >= THRESHOLD and arrays[0].dtype.kind != "O" else None
        if lease is None:
            batch[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        else:
            leases.append(lease)
            batch[name] = _written(arrays, lease)
    return batch, leases


def _written(arrays: Sequence[NDArray[Any]], lease: Lease) -> Region:
    first = arrays[0]
    shape = first.shape if len(arrays) == 1 else (sum(map(len, arrays)), *first.shape[1:])
    target = np.frombuffer(lease.view, first.dtype).reshape(shape)
    if len(arrays) == 1:
        target[...] = first
    else:
        np.concatenate(arrays, out=target)
    return Region(lease.region, lease.offset, lease.nbytes, str(np_to_triton_dtype(first.dtype)), shape)
