"""The temporary folder: which one it is. Each process of a user has to come to the same one, as they meet in it."""

from __future__ import annotations

import os
from pathlib import Path

from listener.errors import ConfigError

_USUAL = ("/tmp", "/var/tmp")


def folder() -> Path:
    """That in TMPDIR, else the first of the usual ones that we may write to.

    `tempfile` tries by writing, so where one is full the next process would take another one; and at last it takes the
    current folder.

    Raises:
        ConfigError: we may write to none of them.
    """
    named = os.environ.get("TMPDIR")
    candidates = [*([named] if named else []), *_USUAL]
    for candidate in candidates:
        if os.path.isdir(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate).absolute()
    raise ConfigError(
        f"no temporary folder can be written ({', '.join(candidates)}); mount a tmpfs at /tmp, or name a folder in "
        "TMPDIR"
    )


def private(place: Path) -> None:
    """Makes a folder, and those above it that are missing, for this user alone, whatever the umask.

    What is fetched is run; whoever may write to a folder above it may put something else in its place.

    Raises:
        OSError: it cannot be made, or there is something else.
    """
    missing = [each for each in (place, *place.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not missing:
        place.mkdir(exist_ok=True)  # which says so if it is something else


def unusable(place: Path, error: OSError) -> ConfigError:
    """What to say where something small cannot be written there."""
    return ConfigError(
        f"{place}: cannot be written: {error.strerror}; make room there, or name another temporary folder in TMPDIR"
    )
