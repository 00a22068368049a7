"""Triton as a child process: the right flags, a cleaned environment, its log in ours, nothing left behind.

Why these flags: with the platform's AIP_MODE=PREDICTION in its environment, Triton would turn on its own Vertex
frontend on our port and turn the plain HTTP one off (docs/reference/contract.md, "Triton beside us").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from listener import probe, process, temporary
from listener.errors import ConfigError
from listener.observe import TritonLog
from listener.settings import Settings
from listener.triton import gpu
from listener.triton.installation import Installation
from listener.triton.regions import Regions

log = logging.getLogger("listener.triton")

_LOOPBACK = "127.0.0.1"
#: Seconds in which a Triton that takes its stubs with it has ended as well.
_OWN_END = 0.2
#: Seconds between two looks whether the ports are free.
_LOOK = 0.1


class TritonServer:
    """One model repository served by one tritonserver, which can be started again and again.

    Args:
        installation: the program and what it needs.
        repository: the model repository; None where it is yet to be fetched, and set before the first start.
        settings: for extra arguments and time-outs.
        free_ports: listen on ports that nobody else has, so that several stacks run side by side; else on the port of
            `settings.triton_url` and that of `settings.triton_metrics_url`.
    """

    def __init__(
        self, installation: Installation, repository: Path | None, settings: Settings, *, free_ports: bool
    ) -> None:
        self._installation, self.repository, self._settings = installation, repository, settings
        self._reserved = _reserve() if free_ports else None
        if self._reserved:
            self._port = int(self._reserved.getsockname()[1])
            self._metrics_port = _free_port()
        else:
            self._port = _port_of(settings.triton_url)
            self._metrics_port = _port_of(settings.triton_metrics_url)
        self._start = ExitStack()
        self._telling: asyncio.Task[None] | None = None
        self._regions: Regions | None = None

    @property
    def exit_patience(self) -> float:
        """Seconds from SIGTERM to SIGKILL."""
        return self._settings.triton_patience

    @property
    def url(self) -> str:
        return f"http://{_LOOPBACK}:{self._port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{_LOOPBACK}:{self._metrics_port}"

    async def start(self) -> process.Child:
        """Starts tritonserver; what an earlier start left is removed first.

        Raises:
            ConfigError: the program cannot be started, or what it needs in the temporary folder cannot be written.
        """
        self._start.close()
        environment = child_environment(os.environ, self._installation)
        self._tell(environment)
        self._regions = regions = self._start.enter_context(Regions())
        try:
            arguments = list(self._arguments(regions))
        except OSError as error:
            raise temporary.unusable(regions.folder.parent, error) from None
        try:
            return await process.start(
                "triton",
                [str(self._installation.binary), *arguments],
                environment,
                on_line=TritonLog(gpu.has_driver()).write,
                pass_fds=() if regions.lock is None else (regions.lock,),
            )
        except OSError as error:
            raise ConfigError(f"{self._installation.binary} cannot be started: {error.strerror}") from None

    async def until_free(self) -> None:
        """Waits while a Triton whose parent was killed ends and has the ports yet; no longer than one may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.exit_patience):
                while not (_is_free(self._port) and _is_free(self._metrics_port)):
                    await asyncio.sleep(_LOOK)

    async def guard(self, child: process.Child, is_ready: Callable[[], None] = lambda: None) -> None:
        """Watches over one start: says when it is ready, and kills a Triton that then loses one of its Python stubs.

        Such a Triton would go on, call itself ready, and fail each request that the stub would have got. Models that
        are loaded and unloaded at will take their stubs with them, so then nothing is killed.
        """
        await probe.until_ok(f"{self.url}/v2/health/ready")
        if self._regions:
            self._regions.hide()
        is_ready()
        if not any(argument.startswith("--model-control-mode") for argument in self._settings.triton_args):
            await process.first_end(process.children(child.pid))
            await asyncio.sleep(_OWN_END)
            if child.running:
                log.error("a Python stub of Triton has ended; Triton is restarted")
                child.kill()

    def close(self) -> None:
        """Removes what is left; to be called when the child has ended."""
        if self._telling:
            self._telling.cancel()
        self._start.close()
        if self._reserved:
            self._reserved.close()

    def _tell(self, environment: Mapping[str, str]) -> None:
        """Which GPU there is, or why there is none; once, beside the first start, which does not wait for it."""
        if self._telling is None and self.repository is not None:
            self._telling = asyncio.create_task(gpu.tell(environment, self.repository))

    def _arguments(self, regions: Regions) -> Iterable[str]:
        if self.repository is None:
            raise RuntimeError("Triton is started before its repository is there")
        yield f"--model-repository={_plain(self.repository, regions.folder)}"
        yield "--allow-http=true"
        yield f"--http-address={_LOOPBACK}"
        yield f"--http-port={self._port}"
        if self._reserved:
            yield "--reuse-http-port=true"
        yield "--allow-grpc=false"
        yield "--allow-vertex-ai=false"
        yield f"--metrics-address={_LOOPBACK}"
        yield f"--metrics-port={self._metrics_port}"
        yield f"--exit-timeout-secs={int(self._settings.triton_exit_timeout)}"
        yield f"--backend-config=python,shm-region-prefix-name={regions.prefix}"
        if not gpu.has_driver():
            yield "--allow-gpu-metrics=false"
            yield "--pinned-memory-pool-byte-size=0"
        if backends := _lay_out(self._installation, regions.folder):
            yield f"--backend-directory={backends}"
        yield from self._settings.triton_args


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


def _lay_out(installation: Installation, folder: Path) -> Path | None:
    """Triton takes one backend directory.

    Backends are linked, but for those that need a file of another place beside theirs. These are copied: Triton refuses
    a Python-based backend whose `libtriton_python.so` is a link that leads out of the backend directory.

    Raises:
        ConfigError: there is no room for the copies, or they cannot be run from there.
        OSError: a link cannot be written.
    """
    if not installation.backends:
        return None
    if installation.extra_files and os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise ConfigError(
            f"{folder.parent}: is mounted noexec, and the embedded Triton's backends are run from there; mount it with "
            "exec (docker run --tmpfs /tmp:exec), or name another temporary folder in TMPDIR"
        )
    directory = folder / "backends"
    directory.mkdir()
    for name, source in installation.backends.items():
        if extra := installation.extra_files.get(name):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, directory / name, ignore=ignored, copy_function=_copy)
            for file in extra:
                _copy(str(file), str(directory / name / file.name))
        else:
            (directory / name).symlink_to(source)
    return directory


def _copy(source: str, target: str) -> None:
    """The first file that cannot be written has the say; copytree would go on, and give a list of all of them.

    Raises:
        ConfigError: there is no room for it.
    """
    try:
        shutil.copy2(source, target)
    except OSError as error:
        raise temporary.unusable(temporary.folder(), error) from None


def _plain(repository: Path, folder: Path) -> Path:
    """Triton hands paths to its Python stubs in one string, splits it at blanks and takes it for ASCII.

    So a path with anything else gets a link without.
    """
    if str(repository).isascii() and not any(character.isspace() for character in str(repository)):
        return repository
    link = folder / "models"
    link.symlink_to(repository)
    return link


def _reserve() -> socket.socket:
    """A loopback port that stays ours while Triton is down.

    Bound but not listening, the socket gets no connections, yet nobody else is given the port; Triton shares it through
    SO_REUSEPORT (`--reuse-http-port`).
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((_LOOPBACK, 0))
    return reserved


def _port_of(url: str) -> int:
    port = urllib.parse.urlsplit(url).port
    assert port is not None  # the settings' check of a URL asks for one
    return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    """A port that was free a moment ago; Triton's metrics endpoint cannot share one."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
