"""A real listener with a real Triton, and the generator that asks it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import cpu
from benchmarks.overload.figures import Figures
from benchmarks.overload.generator import Plan
from benchmarks.processes import (
    ROOT,
    CellFailed,
    environment,
    free_port,
    last_line,
    looked_at,
    python,
    running,
    wait_until,
)
from listener import probe

_SERVICES = Path(__file__).parents[1] / "services"
_START = 120.0
_LOOK = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True)
class Row:
    """What was measured of one load.

    Attributes:
        figures: the clients' view.
        memory: MB of all workers before, at most, and afterwards.
        worker_cpu: seconds of CPU of all workers, the warm-up included.
        worker_share: the same as a part of one CPU.
        load_average: of the last minute, when it ended.
    """

    figures: Figures
    memory: tuple[float, float, float]
    worker_cpu: float
    worker_share: float
    load_average: float


@dataclass(frozen=True)
class Listener:
    """One that is ready.

    Attributes:
        service: a folder of services/ and a key of QUESTIONS.
        port: on 127.0.0.1.
        pid: of the parent process.
        log: of all its processes.
    """

    service: str
    port: int
    pid: int
    log: Path

    def measure(self, plan: Plan) -> Row:
        """Lets the generator loose on it.

        Raises:
            CellFailed: the generator failed.
        """
        workers = cpu.servers(self.pid)[1:]
        before, used = _memory(workers), cpu.seconds(workers)
        with looked_at(partial(_memory, workers), _LOOK) as peak:
            done = subprocess.run(
                python("-m", "benchmarks.overload.generator"),
                input=replace(plan, port=self.port, question=self.service).as_json(),
                capture_output=True,
                text=True,
                env=environment(),
                cwd=ROOT,
                timeout=plan.warm_up + plan.seconds + plan.patience + 60,
            )
        if done.returncode:
            raise CellFailed(f"the generator failed: {done.stderr.strip()[-300:]}")
        said = json.loads(done.stdout)
        del said["generator_was_slow"]
        used = cpu.seconds(workers) - used
        share = used / (plan.warm_up + plan.seconds)
        memory = (before, max(peak), _memory(workers))
        return Row(Figures(**said), memory, used, share, os.getloadavg()[0])


@contextlib.contextmanager
def listener(service: str, settings: Mapping[str, str], work: Path, name: str) -> Iterator[Listener]:
    """`listener up` with these settings; gone afterwards.

    Raises:
        CellFailed: it does not start.
    """
    port, log = free_port(), work / f"{name}.log"
    env = environment(LISTENER_HOST="127.0.0.1", AIP_HTTP_PORT=str(port), LISTENER_LOG_FORMAT="json", **settings)
    with running(python("-m", "listener", "up", "--service", str(_SERVICES / service)), log, env) as child:
        wait_until(lambda: probe.get(f"http://127.0.0.1:{port}/health", 2.0)[0] == 200, child, log, _START)
        yield Listener(service, port, child.pid, log)
        if child.poll() is not None:
            raise CellFailed(f"the listener ended under load: {last_line(log)}")


def _memory(pids: list[int]) -> float:
    return sum(map(cpu.rss_mb, pids))
