"""wrk drives the load; this starts it and reads what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import Body
from benchmarks.processes import CellFailed

SCRIPT = Path(__file__).with_suffix(".lua")
#: wrk counts an answer that takes longer as an error; 1,024 connections may wait for some seconds.
_TIMEOUT = "20s"
#: What wrk counts as errors, in words.
_ERRORS = {
    "status": "answers with a status of 400 or more",
    "connect": "connections that were refused",
    "read": "answers that broke off",
    "write": "requests that could not be sent",
    "timeout": "answers that took too long",
}


class Missing(Exception):
    """wrk is not installed."""


@dataclass(frozen=True)
class Run:
    """One run of wrk: answers, seconds, and milliseconds of the median and the slowest hundredth."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def program() -> str:
    """Where wrk is.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise Missing("wrk, which drives the load, is missing: apt-get install wrk (Debian, Ubuntu)")
    return found


def write_bodies(folder: Path, bodies: list[Body]) -> None:
    """Lays the bodies out as wrk.lua reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(bodies):
        (folder / f"{number}.body").write_bytes(body.data)
        (folder / f"{number}.headers").write_text("".join(f"{k}: {v}\n" for k, v in body.headers.items()))


def run(url: str, folder: Path, bodies: int, connections: int, seconds: float) -> Run:
    """Loads a server.

    One thread is enough: wrk makes far more requests per second than any server here answers, and each further thread
    would take a core from the servers.

    Raises:
        CellFailed: any answer was an error.
    """
    count = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", _TIMEOUT]
    argv = [program(), *count, "-s", str(SCRIPT), url, "--", str(folder), str(bodies)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        raise CellFailed("wrk did not come to an end") from None
    if done.returncode:
        raise CellFailed(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return parse(done.stdout)


def parse(output: str) -> Run:
    """Reads the line that wrk.lua prints.

    Raises:
        CellFailed: it is missing, or it counts errors.
    """
    line = next((line for line in output.splitlines() if line.startswith("summary ")), None)
    if line is None:
        raise CellFailed(f"wrk printed no summary: {output.strip()[-200:]}")
    summary = json.loads(line.removeprefix("summary "))
    errors = [f"{summary[key]} {words}" for key, words in _ERRORS.items() if summary[key]]
    if errors:
        raise CellFailed(f"under load: {', '.join(errors)}")
    return Run(summary["requests"], summary["duration_us"] / 1e6, summary["p50_us"] / 1e3, summary["p99_us"] / 1e3)
