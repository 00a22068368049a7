"""How each server is started, where it is asked, and in which form."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import answers, cpu, foreign, wrk
from benchmarks.loads import Body, Form, Load
from benchmarks.processes import environment, free_port, python, running, wait_until
from benchmarks.triton import HEALTH, PREDICT
from listener import probe

HERE = Path(__file__).parent
ANCHOR = "triton"
PER_CORE = "triton-per-core"
LISTENER = "listener"
EVERY = (ANCHOR, LISTENER, *foreign.NAMES)

_VARIANT = re.compile(r"listener-(\d+)-workers")
#: A first start compiles and imports much; two cores may start five servers at a time.
_START = 120.0


@dataclass
class Server:
    """One that runs and has answered every body of its load rightly.

    Attributes:
        name: as in the tables.
        url: where predictions are asked.
        load: what it is asked.
        bodies: the load in the form that it takes.
        folder: the same, as wrk.lua reads them.
        pid: of the server; None for Triton alone.
        tritons: process ids of what started its Triton, where the server did not.
    """

    name: str
    url: str
    load: Load
    bodies: list[Body]
    folder: Path
    pid: int | None
    tritons: list[int]

    def check(self) -> None:
        """Asks every body once.

        Raises:
            CellFailed: an answer is wrong.
        """
        answers.check(self.url, self.load, self.bodies)

    def drive(self, connections: int, seconds: float) -> wrk.Run:
        """Lets wrk loose on it.

        Raises:
            CellFailed: any answer was an error.
        """
        return wrk.run(self.url, self.folder, len(self.bodies), connections, seconds)

    def ask_to_stop(self) -> None:
        """Does not wait: several that end side by side take the time of one."""
        for pid in filter(None, [self.pid, *self.tritons]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def cpu(self) -> cpu.Cpu:
        return cpu.measure(self.pid, self.tritons)


def exists(name: str) -> bool:
    """Whether there is such a server."""
    return name in (*EVERY, PER_CORE) or bool(_VARIANT.fullmatch(name))


@contextlib.contextmanager
def start(name: str, load: Load, work: Path) -> Iterator[Server]:
    """A server for one load; gone afterwards.

    Args:
        name: one of EVERY, PER_CORE or `listener-N-workers`.
        load: what it will be asked.
        work: folder for bodies, models and logs.

    Raises:
        CellFailed: it does not start, or an answer is wrong.
        foreign.LeftOut: it cannot be installed.
    """
    if name in (ANCHOR, PER_CORE):
        made = _direct(name, load, work)
    elif name == LISTENER or _VARIANT.fullmatch(name):
        made = _listener(name, load, work)
    else:
        made = _before_triton(name, load, work)
    with made as server:
        wrk.write_bodies(server.folder, server.bodies)
        server.check()
        yield server


@contextlib.contextmanager
def _direct(name: str, load: Load, work: Path) -> Iterator[Server]:
    """Triton's own Vertex frontend, with nothing in between."""
    count = (os.cpu_count() or 1) if name == PER_CORE else 1
    form: Form = "vertex-binary" if load.name == "W3" else "oip"
    port = free_port()
    with _triton(name, load.direct_model, load, work, port, "--vertex", load.direct_model, count=count) as pid:
        url = f"http://127.0.0.1:{port}{PREDICT}"
        yield Server(name, url, load, load.bodies(form), _folder(name, load, work), None, [pid])


@contextlib.contextmanager
def _listener(name: str, load: Load, work: Path) -> Iterator[Server]:
    """`listener up` with its defaults."""
    port, log = free_port(), _log(name, load, work)
    env = environment(LISTENER_HOST="127.0.0.1", AIP_HTTP_PORT=str(port))
    if variant := _VARIANT.fullmatch(name):
        env["LISTENER_WORKERS"] = variant[1]
    argv = python("-m", "listener", "up", "--service", str(HERE / "services" / load.service))
    with running(argv, log, env) as child:
        wait_until(lambda: _healthy(f"http://127.0.0.1:{port}/health"), child, log, _START)
        bodies = load.bodies("raw" if load.name == "W3" else "instances")
        yield Server(name, f"http://127.0.0.1:{port}/predict", load, bodies, _folder(name, load, work), child.pid, [])


@contextlib.contextmanager
def _before_triton(name: str, load: Load, work: Path) -> Iterator[Server]:
    """A server of others, or the obvious one, in front of a Triton that serves plain HTTP."""
    port, behind, log = free_port(), free_port(), _log(name, load, work)
    program, how = foreign.find(name, load.name)
    url = f"http://127.0.0.1:{port}{how.path}"
    bodies = load.bodies(how.form, how.headers)
    argv = [*program, "--load", load.name, "--port", str(port), "--triton", f"127.0.0.1:{behind}"]
    with (
        _triton(name, load.model, load, work, behind) as triton,
        running(argv, log, environment()) as child,
    ):
        wait_until(lambda: answers.post(url, bodies[0])[0] not in (0, 502, 503), child, log, _START)
        yield Server(name, url, load, bodies, _folder(name, load, work), child.pid, [triton])


@contextlib.contextmanager
def _triton(name: str, model: str, load: Load, work: Path, port: int, *more: str, count: int = 1) -> Iterator[int]:
    """A Triton with one model; gives the process id of the program that started it."""
    log = _log(f"{name}.triton", load, work)
    repository = lay_out(model, count, _folder(name, load, work) / "models")
    argv = python("-m", "benchmarks.triton", "--repository", str(repository), "--port", str(port), *more)
    path = HEALTH if more else "/v2/health/ready"
    with running(argv, log, environment()) as child:
        wait_until(lambda: _healthy(f"http://127.0.0.1:{port}{path}"), child, log, _START)
        yield child.pid


def lay_out(model: str, count: int, folder: Path) -> Path:
    """A model repository with one model and so many instances of it."""
    shutil.copytree(HERE / "repository" / model, folder / model, ignore=shutil.ignore_patterns("__pycache__"))
    config = folder / model / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", f"count: {count}"))
    return folder


def _healthy(url: str) -> bool:
    return probe.get(url, 2.0)[0] == 200


def _folder(name: str, load: Load, work: Path) -> Path:
    folder = work / f"{load.name}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _log(name: str, load: Load, work: Path) -> Path:
    return work / f"{load.name}-{name}.log"
