"""Triton as a child process: the right flags, a cleaned environment, its log in ours, nothing left behind.

Why these flags: with the platform's AIP_MODE=PREDICTION in its environment, Triton would turn on its own Vertex
frontend on our port and turn the plain HTTP one off (docs/reference/contract.md, "Triton beside us").
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from listener import process
from listener.observe import TritonLog
from listener.settings import Settings
from listener.triton.installation import Installation
from listener.triton.regions import Regions

_LOOPBACK = "127.0.0.1"
_DEFAULT_METRICS_PORT = 8002


class TritonServer:
    """One model repository served by one tritonserver, which can be started again and again.

    Args:
        installation: the program and what it needs.
        repository: the model repository.
        settings: for extra arguments and time-outs.
        free_ports: listen on ports that nobody else has, so that several stacks run side by side; else on the port of
            `settings.triton_url` and the usual metrics port.
    """

    def __init__(self, installation: Installation, repository: Path, settings: Settings, *, free_ports: bool) -> None:
        self._installation, self._repository, self._settings = installation, repository, settings
        self._resources = ExitStack()
        self._reserved: socket.socket | None = None
        if free_ports:
            self._reserved = self._resources.enter_context(_reserve())
            self._port = int(self._reserved.getsockname()[1])
        else:
            self._port = urllib.parse.urlsplit(settings.triton_url).port or 8000
        self._backends = _lay_out(installation, self._resources)
        self._regions: ExitStack | None = None

    @property
    def exit_patience(self) -> float:
        """Seconds from SIGTERM to SIGKILL: Triton's own exit timeout, and 3 s for its Python stubs."""
        return self._settings.triton_exit_timeout + 3.0

    @property
    def url(self) -> str:
        return f"http://{_LOOPBACK}:{self._port}"

    async def start(self) -> process.Child:
        """Starts tritonserver; regions of an earlier start are unlinked first.

        Raises:
            OSError: the program cannot be started.
        """
        self._forget_regions()
        self._regions = ExitStack()
        regions = self._regions.enter_context(Regions())
        return await process.start(
            "triton",
            [str(self._installation.binary), *self._arguments(regions.prefix)],
            child_environment(os.environ, self._installation),
            on_line=TritonLog(has_gpu()).write,
            pass_fds=() if regions.lock is None else (regions.lock,),
        )

    def close(self) -> None:
        """Unlinks what is left; to be called when the child has ended."""
        self._forget_regions()
        self._resources.close()

    def _forget_regions(self) -> None:
        if self._regions:
            self._regions.close()
            self._regions = None

    def _arguments(self, prefix: str) -> Iterable[str]:
        yield f"--model-repository={self._repository}"
        yield "--allow-http=true"
        yield f"--http-address={_LOOPBACK}"
        yield f"--http-port={self._port}"
        if self._reserved:
            yield "--reuse-http-port=true"
        yield "--allow-grpc=false"
        yield "--allow-vertex-ai=false"
        yield f"--metrics-address={_LOOPBACK}"
        yield f"--metrics-port={_free_port() if self._reserved else _DEFAULT_METRICS_PORT}"
        yield f"--exit-timeout-secs={int(self._settings.triton_exit_timeout)}"
        yield f"--backend-config=python,shm-region-prefix-name={prefix}"
        if not has_gpu():
            yield "--allow-gpu-metrics=false"
            yield "--pinned-memory-pool-byte-size=0"
        if self._backends:
            yield f"--backend-directory={self._backends}"
        yield from self._settings.triton_args


def has_gpu() -> bool:
    """Whether an NVIDIA driver is there; without one Triton need not look for it, and should not complain."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def child_environment(environ: Mapping[str, str], installation: Installation) -> dict[str, str]:
    """The environment for Triton: ours without AIP_*, with the folders that the installation needs in front.

    ONNX Runtime's wheels report to their maker since 1.29 unless told not to (its Privacy.md); a model server does
    not do that unasked. ORT_DISABLE_TELEMETRY=0 allows it.
    """
    env = {name: value for name, value in environ.items() if not name.startswith("AIP_")}
    env.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if not installation.embedded and sys.prefix != sys.base_prefix:
        # Triton's Python models belong to the Python of its image, not to the listener's virtual environment
        env["PATH"] = ":".join(entry for entry in env.get("PATH", "").split(":") if entry != f"{sys.prefix}/bin")
        env.pop("VIRTUAL_ENV", None)
    for name, folders in (("LD_LIBRARY_PATH", installation.library_path), ("PATH", installation.path)):
        entries = [*map(str, folders), *filter(None, [env.get(name)])]
        if entries:
            env[name] = ":".join(entries)
    return env


def _lay_out(installation: Installation, resources: ExitStack) -> Path | None:
    """Triton takes one backend directory: a folder that is gone with us.

    Folders are linked, but for those that need a file of another place beside theirs. These are copied: Triton refuses
    a Python-based backend whose `libtriton_python.so` is a link that leads out of the backend directory.
    """
    if not installation.backends:
        return None
    directory = Path(tempfile.mkdtemp(prefix="listener-backends-"))
    resources.callback(shutil.rmtree, directory, ignore_errors=True)
    for name, source in installation.backends.items():
        if extra := installation.extra_files.get(name):
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
            for file in extra:
                shutil.copy2(file, directory / name)
        else:
            (directory / name).symlink_to(source)
    return directory


def _reserve() -> socket.socket:
    """A loopback port that stays ours while Triton is down.

    Bound but not listening, the socket gets no connections, yet nobody else is given the port; Triton shares it through
    SO_REUSEPORT (`--reuse-http-port`).
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((_LOOPBACK, 0))
    return reserved


def _free_port() -> int:
    """A port that was free a moment ago; Triton's metrics endpoint cannot share one. A clash costs one restart."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
