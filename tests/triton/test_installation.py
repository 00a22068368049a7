"""Where a tritonserver is, and a sentence for everything that a machine lacks."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from listener.errors import ConfigError
from listener.triton import installation
from listener.triton.installation import Installation, find

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{VERSION}.so.1.0"
ELSEWHERE = "run it in the container instead: docker compose up cpu (docs/deploy.md)"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def folders(parent: Path, *names: str) -> Path:
    for name in names:
        (parent / name).mkdir(parents=True)
    return parent


@dataclass
class Machine:
    """A made-up machine on which the embedded Triton would run, to take things away from."""

    root: Path
    patch: pytest.MonkeyPatch

    @property
    def path(self) -> str:
        return str(self.root / "bin")

    @property
    def wheel(self) -> Path:
        return self.root / "site" / "pytriton" / "tritonserver"

    @property
    def libpython(self) -> Path:
        return self.root / "lib" / LIBPYTHON

    def set_up(self) -> None:
        folders(self.root, "bin", "site", "lib", "prefix", "ours/onnxruntime", "ours/__pycache__")
        program(self.wheel / "bin" / "tritonserver")
        folders(self.wheel / "backends", "python", "identity")
        (self.wheel.parent / "__init__.py").touch()
        program(self.wheel / "python_backend_stubs" / VERSION / "triton_python_backend_stub")
        self.libpython.touch()
        self.patch.syspath_prepend(self.root / "site")
        self.patch.delitem(sys.modules, "pytriton", raising=False)
        self.patch.delenv("LD_LIBRARY_PATH", raising=False)
        self.patch.setattr(installation, "OUR_BACKENDS", self.root / "ours")
        self.python()
        self.system("Linux", "x86_64")
        self.numpy("1.26.4")
        self.libdir(self.root / "lib")

    def python(self, platform: str = "linux", version: tuple[int, int] = sys.version_info[:2]) -> None:
        info = SimpleNamespace(major=version[0], minor=version[1])
        prefix = str(self.root / "prefix")
        self.patch.setattr(installation, "sys", SimpleNamespace(platform=platform, version_info=info, prefix=prefix))

    def system(self, system: str, machine: str) -> None:
        names = SimpleNamespace(system=lambda: system, machine=lambda: machine)
        self.patch.setattr(installation, "platform", names)

    def numpy(self, version: str) -> None:
        self.patch.setattr(importlib.metadata, "version", {"numpy": version}.__getitem__)

    def libdir(self, folder: Path) -> None:
        values = {"LIBDIR": str(folder), "MULTIARCH": "no-such-arch"}
        self.patch.setattr(installation, "sysconfig", SimpleNamespace(get_config_var=values.get))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    made.set_up()
    return made


def complaint(machine: Machine, configured: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        find(configured, machine.path)
    (sentence,) = caught.value.mistakes
    return sentence


# The embedded one


def test_the_embedded_one_and_what_it_needs(machine: Machine) -> None:
    assert find("", machine.path) == Installation(
        binary=machine.wheel / "bin" / "tritonserver",
        backends={
            "identity": machine.wheel / "backends" / "identity",
            "python": machine.wheel / "backends" / "python",
            "onnxruntime": machine.root / "ours" / "onnxruntime",
        },
        extra_files={"python": (machine.wheel / "python_backend_stubs" / VERSION / "triton_python_backend_stub",)},
        library_path=(machine.root / "site" / "nvidia_pytriton.libs", machine.root / "lib"),
        path=(machine.root / "prefix" / "bin",),
        embedded=True,
    )


def test_a_stub_that_is_in_its_place_is_not_copied(machine: Machine) -> None:
    """As in the image, whose /tmp may be one from which nothing is executed."""
    shutil.rmtree(machine.wheel / "python_backend_stubs")
    (machine.wheel / "backends" / "python" / "triton_python_backend_stub").touch()
    assert find("", machine.path).extra_files == {}


def test_the_wheel_is_found_without_importing_it(machine: Machine) -> None:
    (machine.wheel.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    assert find("", machine.path).embedded
    assert "pytriton" not in sys.modules


@pytest.mark.parametrize("place", ["LIBDIR", "LIBDIR/multiarch", "LD_LIBRARY_PATH"])
def test_the_places_of_libpython(machine: Machine, place: str) -> None:
    machine.libpython.unlink()
    folder = {
        "LIBDIR": machine.root / "lib",
        "LIBDIR/multiarch": machine.root / "lib" / "no-such-arch",
        "LD_LIBRARY_PATH": machine.root / "else",
    }[place]
    folder.mkdir(exist_ok=True)
    (folder / LIBPYTHON).touch()
    if place == "LD_LIBRARY_PATH":
        machine.patch.setenv("LD_LIBRARY_PATH", f":{machine.root}/nowhere:{folder}")
    assert find("", machine.path).library_path[1] == folder


# What a machine can lack


@pytest.mark.parametrize(
    ("platform", "system", "processor"),
    [("darwin", "Darwin", "arm64"), ("darwin", "Darwin", "x86_64"), ("linux", "Linux", "aarch64")],
)
def test_another_platform(machine: Machine, platform: str, system: str, processor: str) -> None:
    machine.python(platform=platform)
    machine.system(system, processor)
    assert complaint(machine) == (
        "no tritonserver found, and the embedded one exists for Linux x86-64 only, "
        f"not for {system} {processor}: {ELSEWHERE}"
    )


@pytest.mark.parametrize("hidden", ["absent", "a module without a folder"])
def test_the_wheel_is_not_installed(machine: Machine, hidden: str) -> None:
    if hidden == "absent":
        machine.patch.setitem(sys.modules, "pytriton", None)
    else:
        first = folders(machine.root, "first") / "first"
        (first / "pytriton.py").touch()
        machine.patch.syspath_prepend(first)
    assert complaint(machine) == (
        "no tritonserver found: put one on PATH, name it in LISTENER_TRITON_BIN, or install the embedded one with "
        f"pip install 'triton-listener[local]' under Python 3.11 or 3.12; or {ELSEWHERE}"
    )


def test_the_wheel_is_broken(machine: Machine) -> None:
    (machine.wheel / "bin" / "tritonserver").unlink()
    assert complaint(machine) == (
        f"{machine.wheel} holds no tritonserver: pip install --force-reinstall nvidia-pytriton==0.7.0"
    )


def test_a_python_that_has_no_stub(machine: Machine) -> None:
    machine.python(version=(3, 99))
    assert complaint(machine) == ("the embedded Triton has no Python stub for Python 3.99: use Python 3.11 or 3.12")


@pytest.mark.parametrize("version", ["2.0.0", "2.3.1", "10.0"])
def test_numpy_2(machine: Machine, version: str) -> None:
    machine.numpy(version)
    assert complaint(machine) == (
        f"the embedded Triton's Python stub cannot read arrays of numpy {version}: pip install 'numpy<2' "
        "(the extra `local` does)"
    )


def test_no_libpython(machine: Machine) -> None:
    machine.libpython.unlink()
    assert complaint(machine) == (
        f"{LIBPYTHON} is missing and Triton's Python backend needs it: apt-get install libpython{VERSION} "
        "(Debian, Ubuntu), or use a Python that was built with --enable-shared"
    )


# One that is installed


def native(root: Path, *backends: str) -> Path:
    """NVIDIA's layout."""
    binary = program(root / "opt" / "tritonserver" / "bin" / "tritonserver")
    folders(root / "opt" / "tritonserver" / "backends", *backends)
    return binary


def test_a_native_one_on_the_path_wins_over_the_embedded_one(machine: Machine) -> None:
    binary = native(machine.root, "python", "onnxruntime")
    assert find("", str(binary.parent)) == Installation(binary)


def test_a_native_one_without_our_backend_gets_it(machine: Machine) -> None:
    binary = native(machine.root, "python", "tensorrt")
    backends = machine.root / "opt" / "tritonserver" / "backends"
    assert find("", str(binary.parent)) == Installation(
        binary,
        {
            "python": backends / "python",
            "tensorrt": backends / "tensorrt",
            "onnxruntime": machine.root / "ours" / "onnxruntime",
        },
    )


def test_a_native_one_with_backends_elsewhere_is_left_as_it_is(machine: Machine) -> None:
    binary = program(machine.root / "usr" / "bin" / "tritonserver")
    assert find("", str(binary.parent)) == Installation(binary)


def test_a_link_to_a_native_one_is_followed_to_its_backends(machine: Machine) -> None:
    binary = native(machine.root, "python")
    (machine.root / "bin" / "tritonserver").symlink_to(binary)
    found = find("", machine.path)
    assert found.binary == binary
    assert set(found.backends) == {"python", "onnxruntime"}


@pytest.mark.parametrize("how", ["absolute path", "name on PATH"])
def test_the_configured_one_wins(machine: Machine, how: str) -> None:
    program(machine.root / "bin" / "tritonserver")
    mine = program(machine.root / "bin" / "my-triton")
    assert find(str(mine) if how == "absolute path" else "my-triton", machine.path) == Installation(mine)


def test_a_native_one_needs_nothing_of_the_embedded_one(machine: Machine) -> None:
    binary = native(machine.root, "python")
    machine.python(platform="darwin", version=(3, 99))
    machine.numpy("2.3.1")
    assert not find(str(binary), machine.path).embedded


@pytest.mark.parametrize("configured", ["no-such-triton", "{}/nowhere/tritonserver", "{}/lib/" + LIBPYTHON, "{}/lib"])
def test_the_configured_one_cannot_be_started(machine: Machine, configured: str) -> None:
    configured = configured.format(machine.root)
    assert complaint(machine, configured) == (
        f"LISTENER_TRITON_BIN: {configured!r} is not a program that can be started"
    )
