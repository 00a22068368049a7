"""Where a tritonserver is, and what this machine lacks to run it.

Order: LISTENER_TRITON_BIN, then `tritonserver` on PATH, then the one inside the wheel nvidia-pytriton (extra `local`),
of which nothing but the binary and its Python backend is used. The embedded one needs what NVIDIA's image would bring:
a backend directory, its own libraries, a Python whose shared library can be loaded, and numpy 1.x for the Python stub
(docs/adr/0003-embedded-triton.md).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from listener.errors import ConfigError

#: Python-based backends that come with this package, one folder each.
OUR_BACKENDS = Path(__file__).parent / "backends"

#: In the folder of its backend, or, as the wheel comes, in one for each Python. The image puts it where it belongs, as
#: otherwise it is copied with the backend's library, to a /tmp from which an engine may let nothing be executed.
_STUB = "triton_python_backend_stub"
_ELSEWHERE = "run it in the container instead: docker compose up cpu (docs/deploy.md)"


@dataclass(frozen=True, slots=True)
class Installation:
    """A tritonserver that can be started.

    Attributes:
        binary: the program.
        backends: backend folders by name, to be laid out as one backend directory; empty = the server's own directory.
        extra_files: files to be put into a backend's folder, by backend name.
        library_path: folders for LD_LIBRARY_PATH.
        path: folders to stand first on PATH.
        embedded: it is the one from the wheel.
    """

    binary: Path
    backends: Mapping[str, Path] = field(default_factory=dict)
    extra_files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    library_path: tuple[Path, ...] = ()
    path: tuple[Path, ...] = ()
    embedded: bool = False


def find(configured: str, search_path: str | None = None) -> Installation:
    """Finds a tritonserver.

    Args:
        configured: LISTENER_TRITON_BIN, or ''.
        search_path: PATH; None takes the process's.

    Raises:
        ConfigError: there is none, or it lacks something; the sentence says what to do.
    """
    if configured:
        binary = shutil.which(configured, path=search_path)
        if binary is None:
            raise ConfigError(f"LISTENER_TRITON_BIN: {configured!r} is not a program that can be started")
        return _installed(Path(binary).resolve())
    found = shutil.which("tritonserver", path=search_path)
    return _installed(Path(found).resolve()) if found else _embedded()


def _installed(binary: Path) -> Installation:
    """NVIDIA's layout: /opt/tritonserver/bin/tritonserver beside /opt/tritonserver/backends."""
    native = _folders(binary.parent.parent / "backends")
    missing = {name: path for name, path in _folders(OUR_BACKENDS).items() if name not in native}
    return Installation(binary, {**native, **missing} if native and missing else {})


def _embedded() -> Installation:
    wheel = _wheel()
    _require_numpy_1()
    return Installation(
        binary=wheel / "bin" / "tritonserver",
        backends={**_folders(wheel / "backends"), **_folders(OUR_BACKENDS)},
        extra_files={} if (wheel / "backends" / "python" / _STUB).is_file() else {"python": (_stub(wheel),)},
        library_path=(wheel.parents[1] / "nvidia_pytriton.libs", libpython_folder()),
        path=(Path(sys.prefix) / "bin",),
        embedded=True,
    )


def _wheel() -> Path:
    """The folder pytriton/tritonserver, found without importing the package."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ConfigError(
            f"no tritonserver found, and the embedded one exists for Linux x86-64 only, not for {platform.system()} "
            f"{platform.machine()}: {_ELSEWHERE}"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"no tritonserver found: put one on PATH, name it in LISTENER_TRITON_BIN, or install the embedded one with "
            f"pip install 'triton-listener[local]' under Python 3.11 or 3.12; or {_ELSEWHERE}"
        )
    wheel = Path(spec.submodule_search_locations[0]) / "tritonserver"
    if not (wheel / "bin" / "tritonserver").is_file():
        raise ConfigError(f"{wheel} holds no tritonserver: pip install --force-reinstall nvidia-pytriton==0.7.0")
    return wheel


def _stub(wheel: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        raise ConfigError(f"the embedded Triton has no Python stub for Python {version}: use Python 3.11 or 3.12")
    return stub


def _require_numpy_1() -> None:
    version = importlib.metadata.version("numpy")
    if int(version.partition(".")[0]) > 1:
        raise ConfigError(
            f"the embedded Triton's Python stub cannot read arrays of numpy {version}: pip install 'numpy<2' "
            "(the extra `local` does)"
        )


def libpython_folder() -> Path:
    """The folder of libpython3.x.so, against which the Python stub is linked.

    Raises:
        ConfigError: it is missing; the sentence names the package.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for folder in _library_folders():
        if (folder / name).exists():
            return folder
    package = name.partition(".so")[0]
    raise ConfigError(
        f"{name} is missing and Triton's Python backend needs it: apt-get install {package} (Debian, Ubuntu), "
        "or use a Python that was built with --enable-shared"
    )


def _library_folders() -> Iterable[Path]:
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    configured = sysconfig.get_config_var("LIBDIR")
    if configured:
        yield from (Path(configured), Path(configured) / multiarch)
    yield Path("/usr/lib") / multiarch
    yield from (Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry)


def _folders(parent: Path) -> dict[str, Path]:
    if not parent.is_dir():
        return {}
    return {path.name: path for path in sorted(parent.iterdir()) if path.is_dir() and not path.name.startswith("_")}
