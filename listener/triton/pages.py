"""A file in shared memory whose pages are taken from the machine as they are needed, and given back."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from pathlib import Path

import numpy as np

from listener.triton.regions import CLIENT, SHM, Claim, can_be_had, free

MiB = 1 << 20
#: Of all workers together; 85 tensors of 3 MiB.
_MOST = 256 * MiB
#: Pages are taken and given back in steps of this.
STEP = 4 * MiB


class Pages:
    """As long as it may get from the start, but sparse: only what is reserved may be touched.

    Touching a page of a sparse file when shared memory is full kills a process (SIGBUS); reserving it fails in peace.

    Args:
        size: bytes, at least `STEP`.
        shm: the folder of shared memory.

    Attributes:
        name: of the file in `shm`.
        size: bytes, whole pages.
        address: of its first byte in this process.

    Raises:
        OSError: shared memory is not there, full, or not ours to write.
    """

    def __init__(self, size: int, shm: Path) -> None:
        self.size = size - size % mmap.PAGESIZE
        with contextlib.ExitStack() as opened:
            claim = opened.enter_context(Claim(shm))
            self.name = f"{claim.prefix}{CLIENT}"
            # for this user alone: the tensors are the callers' data
            self._file = os.open(shm / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, self._file)
            os.ftruncate(self._file, self.size)
            os.posix_fallocate(self._file, 0, STEP)
            self._map = mmap.mmap(self._file, self.size)
            self._opened = opened.pop_all()
        self.reserved = STEP
        self.address = int(np.frombuffer(self._map, np.uint8, 1).__array_interface__["data"][0])

    def view(self, begin: int, end: int) -> memoryview:
        """Writable; to be used as far as it is reserved."""
        return memoryview(self._map)[begin:end]

    def reserve(self, end: int) -> bool:
        """Whether the first `end` bytes have pages now.

        Takes at most half of what is free: Triton's stubs and the other workers need their share.
        """
        more = min(_steps(end), self.size) - self.reserved
        if more <= 0:
            return True
        try:
            if more > can_be_had(self._file) // 2:
                return False
            os.posix_fallocate(self._file, self.reserved, more)
        except OSError:
            return False
        self.reserved += more
        return True

    def keep(self, end: int) -> None:
        """Gives back whole steps above `end`, which nobody uses; the first step stays."""
        end = min(_steps(max(end, 1)), self.size)
        if end < self.reserved and self._empty(end, self.reserved):
            self.reserved = end

    def remove(self) -> None:
        """Takes the name away; what is mapped stays so."""
        self._opened.close()

    def unmap(self) -> None:
        """Gives every page back, though Triton still has them mapped. Nobody may write any more."""
        self._empty(0, self.size)
        with contextlib.suppress(BufferError):  # an array of somebody's looks at it still, and keeps it
            self._map.close()

    def _empty(self, begin: int, end: int) -> bool:
        if sys.platform != "linux":
            return False
        try:
            self._map.madvise(mmap.MADV_REMOVE, begin, end - begin)
        except OSError:  # not every file system can
            return False
        return True


def default_size(shm: Path = SHM, workers: int = 1) -> int:
    """Bytes for each worker's pool: of 256 MiB, or of half of what is free if that is less, an equal part.

    Containers have 64 MiB unless told otherwise, so one worker gets 32 MiB there and eight get 4 MiB each. 0 where that
    would be less than 4 MiB, and without /dev/shm.
    """
    size = min(_MOST, (free(shm) or 0) // 2) // workers
    return size if size >= STEP else 0


def _steps(nbytes: int) -> int:
    return -(-nbytes // STEP) * STEP
