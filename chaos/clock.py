"""A wall clock of a stack's own that can jump, by libfaketime. CLOCK_MONOTONIC goes on, as it does."""

from __future__ import annotations

import os
from pathlib import Path

#: Of the Debian package `faketime`; the one for programs with threads.
_FOUND = ("/usr/lib/*/faketime", "libfaketimeMT.so.1")


class Clock:
    """The clock of all processes that are started with its variables.

    Args:
        file: which says how far it is from the true one.

    Raises:
        LookupError: libfaketime is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        folder, name = _FOUND
        libraries = sorted(Path("/").glob(f"{folder}/{name}".lstrip("/")))
        if not libraries:
            raise LookupError("libfaketime is missing: apt-get install faketime")
        self.env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, waits of pthreads come late without any jump
            "NO_FAKE_STAT": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """So far from the true time, within a second."""
        fresh = self._file.with_suffix(".new")  # nobody reads half of it
        fresh.write_text(f"{seconds:+d}\n")
        os.replace(fresh, self._file)
