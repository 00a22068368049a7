"""What one start of Triton leaves on a machine: shared memory of its Python stubs, and a folder. Nothing stays behind.

Triton's Python backend names its regions in /dev/shm after a prefix we choose; the folder, for links and copies that
Triton is started with, has the same name. A lock file with that prefix is held by us and inherited by Triton and its
stubs, so it is free exactly when all of them are gone, however they went. Whoever starts next removes what belongs to
free locks: that works after a SIGKILL and between containers that share one /dev/shm, where process ids would lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

SHM = Path("/dev/shm")
_NAME = "listener-py-"


class Regions:
    """Context manager around one start of Triton.

    Attributes:
        prefix: for `--backend-config=python,shm-region-prefix-name=`.
        folder: an empty folder, for us alone.
        lock: file descriptor that Triton must inherit; None where there is no /dev/shm.
    """

    def __init__(self, shm: Path = SHM) -> None:
        self._shm = shm
        self.prefix = f"{_NAME}{secrets.token_hex(4)}"
        self.folder = _folder(self.prefix)
        self.lock: int | None = None

    def __enter__(self) -> Regions:
        if self._shm.is_dir():
            sweep(self._shm)
            # locked under another name first: a sweep in between would find the lock free and unlink it
            unlocked = self._shm / f".{self.prefix}"
            self.lock = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self._shm / f"{self.prefix}.lock")
        self.folder.mkdir(mode=0o700)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        _remove(self._shm, self.prefix)


def sweep(shm: Path = SHM) -> None:
    """Removes what every start left that has ended without doing so."""
    for lock in shm.glob(f"{_NAME}{'[0-9a-f]' * 8}.lock"):  # no other name: its regions could be somebody else's
        with contextlib.suppress(OSError):  # somebody else's file, or gone in the meantime
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(shm, lock.stem)
            finally:
                os.close(descriptor)


def _remove(shm: Path, prefix: str) -> None:
    """The lock goes last, so that an interrupted sweep is taken up again."""
    shutil.rmtree(_folder(prefix), ignore_errors=True)
    for region in sorted(shm.glob(f"{prefix}*"), key=lambda path: path.suffix == ".lock"):
        region.unlink(missing_ok=True)


def _folder(prefix: str) -> Path:
    return Path(tempfile.gettempdir()) / prefix
