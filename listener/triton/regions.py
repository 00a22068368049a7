"""What one start of Triton leaves on a machine: shared memory of its Python stubs, and a folder. Nothing stays behind.

A worker's own shared memory (shm.py) goes the same way.

Triton's Python backend names its regions in /dev/shm after a prefix we choose; the folder, for links and copies that
Triton is started with, has the same name. A lock file with that prefix is held by us and inherited by Triton and its
stubs, so it is free exactly when all of them are gone, however they went. Whoever starts next removes what belongs to
free locks: that works after a SIGKILL and between containers that share one /dev/shm, where process ids would lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from listener import temporary
from listener.errors import ConfigError

SHM = Path("/dev/shm")
#: Bytes; with less than this free at the start, people should know.
_LITTLE = 128 << 20
_NAME = "listener-py-"
#: Bytes of a path.
_LONGEST = 4096
#: Ends the name of a worker's region (shm.py).
CLIENT = "_client"


class Claim:
    """Context manager around names in shared memory that are removed with their owner, however that ends.

    Args:
        shm: the folder of shared memory.

    Attributes:
        prefix: every name in `shm` that begins so goes when the block ends, or when the owner is found dead.
        lock: file descriptor; the claim lasts while any process has it open. None where there is no shared memory.
    """

    def __init__(self, shm: Path = SHM) -> None:
        self._shm = shm
        self.prefix = f"{_NAME}{secrets.token_hex(4)}"
        self.lock: int | None = None
        self._beside = b""  # a folder that goes as well

    def __enter__(self) -> Self:
        if self._shm.is_dir():
            sweep(self._shm)
            # locked under another name first: a sweep in between would find the lock free and unlink it
            unlocked = self._shm / f".{self.prefix}"
            self.lock = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(
                OSError
            ):  # no room: then whoever sweeps finds it in the same temporary folder alone
                os.write(self.lock, self._beside)
            unlocked.rename(self._shm / f"{self.prefix}.lock")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        _remove(self._shm, self.prefix)


class Regions(Claim):
    """Context manager around one start of Triton, which must inherit `lock`.

    Attributes:
        prefix: for `--backend-config=python,shm-region-prefix-name=`.
        folder: an empty folder, for us alone.

    Raises:
        ConfigError: there is no temporary folder; when the block begins, also where that cannot be written.
    """

    def __init__(self, shm: Path = SHM) -> None:
        super().__init__(shm)
        self.folder = _folder(self.prefix)
        self._beside = os.fsencode(self.folder)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            self.__exit__(None, None, None)
            raise temporary.unusable(self.folder.parent, error) from None
        return self

    def hide(self) -> None:
        """Takes others' right to read what goes to and from Python stubs. Triton gives it whatever its umask (0644).

        Whoever needs a region has it open by then, which is when Triton is ready.
        """
        for region in self._shm.glob(f"{self.prefix}*"):
            with contextlib.suppress(OSError):  # gone in the meantime
                region.chmod(0o600)


def sweep(shm: Path = SHM) -> None:
    """Removes what every start left that has ended without doing so."""
    for lock in shm.glob(f"{_NAME}{'[0-9a-f]' * 8}.lock"):  # no other name: its regions could be somebody else's
        with contextlib.suppress(OSError):  # somebody else's file, or gone in the meantime
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for region in shm.glob(f"{lock.stem}{CLIENT}"):
                    _empty(region)
                _remove_beside(descriptor, lock.stem)
                _remove(shm, lock.stem)
            finally:
                os.close(descriptor)


def _empty(region: Path) -> None:
    """Gives a dead worker's pages back: Triton, which lives on, has them mapped, and an unlinked file keeps them.

    A hole reads as zeros; a truncated file would kill Triton (SIGBUS) if it still read there for a request that nobody
    waits for.
    """
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),  # not ours, empty, or not Linux
        region.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as mapped,
    ):
        mapped.madvise(mmap.MADV_REMOVE)


def _remove_beside(lock: int, prefix: str) -> None:
    """Removes the folder that a lock names, where the lock is this user's own; anybody may put files into /dev/shm."""
    folder = Path(os.fsdecode(os.pread(lock, _LONGEST, 0)))
    if folder.name == prefix and os.fstat(lock).st_uid == os.getuid():
        shutil.rmtree(folder, ignore_errors=True)


def _remove(shm: Path, prefix: str) -> None:
    """The lock goes last, so that an interrupted sweep is taken up again."""
    with contextlib.suppress(ConfigError):  # where there is no temporary folder, nothing was made in it
        shutil.rmtree(_folder(prefix), ignore_errors=True)
    for region in sorted(shm.glob(f"{prefix}*"), key=lambda path: path.suffix == ".lock"):
        region.unlink(missing_ok=True)


def _folder(prefix: str) -> Path:
    return temporary.folder() / prefix


def free(shm: Path = SHM) -> int | None:
    """Bytes of shared memory that can be taken; None without the folder."""
    try:
        file = os.open(shm, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        return can_be_had(file)
    finally:
        os.close(file)


def shortage(shm: Path = SHM) -> str | None:
    """What to say where less than 128 MiB are free, as in a container that was not told otherwise; else None."""
    available = free(shm)
    if available is None or available >= _LITTLE:
        return None
    return (
        f"{shm} has {available >> 20} MiB free: what does not fit goes to Triton as bytes, and Triton's Python models "
        "may run out of it; give the container more (docker run --shm-size=1g, sharedMemorySizeMb on Vertex AI)"
    )


def can_be_had(file: int) -> int:
    """Bytes free in the file system of an open file."""
    found = os.fstatvfs(file)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize  # no blocks: a tmpfs without limit
