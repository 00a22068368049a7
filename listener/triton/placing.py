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

#: Bytes of an input from which on shared memory is cheaper than the socket (docs/adr/0009-hot-path.md).
THRESHOLD = 128 << 10


def worth_it(groups: Sequence[Arrays]) -> bool:
    """Whether an input is so large; judged by the first request, as the others are like it."""
    return any(array.nbytes * len(groups) >= THRESHOLD for array in groups[0].values())


def room(memory: SharedMemory | None, nbytes: int) -> Lease | None:
    """A lease for an input that is still to come; None where it is small, or there is none."""
    return memory.lease(nbytes) if memory and nbytes >= THRESHOLD else None


def place(groups: Sequence[Arrays], memory: SharedMemory) -> tuple[Group, list[Lease], list[Lease]]:
    """The requests as one batch, its large inputs in leases as far as there are any.

    Args:
        groups: as `TritonClient.infer` takes them.
        memory: gives the leases.

    Returns:
        The batch; the leases that were taken for it, which are the caller's to return; and those in which an input lay
        already, which are somebody else's.
    """
    batch: dict[str, NDArray[Any] | Region] = {}
    taken: list[Lease] = []
    found: list[Lease] = []
    for name in groups[0]:
        arrays = [group[name] for group in groups]
        if len(arrays) == 1 and (there := memory.holding(arrays[0])):
            found.append(there)
            batch[name] = _region(there, arrays[0])
            continue
        nbytes = sum(array.nbytes for array in arrays)
        lease = memory.lease(nbytes) if nbytes >= THRESHOLD and arrays[0].dtype.kind != "O" else None
        if lease is None:
            batch[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        else:
            taken.append(lease)
            batch[name] = _region(lease, _written(arrays, lease))
    return batch, taken, found


def _region(lease: Lease, array: NDArray[Any]) -> Region:
    return Region(lease.region, lease.offset, array.nbytes, str(np_to_triton_dtype(array.dtype)), array.shape)


def _written(arrays: Sequence[NDArray[Any]], lease: Lease) -> NDArray[Any]:
    first = arrays[0]
    shape = first.shape if len(arrays) == 1 else (sum(map(len, arrays)), *first.shape[1:])
    target = np.frombuffer(lease.view, first.dtype).reshape(shape)
    if len(arrays) == 1:
        target[...] = first
    else:
        np.concatenate(arrays, out=target)
    return target
