"""What the listener costs when nobody asks, how much memory a worker takes, and how long the first answer takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import cpu, goals
from benchmarks.processes import environment, free_port, python, running, wait_until
from benchmarks.results import Results
from benchmarks.servers import HERE, Server
from listener import probe

_IDLE_SECONDS = 10.0
_SETTLE_SECONDS = 2.0
_IMPORT = "import time; begin = time.perf_counter(); import listener; print(time.perf_counter() - begin)"


def start_up(results: Results, times: int, work: Path, say: Callable[[str], None]) -> None:
    """Time of `import listener`, and from the command to the first answer of the health route, 503 included."""
    for _ in range(times):
        done = subprocess.run(python("-c", _IMPORT), env=environment(), capture_output=True, text=True, check=True)
        _note(results, goals.IMPORT, float(done.stdout), " s", say)
        _note(results, goals.FIRST_HEALTH, _first_health(work / "start.log"), " s", say)


def _first_health(log: Path) -> float:
    port = free_port()
    env = environment(LISTENER_HOST="127.0.0.1", AIP_HTTP_PORT=str(port))
    begin = time.monotonic()
    argv = python("-m", "listener", "up", "--service", str(HERE / "services" / "affine"))
    with running(argv, log, env) as child:
        wait_until(lambda: probe.get(f"http://127.0.0.1:{port}/health", 5.0)[0] != 0, child, log, 60.0)
        return time.monotonic() - begin


def idle(results: Results, server: Server, say: Callable[[str], None]) -> None:
    """CPU of parent and workers while nobody asks, in percent of a core."""
    time.sleep(_SETTLE_SECONDS)
    before = server.cpu()
    time.sleep(_IDLE_SECONDS)
    _note(results, goals.IDLE_CPU, server.cpu().since(before).server * 100 / _IDLE_SECONDS, " %", say)


def memory(results: Results, server: Server, say: Callable[[str], None]) -> None:
    """The largest process of the listener, which is a worker."""
    largest = max((cpu.rss_mb(pid) for pid in cpu.servers(server.pid or 0)), default=0.0)
    _note(results, goals.WORKER_RSS, largest, " MB", say)


def _note(results: Results, name: str, figure: float, unit: str, say: Callable[[str], None]) -> None:
    results.figures.setdefault(name, []).append(figure)
    say(f"listener: {name} {figure:.3g}{unit}")
