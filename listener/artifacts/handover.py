"""How the processes in front of a Triton learn where its repository lies, once that has been fetched.

Whoever runs the Triton at a URL writes the folder's path into a file in the temporary folder, named after the user and
Triton's port, which nobody else on this machine can have at that time. The file is locked by its writer for as long as
that lives: a file that a killed process left is not locked, so nobody takes an old repository for the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import urllib.parse
from pathlib import Path

from listener import temporary


class Handover:
    """The writer's side.

    Args:
        triton_url: of the Triton that will serve the repository.

    Raises:
        ConfigError: there is no temporary folder.
    """

    def __init__(self, triton_url: str) -> None:
        self._file = _file(triton_url)
        self._descriptor: int | None = None

    def announce(self, folder: Path) -> None:
        """Tells everybody who looks; the file appears at once as a whole. Files that killed processes left go.

        Raises:
            ConfigError: it cannot be written.
        """
        self.close()
        _sweep(self._file.parent)
        try:
            self._descriptor = self._written(os.fsencode(folder))
        except OSError as error:
            raise temporary.unusable(self._file.parent, error) from None

    def _written(self, text: bytes) -> int:
        descriptor, name = tempfile.mkstemp(prefix=f"{self._file.name}.", dir=self._file.parent)
        try:
            os.write(descriptor, text)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(name, self._file)
        except OSError:
            os.close(descriptor)
            os.unlink(name)
            raise
        return descriptor

    def close(self) -> None:
        """Takes the word back."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._descriptor), self._file.stat()):  # not that of a successor
                    self._file.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def look(triton_url: str) -> Path | None:
    """The folder with the repository of the Triton at a URL; None: nobody who lives has said so yet.

    Raises:
        ConfigError: there is no temporary folder, so that nobody can ever say so.
    """
    try:
        descriptor = os.open(_file(triton_url), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_uid != os.getuid():  # /tmp is everybody's
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Path(os.fsdecode(file.read()))
    return None


def _sweep(folder: Path) -> None:
    for file in folder.glob(f"listener-{os.getuid()}-*.repository"):
        with contextlib.suppress(OSError):  # somebody lives who has it, or it has gone
            descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()
            finally:
                os.close(descriptor)


def _file(triton_url: str) -> Path:
    port = urllib.parse.urlsplit(triton_url).port
    return temporary.folder() / f"listener-{os.getuid()}-{port}.repository"
