"""What `make install` says of a machine that lacks something: each thing hidden in turn."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from listener.triton import installation
from tools import preflight

ROOT = Path(__file__).parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def a_machine_that_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LISTENER_TRITON_BIN", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / f"libpython{HERE}.so.1.0").touch()
    monkeypatch.setattr(installation, "_library_folders", lambda: [tmp_path])
    python(monkeypatch, (3, 12))


def python(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
    fake = SimpleNamespace(version_info=version, platform="linux", path=list(sys.path))
    monkeypatch.setattr(preflight, "sys", fake)


def test_a_machine_with_everything() -> None:
    assert preflight.missing() == []


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ((3, 10), "Python 3.10 is too old"),
        ((3, 13), "the embedded Triton exists for Python 3.11 and 3.12, not 3.13"),
        ((3, 14), "the embedded Triton exists for Python 3.11 and 3.12, not 3.14"),
    ],
)
def test_a_wrong_version(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], reason: str) -> None:
    python(monkeypatch, version)
    (sentence,) = preflight.missing()
    assert sentence.startswith(f"{reason}: apt-get install python3.11 python3.11-venv libpython3.11 ")
    assert sentence.endswith("then make PYTHON=python3.11")


def test_no_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert preflight.missing() == ["Python's venv module is incomplete: apt-get install python3.12-venv"]


def test_no_shared_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_library_folders", list)
    (sentence,) = preflight.missing()
    assert sentence.startswith(
        f"libpython{HERE}.so.1.0 is missing and Triton's Python backend needs it: apt-get install "
    )


def test_the_library_is_not_asked_for_where_another_triton_will_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installation, "_library_folders", list)
    (tmp_path / "tritonserver").write_text("#!/bin/sh\n")
    (tmp_path / "tritonserver").chmod(0o755)
    assert preflight.missing() == []


def test_the_library_is_not_asked_for_on_a_machine_without_an_embedded_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_library_folders", list)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert preflight.missing() == []


def test_make_install_stops_with_the_sentence(tmp_path: Path) -> None:
    """The real Makefile with a Python that is too old: one line on stderr before make's own, nothing installed."""
    stand_in = tmp_path / "python3"
    stand_in.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9)\n'
        'import runpy; runpy.run_path(sys.argv[1], run_name=\'__main__\')" "$@"\n'
    )
    stand_in.chmod(0o755)
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(stand_in)}
    done = subprocess.run(["make", "install"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert done.stderr.startswith("make install: Python 3.9 is too old: apt-get install ")
    assert not (tmp_path / ".venv").exists()
