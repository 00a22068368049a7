"""Containers of the images that `tools/image_test.sh` has built: runc runs them, as docker-compose.yml has it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.contract.container import Processes
from tests.contract.target import Target
from tests.integration.stack import command_line, descendants, topmost, wait_for

#: Bytes that engines give /dev/shm unless told otherwise; so does Vertex.
USUAL_SHM = 64 << 20
PORT = 8080
#: Seconds from SIGTERM to the end of everything.
STOP_PATIENCE = 30.0
#: All that Vertex sets which is more than a name or a number: where to listen, on what, and what to serve.
VERTEX = {
    "AIP_HTTP_PORT": str(PORT),
    "AIP_HEALTH_ROUTE": "/v1/endpoints/71/deployedModels/42",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/71/deployedModels/42:predict",
    "AIP_STORAGE_URI": "gs://artefacts/models",
    "AIP_MODE": "PREDICTION",
}


@dataclass(frozen=True)
class Image:
    """A built image.

    Args:
        name: of its folder below `build/image-test/images`.
        folder: what was unpacked there.
    """

    name: str
    folder: Path

    @cached_property
    def rootfs(self) -> Path:
        return Path((self.folder / "rootfs").read_text().strip())

    @cached_property
    def config(self) -> dict[str, Any]:
        """What an engine reads, with Docker's names: Env, Entrypoint, User ..."""
        config = json.loads((self.folder / "image.json").read_text())["Docker"]["config"]
        assert isinstance(config, dict)
        return config

    @cached_property
    def environ(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    def added_layers(self) -> list[int]:
        """Compressed bytes of each layer that is not of the base."""
        base, ours = (
            json.loads((self.folder / f"{name}.json").read_text())["Docker"]["rootfs"]["diff_ids"]
            for name in ("base", "image")
        )
        assert ours[: len(base)] == base, "it is not made on that base"
        oci = self.folder / "oci"
        (entry,) = json.loads((oci / "index.json").read_text())["manifests"]
        manifest = json.loads((oci / "blobs" / entry["digest"].replace(":", "/")).read_text())
        assert len(manifest["layers"]) == len(ours)
        return [layer["size"] for layer in manifest["layers"][len(base) :]]


class Container:
    """A running container: read-only but for /tmp and /dev/shm, without any capability, in our network.

    Args:
        image: what runs.
        folder: for its bundle, which is made, and its log.
        environ: beside the image's own.
        command: instead of the image's entrypoint.
        mounts: folders of this machine by their place in the container; read-only; everybody may read them from now on.
        user: UID:GID; None = the image's.
        memory: bytes that it may have, in a cgroup; None = no limit.
        shm: bytes of /dev/shm.
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        environ: Mapping[str, str],
        command: Sequence[str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        user: str | None = None,
        memory: int | None = None,
        shm: int = USUAL_SHM,
    ) -> None:
        self.name = f"image-test-{uuid.uuid4().hex[:8]}"
        self._state, self._lines, self._environ = folder / "runc", list[str](), environ
        self.port = int(environ.get("AIP_HTTP_PORT", PORT))
        self._routes = environ.get("AIP_PREDICT_ROUTE", "/predict"), environ.get("AIP_HEALTH_ROUTE", "/health")
        for source in (mounts or {}).values():
            subprocess.run(["chmod", "-R", "a+rX", str(source)], check=True)
        bundle = folder / "bundle"
        bundle.mkdir(parents=True)
        arguments = list(command or image.config["Entrypoint"])
        uid, gid = map(int, (user or image.config["User"]).split(":"))
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "args": arguments,
                "env": [f"{name}={value}" for name, value in {**image.environ, **environ}.items()],
                "cwd": image.config["WorkingDir"],
                "user": {"uid": uid, "gid": gid},
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(image.rootfs), "readonly": True},
            "mounts": _mounts(shm, mounts or {}),
            "linux": {
                "cgroupsPath": f"/{self.name}",
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
                "resources": {"memory": {"limit": memory, "swap": memory}} if memory else {},
            },
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["runc", "--root", str(self._state), "run", "--bundle", str(bundle), self.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line)

    @cached_property
    def inside(self) -> Processes:
        """Its processes, from the first one on; that is its number 1, and has a number out here."""
        state = ["runc", "--root", str(self._state), "state", self.name]
        told = json.loads(subprocess.run(state, capture_output=True, check=True, text=True).stdout)
        return Processes(told["pid"], self._environ)

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, *self._routes)

    def output(self) -> str:
        """What it wrote so far."""
        return "".join(self._lines[:])

    def until(self, status: int, patience: float = 60.0) -> None:
        """Waits until health has a status."""

        def has_it() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output()}"
            return self.target.health() == status

        wait_for(has_it, patience, self.output)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """One more process in it."""
        runc = ["runc", "--root", str(self._state), "exec", self.name, *command]
        return subprocess.run(runc, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def processes(self) -> dict[int, str]:
        """The command line of each process in it, by its process id out here."""
        first = self.inside.pid
        return {pid: line for pid in {first} | descendants(first) if (line := command_line(pid))}

    def pid(self, words: str) -> int:
        """Of the one process whose command line has these words, without those below it that have them as well."""
        return topmost(self.inside.pid, words)

    def stop(self, number: int) -> tuple[int, float]:
        """Sends a signal to its first process; gives the exit status and the seconds until then."""
        begin = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(STOP_PATIENCE + 10)
        took = time.monotonic() - begin
        self._reader.join(10)
        return status, took

    def stats(self) -> dict[str, Any]:
        """What its cgroup has counted, as runc shows it."""
        runc = ["runc", "--root", str(self._state), "events", "--stats", self.name]
        stats = json.loads(subprocess.run(runc, capture_output=True, check=True, text=True).stdout)["data"]
        assert isinstance(stats, dict)
        return stats

    def close(self) -> None:
        """Ends it, however it is."""
        runc = ["runc", "--root", str(self._state), "delete", "--force", self.name]
        subprocess.run(runc, capture_output=True, check=False)
        self.process.wait(10)
        self._reader.join(10)


def _mounts(shm: int, more: Mapping[str, Path]) -> list[dict[str, Any]]:
    """As Docker mounts them with --read-only and --tmpfs /tmp; what is ours in addition, read-only."""
    tmpfs = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*tmpfs, "mode=1777", f"size={shm}"],
        },
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*tmpfs, "mode=1777"]},
        {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro", "nosuid", "nodev"]},
        *(
            {"destination": place, "type": "none", "source": str(source), "options": ["rbind", "ro"]}
            for place, source in more.items()
        ),
    ]


@contextlib.contextmanager
def running(image: Image, folder: Path, environ: Mapping[str, str], **more: Any) -> Iterator[Container]:
    """A container that is gone afterwards, with its bundle; `more` is Container's."""
    container = Container(image, folder, environ, **more)
    try:
        yield container
    finally:
        container.close()
        shutil.rmtree(folder / "runc", ignore_errors=True)


#: Where the kernel shows itself; who may write there is not a matter of mounts.
_KERNELS = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class Rights:
    """What a process may do.

    Attributes:
        uids, gids: real, effective, saved, and of the file system.
        capabilities: bits of all of its sets.
        gains_none: not by running another program either.
        writable: mount points of file systems that can be written, without the kernel's own.
    """

    uids: frozenset[int]
    gids: frozenset[int]
    capabilities: int
    gains_none: bool
    writable: frozenset[str]


def rights_of(pid: int) -> Rights:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    capabilities = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        capabilities |= int(told[name][0], 16)
    # of each line: number, parent, device, root, mount point, options, ...
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    writable = {fields[4] for fields in mounts if "rw" in fields[5].split(",")}
    return Rights(
        frozenset(map(int, told["Uid"])),
        frozenset(map(int, told["Gid"])),
        capabilities,
        told["NoNewPrivs"] == ["1"],
        frozenset(point for point in writable if point == "/dev/shm" or not point.startswith(_KERNELS)),
    )
