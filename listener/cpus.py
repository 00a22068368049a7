"""How many CPUs this process may use, and how many workers `LISTENER_WORKERS=auto` makes of them.

A container is given a share of its host by a limit on CPU time, which neither `os.cpu_count` nor the affinity mask
shows. The kernel's documents: cgroup-v2.rst ("cpu.max") and scheduler/sched-bwc.rst (`cpu.cfs_quota_us`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

log = logging.getLogger("listener.parent")

#: CPUs for each worker.
_PER_WORKER = 4
#: As LISTENER_WORKERS allows.
_MOST = 256


@dataclass(frozen=True, slots=True)
class Cpus:
    """CPUs that may be used; half a one is possible.

    Attributes:
        number: of them.
        source: what says so, as the end of "8 CPUs of ...".
    """

    number: float
    source: str

    def __str__(self) -> str:
        return f"{self.number:g} CPU{'' if self.number == 1 else 's'} of {self.source}"


def how_many(asked: int | Literal["auto"]) -> int:
    """How many workers there shall be; what `auto` comes to is said in the log, with the reason."""
    if asked != "auto":
        return asked
    found = available()
    count = workers(found.number)
    log.info("%d worker%s: LISTENER_WORKERS=auto, %s", count, "" if count == 1 else "s", found)
    return count


def workers(cpus: float) -> int:
    """One worker for up to 3 CPUs, above that one for every 4 whole ones; at least 1.

    Few, because only requests of the same worker travel to Triton together, and because Triton needs CPUs as well: two
    workers on two CPUs were slower than one below 32 connections.
    """
    return min(max(1, int(cpus // _PER_WORKER)), _MOST)


def available(root: Path = Path("/")) -> Cpus:
    """The lower one of the cgroup's limit and the number of CPUs that this process may run on.

    Args:
        root: the folder that has `proc` and `sys`.
    """
    allowed = _allowed()
    limit = min(_limits(root), default=None)
    return Cpus(limit, "the cgroup") if limit is not None and limit <= allowed.number else allowed


def _allowed() -> Cpus:
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return Cpus(count, "the affinity mask" if sys.platform == "linux" else "the machine")


def _limits(root: Path) -> Iterator[float]:
    """The limit of this process's cgroup and of each one above it that is visible and has one.

    In a container the path in /proc may be the host's, and only the container's own cgroup is mounted, at the root.
    """
    for folder, path in _hierarchies(root):
        parts = PurePosixPath(path.lstrip("/")).parts
        if ".." in parts:  # the process was moved in from outside of this namespace's root
            parts = ()
        for depth in range(len(parts), -1, -1):
            limit = _limit(folder.joinpath(*parts[:depth]))
            if limit is not None:
                yield limit


def _hierarchies(root: Path) -> Iterator[tuple[Path, str]]:
    """The folders of cgroup v2 and of v1's CPU controller, each with the path of this process's cgroup in it."""
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield mounts, path
        elif "cpu" in controllers.split(","):
            yield (mounts / controllers if (mounts / controllers).is_dir() else mounts / "cpu"), path


def _limit(cgroup: Path) -> float | None:
    """The limit that stands in one cgroup's folder; None where there is none."""
    quota, _, period = _text(cgroup / "cpu.max").strip().partition(" ")  # v2; `max` where there is no limit
    if not quota:
        quota, period = _text(cgroup / "cpu.cfs_quota_us"), _text(cgroup / "cpu.cfs_period_us")  # v1; -1 likewise
    try:
        microseconds, of = int(quota), int(period)
    except ValueError:
        return None
    return microseconds / of if microseconds > 0 and of > 0 else None


def _text(file: Path) -> str:
    """Of a file that may not be there."""
    with contextlib.suppress(OSError):
        return file.read_text()
    return ""
