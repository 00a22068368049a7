"""Large tensors in shared memory: requests' inputs become one batch where Triton reads it, and outputs get room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays
from listener.triton.codec import Codec, Group, Region, Slot
from listener.triton.shm import Lease, SharedMemory

#: Bytes of a tensor from which on shared memory is cheaper than the socket (docs/adr/0009-hot-path.md).
THRESHOLD = 128 << 10


class Places(NamedTuple):
    """Where the tensors of a call lie.

    Attributes:
        groups: as `Codec.request` takes them.
        outputs: a lease for each large output that got one, by name.
        taken: the leases that were taken for the call, those of outputs among them; the caller's to return.
        found: somebody else's leases, in which an input lay already.
    """

    groups: Sequence[Group]
    outputs: dict[str, Lease]
    taken: list[Lease]
    found: list[Lease]

    def slots(self) -> dict[str, Slot]:
        """The outputs' places for the request."""
        return {name: Slot(lease.region, lease.offset, lease.nbytes) for name, lease in self.outputs.items()}

    def views(self) -> dict[str, memoryview]:
        """The outputs' places for the answer."""
        return {name: lease.view for name, lease in self.outputs.items()}


def worth_it(groups: Sequence[Arrays], codec: Codec) -> bool:
    """Whether an input is so large, or an output of a full call."""
    return codec.largest_output >= THRESHOLD or _large_input(groups)


def _large_input(groups: Sequence[Arrays]) -> bool:
    """Judged by the first request, as the others are like it."""
    return any(array.nbytes * len(groups) >= THRESHOLD for array in groups[0].values())


def room(memory: SharedMemory | None, nbytes: int) -> Lease | None:
    """A lease for an input that is still to come; None where it is small, or there is none."""
    return memory.lease(nbytes) if memory and nbytes >= THRESHOLD else None


def place(groups: Sequence[Arrays], codec: Codec, memory: SharedMemory) -> Places | None:
    """Places for the large tensors of a call, as far as there are any leases; None: all of it travels as bytes.

    Args:
        groups: as `Codec.as_sent` gives them.
        codec: of the model.
        memory: gives the leases.
    """
    batch, taken, found = _inputs(groups, codec, memory) if _large_input(groups) else (None, [], [])
    outputs = {}
    for name, nbytes in codec.output_sizes(groups).items():
        if nbytes >= THRESHOLD and (lease := memory.lease(nbytes, for_output=True)):
            outputs[name] = lease
    if not (taken or found or outputs):
        return None
    return Places([batch] if batch else groups, outputs, [*taken, *outputs.values()], found)


def _inputs(
    groups: Sequence[Arrays], codec: Codec, memory: SharedMemory
) -> tuple[Group | None, list[Lease], list[Lease]]:
    """The requests as one batch, None if no input of it lies in a lease; the leases taken for it; those found."""
    first, taken, found = groups[0], [], []
    batch: dict[str, NDArray[Any] | Region] = {}
    for name in first:
        arrays = [group[name] for group in groups]
        if len(arrays) == 1 and (there := memory.holding(arrays[0])):
            found.append(there)
            batch[name] = _region(there, arrays[0], codec.datatype(name, first[name].dtype))
            continue
        nbytes = sum(array.nbytes for array in arrays)
        lease = memory.lease(nbytes) if nbytes >= THRESHOLD and first[name].dtype.kind != "O" else None
        if lease:
            taken.append(lease)
            batch[name] = _region(lease, _written(arrays, lease), codec.datatype(name, first[name].dtype))
    if not batch:
        return None, taken, found
    for name in [name for name in first if name not in batch]:
        arrays = [group[name] for group in groups]
        batch[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return batch, taken, found


def _region(lease: Lease, array: NDArray[Any], datatype: str) -> Region:
    return Region(lease.region, lease.offset, array.nbytes, datatype, array.shape)


def _written(arrays: Sequence[NDArray[Any]], lease: Lease) -> NDArray[Any]:
    first = arrays[0]
    shape = first.shape if len(arrays) == 1 else (sum(map(len, arrays)), *first.shape[1:])
    target = np.frombuffer(lease.view, first.dtype).reshape(shape)
    if len(arrays) == 1:
        target[...] = first
    else:
        np.concatenate(arrays, out=target)
    return target
