"""What processes cost, from /proc: CPU time of a server and of its Triton apart, and memory."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import tree
from listener import process

_TICK = os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """CPU seconds since their start, in user and kernel mode."""

    server: float
    triton: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.server - before.server, self.triton - before.triton)


def measure(server: int | None, others: Iterable[int] = ()) -> Cpu:
    """CPU time now.

    Args:
        server: process id; what runs below a tritonserver in its tree is Triton's, the rest the server's.
        others: of processes of which only the tritonserver below them counts.
    """
    ours = seconds(servers(server)) if server is not None else 0.0
    roots = [*([server] if server is not None else []), *others]
    return Cpu(ours, seconds(pid for root in roots for pid in tritons(root)))


def servers(root: int) -> list[int]:
    """The processes of a tree that neither are a tritonserver nor were started by one."""
    if _name(root) == "tritonserver":
        return []
    return [root, *(pid for child in process.children(root) for pid in servers(child))]


def tritons(root: int) -> set[int]:
    """The tritonserver of a tree, and its Python stubs."""
    return set(tree(root)) - set(servers(root))


def seconds(pids: Iterable[int]) -> float:
    """Their CPU time; a process that has ended counts nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += ticks(Path(f"/proc/{pid}/stat").read_text())
    return total / _TICK


def ticks(stat: str) -> int:
    """utime and stime of a line of /proc/PID/stat (proc(5)); the name before them may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 if it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    return 0.0


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
