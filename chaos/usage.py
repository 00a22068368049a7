"""What a stack takes of the machine: memory, descriptors, threads, shared memory and temporary files, now."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

from tests.integration.stack import command_line, descendants

#: Words of the command lines of a stack's processes; what has none of them is the parent's.
KINDS = {
    "listener.worker": "workers",
    "sys.path[:]": "pool processes",
    "triton_python_backend_stub": "stubs",
    "tritonserver": "Triton",
}
PARENT = "parent"
_MiB = 1 << 20


def usage(pid: int, temporary: Path) -> dict[str, float]:
    """Each quantity by name, of all processes of a stack.

    Args:
        pid: of its parent, which has mounts of its own: all of its `/dev/shm` counts.
        temporary: its folder for temporary files.
    """
    found = Counter[str]()
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):  # it has just ended
            kind = next((kind for words, kind in KINDS.items() if words in command_line(each)), PARENT)
            found.update({f"{kind}: {name}": value for name, value in of_process(each).items()})
    found.update(_of_folder("/dev/shm", Path(f"/proc/{pid}/root/dev/shm")))
    found.update(_of_folder("temporary files", temporary))
    return {name: round(value, 3) for name, value in found.items()}


def of_process(pid: int) -> dict[str, float]:
    """Memory in MiB (resident; with a share of what is shared; alone), descriptors and threads of one process.

    Raises:
        OSError: it has ended.
    """
    memory = Counter[str]()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kilobytes = line.split()[:2]
        memory[name.rstrip(":")] = int(kilobytes)
    alone = memory["Private_Clean"] + memory["Private_Dirty"]
    return {
        "processes": 1,
        "RSS, MiB": memory["Rss"] / 1024,
        "PSS, MiB": memory["Pss"] / 1024,
        "USS, MiB": alone / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def _of_folder(name: str, folder: Path) -> dict[str, float]:
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone in the meantime
            sizes.append(path.lstat().st_blocks * 512)  # what it takes, not how long it is
    return {f"{name}: files": len(sizes), f"{name}: MiB": sum(sizes) / _MiB}
