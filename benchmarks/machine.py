"""Where and with what it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from listener.errors import ConfigError
from listener.triton import installation
from tools.interpreter import optimised

_PACKAGES = (
    "triton-listener",
    "aiohttp",
    "uvloop",
    "orjson",
    "pysimdjson",
    "numpy",
    "tritonclient",
    "nvidia-pytriton",
    "pillow",
)


def describe(logs: Path) -> dict[str, str]:
    """Facts by name, for the head of the report.

    Args:
        logs: folder with logs of a run; Triton says its version there and nowhere else.
    """
    processor = _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo")
    kilobytes = int(_first(r"^MemTotal:\s+(\d+)", "/proc/meminfo") or 0)
    return {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "memory": f"{kilobytes / 2**20:.0f} GiB",
        "system": platform.platform(),
        "Python": f"{platform.python_version()}, built {'with' if optimised() else 'without'} optimisations",
        "Triton": f"{_server_version(logs)}, {_triton()}",
        "packages": ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name))),
        "wrk": _wrk(),
        "commit": commit(),
    }


def _first(pattern: str, file: str) -> str:
    found = re.search(pattern, Path(file).read_text(), re.MULTILINE) if Path(file).exists() else None
    return found[1] if found else ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _server_version(logs: Path) -> str:
    for log in logs.glob("*.log"):
        if found := re.search(r"\| server_version \| ([\d.]+)", log.read_text(errors="replace")):
            return found[1]
    return "unknown version"


def _triton() -> str:
    try:
        found = installation.find("")
    except ConfigError as error:
        return str(error)
    return f"the one inside nvidia-pytriton {_version('nvidia-pytriton')}" if found.embedded else str(found.binary)


def _wrk() -> str:
    return (_output("wrk", "-v").splitlines() or [""])[0].partition(" [")[0]


def commit() -> str:
    """Of the working tree."""
    return _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty").strip() or "unknown"


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
