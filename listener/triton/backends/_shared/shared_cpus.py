"""How many CPUs a process may use, and how the instances of a model share them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from shared_config import Config, instance_count


def threads_each(config: Config) -> int:
    """Threads for one instance of a model, of which each is a process: the usable CPUs, divided; at least 1."""
    return max(1, usable_cpus() // instance_count(config))


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity, cut down to the CPU quota of its container; at least 1."""
    quota = cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    allowed = len(os.sched_getaffinity(0))
    return max(1, allowed if quota >= allowed else math.ceil(quota))


def cpu_quota(membership: Path, mount: Path) -> float:
    """The tightest CPU quota on the way from the process's control group up to the root, in CPUs.

    Args:
        membership: `/proc/self/cgroup`; lines of `id:controllers:path`, without controllers for version 2.
        mount: `/sys/fs/cgroup`.

    Returns:
        A number of CPUs above 0; infinity where there is no quota, or none can be read.
    """
    quotas = [math.inf]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / controllers if controllers else mount
        folder = Path(path.lstrip("/"))
        # In a container the path may be the host's, with only the root of it mounted: what is not there has no quota.
        for step in (folder, *folder.parents):
            quotas += [_quota_v2(root / step), _quota_v1(root / step)]
    return min(quotas)


def _quota_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
