"""Who takes part: commands as a person would type them, run one after the other on a quiet machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fetching.places import Place
from benchmarks.processes import ROOT, environment, looked_at, tree
from listener.artifacts import checksum
from listener.artifacts.delivery import _QUIET

_BLOCK = 1 << 20
#: Seconds between two looks at the memory.
_PAUSE = 0.02

#: Makes the command line that fetches a place into a folder.
Command = Callable[[Place, Path], Sequence[str]]


class Failed(Exception):
    """A fetch ended badly, or its files are not right."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one fetch took.

    Attributes:
        seconds: from the start of the command to its end.
        cpu: seconds, of the command and what it started.
        peak_mb: resident memory of the largest of its processes, at most, in MB.
    """

    seconds: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Fetcher:
    """One that takes part.

    Attributes:
        name: for the table.
        command: see above.
        below: the folder that the files come into, below the one that is named.
    """

    name: str
    command: Command
    below: Callable[[Place], str] = lambda place: ""


def listener() -> Fetcher:
    """`listener fetch`, as it is."""
    return Fetcher("listener", lambda place, folder: _python("listener", "fetch", place.uri, str(folder)))


def listener_in_parts(mib: int) -> Fetcher:
    """The same with parts of that size, whatever the sizes of the objects; 0: whole objects."""
    name = f"listener, parts of {mib} MiB" if mib else "listener, whole objects"
    return Fetcher(name, lambda place, folder: _python("benchmarks.fetching.parts", place.uri, str(folder), str(mib)))


def manager(how: str, workers: int, mib: int = 0) -> Fetcher:
    """Google's transfer manager with one of its settings (manager.py)."""
    said = f"parts of {mib} MiB, {workers} processes" if mib else f"whole objects, {workers} {how}"
    settings = [how, str(workers), *([str(mib)] if mib else [])]
    return Fetcher(
        f"transfer_manager, {said}",
        lambda place, folder: _python("benchmarks.fetching.manager", place.uri, str(folder), *settings),
        lambda place: place.uri.split("/", 3)[3],
    )


def curl(parallel: int) -> Fetcher:
    """One curl for all objects, whose names it is given. It has nothing to list, check or make durable."""
    return Fetcher(f"curl, {parallel} at a time", lambda place, folder: _curl(place, folder, parallel))


def is_manager(fetcher: Fetcher) -> bool:
    """Whether it is one of the transfer manager's settings."""
    return fetcher.name.startswith("transfer_manager")


def run(fetcher: Fetcher, place: Place, folder: Path) -> Taken:
    """One fetch into a folder that is not there, whose files are held against the originals, and removed again.

    Raises:
        Failed: it went wrong, or the files are not right.
    """
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.parent.mkdir(parents=True)
    command = fetcher.command(place, folder)
    os.sync()  # what others left to be written is not to be this one's burden
    log = folder.parent / "log"
    try:
        taken = _taken(command, place, log)
        _require_right(place, folder / fetcher.below(place))
    except Failed as error:
        raise Failed(f"{fetcher.name}: {error}") from None
    shutil.rmtree(folder.parent)
    return taken


def _taken(command: Sequence[str], place: Place, log: Path) -> Taken:
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment(**_QUIET, NO_PROXY="127.0.0.1", STORAGE_EMULATOR_HOST=place.url),
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
        with looked_at(partial(_highest, process.pid), _PAUSE) as peaks:
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"exit status {process.returncode}: {log.read_text(errors='replace')[-500:]}")
    return Taken(time.monotonic() - begin, used.ru_utime + used.ru_stime, max(peaks) / 1e6)


def _highest(pid: int) -> int:
    """The highest resident memory so far of a process or one of its children, in bytes.

    Not rusage's: there it begins with that of the process which started it.
    """
    return max(map(peak, tree(pid)))


def peak(pid: int) -> int:
    """The most resident memory of a process so far, in bytes; 0 when it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def _require_right(place: Place, folder: Path) -> None:
    for path, (size, crc) in place.files.items():
        file = folder / path
        if not file.is_file() or file.stat().st_size != size or checksum_of(file) != crc:
            raise Failed(f"{path} is missing or wrong")


def checksum_of(file: Path) -> int:
    """CRC32C of a file."""
    crc = 0
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            crc = checksum.extend(crc, block)
    return crc


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _curl(place: Place, folder: Path, parallel: int) -> list[str]:
    config = folder.parent / "curl.config"
    targets = zip(place.objects, place.files, strict=True)
    config.write_text("".join(f'url = "{url}"\noutput = "{folder / path}"\n' for url, path in targets))
    flags = ["--silent", "--show-error", "--fail", "--create-dirs", "--parallel", "--parallel-immediate"]
    return ["curl", *flags, "--parallel-max", str(parallel), "--config", str(config)]
