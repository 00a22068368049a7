"""Servers by others that stand in front of Triton, and the obvious one: where they are and how they are asked.

A folder of `peers/` with `serve.py` and `requirements.txt` is one server. It gets a virtual environment of its own,
which is kept until its requirements change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.loads import Form
from benchmarks.processes import environment

HERE = Path(__file__).parent
OBVIOUS = "obvious"
NAMES = (OBVIOUS, "cpr", "kserve")
_INSTALLATION = 900.0


class LeftOut(Exception):
    """A server that cannot take part; the text is one sentence."""


@dataclass(frozen=True)
class Asked:
    """How a server is asked."""

    path: str = "/predict"
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Form = "instances"


def find(name: str, load: str) -> tuple[list[str], Asked]:
    """The command line of a server, and how it is asked.

    Raises:
        LeftOut: it is not there or cannot be installed.
    """
    if name == OBVIOUS:
        return [sys.executable, str(HERE / "obvious.py")], Asked(form="raw" if load == "W3" else "instances")
    folder = HERE / "peers" / name
    program = [str(install(name, folder)), str(folder / "serve.py")]
    done = subprocess.run(
        [*program, "--describe", load], env=environment(), capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise LeftOut(f"{name}: serve.py --describe {load} failed: {_last(done.stderr)}")
    said = json.loads(done.stdout)
    return program, Asked(said.get("path", "/predict"), said.get("headers", {}), said.get("body", "instances"))


def install(name: str, folder: Path) -> Path:
    """The interpreter of a server's own virtual environment, made where it is missing or out of date.

    Raises:
        LeftOut: there is no such folder, or its requirements cannot be installed.
    """
    requirements, home = folder / "requirements.txt", HERE / ".venvs" / name
    if not requirements.is_file():
        raise LeftOut(f"{name}: {requirements} is not there")
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    if stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
        return python
    shutil.rmtree(home, ignore_errors=True)
    try:
        venv.create(home, with_pip=True)
        argv = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
        # what stands on a PYTHONPATH would count as installed
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_INSTALLATION, env=env)
    except subprocess.CalledProcessError as error:
        raise LeftOut(f"{name} cannot be installed: {_last(error.stderr)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LeftOut(f"{name} cannot be installed: {error}") from None
    shutil.copyfile(requirements, stamp)
    return python


def _last(text: str | bytes | None) -> str:
    lines = (text if isinstance(text, str) else (text or b"").decode(errors="replace")).strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
