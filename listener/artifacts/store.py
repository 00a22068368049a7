"""Folders in which fetched files lie: one for each state of a place, complete from the moment that it has its name.

    ROOT/KEY/DIGEST            published: the whole of what was listed, never changed again
    ROOT/KEY/DIGEST.partial    being fetched
    ROOT/KEY/progress          how far that is
    ROOT/KEY/DIGEST.parts      what of it is there (journal.py)
    ROOT/KEY.fetching          locked by the one process that fetches
    ROOT/KEY.used              locked, shared, by everybody who uses a folder of KEY

KEY stands for the place, DIGEST for what was listed there (bucket.py). ROOT is LISTENER_ARTIFACTS, whose folders stay;
or one in the temporary folder, in which the last user of a KEY removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from listener import temporary
from listener.errors import ConfigError

log = logging.getLogger("listener.artifacts")


class Store:
    """The folders of one place.

    Args:
        artifacts: LISTENER_ARTIFACTS, or '' for a root of our own.
        key: stands for the place.

    Raises:
        ConfigError: there is no temporary folder for a root of our own.
    """

    def __init__(self, artifacts: str, key: str) -> None:
        self.root = Path(artifacts).absolute() if artifacts else _temporary()
        self._keeps, self._folder = bool(artifacts), self.root / key
        self._use: int | None = None

    def published(self, digest: str) -> Path:
        """Where a state lies once it is complete."""
        return self._folder / digest

    def partial(self, digest: str) -> Path:
        """A folder to fetch a state into, with what an interrupted start left of it; what one left of others goes."""
        temporary.private(self._folder)
        for left in [*self._folder.glob("*.partial"), *self._folder.glob("*.parts")]:
            if left.stem != digest:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        folder = self._folder / f"{digest}.partial"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def journal(self, digest: str) -> Path:
        """The file in which `partial` notes what is there."""
        return self._folder / f"{digest}.parts"

    def held(self, digest: str) -> int:
        """Bytes on the disk that an interrupted start left of a state."""
        left = (self._folder / f"{digest}.partial").rglob("*")
        return sum(file.lstat().st_blocks * 512 for file in left if not file.is_dir())

    def tells_case_apart(self, digest: str) -> bool:
        """Whether X and x are two files; asked of the file system, after `partial`."""
        return not (self._folder / f"{digest}.PARTIAL").exists()

    def publish(self, digest: str) -> Path:
        """Gives what was fetched its name: before that nobody sees it, from then on all of it.

        The files are on the disk; here their folders follow, so that it is whole after a loss of power as well.
        """
        partial = self._folder / f"{digest}.partial"
        for folder in [*(path for path in partial.rglob("*") if path.is_dir()), partial]:
            _flush(folder)
        os.rename(partial, self.published(digest))
        self.journal(digest).unlink(missing_ok=True)
        _flush(self._folder)
        return self.published(digest)

    @property
    def progress(self) -> Path:
        """A file in which the one who fetches says how far it is (progress.py)."""
        return self._folder / "progress"

    @property
    def free(self) -> int:
        """Bytes that can be written."""
        return shutil.disk_usage(self.root).free

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Held by one process at a time, which waits for its turn."""
        descriptor = self._lock("fetching", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    def use(self) -> None:
        """Keeps the folders of this place from being removed by others.

        Raises:
            ConfigError: the root cannot be written.
        """
        if self._use is None:
            self._use = self._lock("used", fcntl.LOCK_SH)

    def release(self) -> None:
        """The opposite of `use`."""
        if self._use is not None:
            os.close(self._use)
            self._use = None

    def remove(self) -> None:
        """Removes this place's folders, if the root is a temporary one and nobody else uses them. To be called in use.

        Whoever wants to use them meanwhile waits for the lock, finds that its file has gone, and makes a new one.
        """
        if self._keeps or self._use is None:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._folder, ignore_errors=True)
            for name in ("fetching", "used"):
                self._lock_file(name).unlink(missing_ok=True)
            self.root.rmdir()  # unless other places are in it

    def _lock(self, name: str, kind: int) -> int:
        """Waits for a lock and gives its descriptor."""
        file = self._lock_file(name)
        while True:
            self._make_root()
            try:
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the root was removed in this moment
                continue
            except OSError as error:
                raise self._unusable(error) from None
            self._wait_for(descriptor, kind)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
                    return descriptor
            os.close(descriptor)

    def _wait_for(self, descriptor: int, kind: int) -> None:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is at work on %s; waiting for it", self._folder)
            fcntl.flock(descriptor, kind)

    def _lock_file(self, name: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{name}")

    def _make_root(self) -> None:
        try:
            if self._keeps:
                temporary.private(self.root)
            else:
                self.root.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:  # also where it was there, and the last user of it removed it in this moment
            if not self.root.is_dir() and os.path.lexists(self.root) and not self.root.is_dir():
                raise self._unusable(error) from None
        except OSError as error:
            raise self._unusable(error) from None
        with contextlib.suppress(FileNotFoundError):
            self._require_own(os.lstat(self.root))

    def _require_own(self, found: os.stat_result) -> None:
        """The temporary folder is everybody's, and what lies in ours is run."""
        if not self._keeps and not (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()):
            raise ConfigError(f"{self.root}: belongs to somebody else; name a folder of your own in LISTENER_ARTIFACTS")

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.root}: what is fetched cannot be kept there: {error.strerror}; name another folder in "
            "LISTENER_ARTIFACTS"
        )


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary() -> Path:
    """A root of our own, which is the same for each process of this user."""
    return temporary.folder() / f"listener-{os.getuid()}-artifacts"
