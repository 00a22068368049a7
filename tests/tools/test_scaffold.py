"""`listener new`: what it makes is in order, and what it refuses it leaves alone."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from listener.errors import ConfigError
from listener.tools import checks, scaffold

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_files_of_a_service(tmp_path: Path) -> None:
    folder = scaffold.make("iris", tmp_path / "not" / "yet").folder
    assert folder == tmp_path / "not" / "yet" / "iris"
    assert files(folder) == {
        ".gitignore",
        "README.md",
        "handlers/iris.py",
        "listener.yaml",
        "pytest.ini",
        "tests/conftest.py",
        "tests/test_iris.py",
        "triton_repo/iris/1/model.onnx",
        "triton_repo/iris/config.pbtxt",
    }
    assert not [
        path for path in folder.rglob("*") if path.suffix != ".onnx" and path.is_file() and "@name@" in path.read_text()
    ]


# names that are something in YAML, in Python's templates or of what is imported there
@pytest.mark.parametrize(
    "name", ["iris", "no", "null", "handler", "Any", "my_2nd_model", "X", "e1", "handlers", "tests"]
)
def test_it_passes_the_check_and_its_own_tests(tmp_path: Path, name: str) -> None:
    folder = scaffold.make(name, tmp_path).folder
    assert checks.run(folder) == []
    assert "6 passed" in run_tests(folder)


def run_tests(folder: Path) -> str:
    """What pytest says of a service whose tests pass, with no plugin but its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_tests_run_within_a_project_with_other_ideas_of_pytest(tmp_path: Path) -> None:
    """As in a clone of the listener, whose own settings need plugins."""
    (tmp_path / "setup.cfg").write_text(
        "[tool:pytest]\ntestpaths = elsewhere\nno_such_option = auto\naddopts = --strict-config\n"
    )
    assert "6 passed" in run_tests(scaffold.make("iris", tmp_path).folder)


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict"]])
def test_its_code_is_as_clean_as_ours(tmp_path: Path, command: list[str]) -> None:
    clean(scaffold.make("iris", tmp_path).folder, command)


def clean(folder: Path, command: list[str]) -> None:
    settings = (
        [f"--config={ROOT / 'pyproject.toml'}"]
        if command[0] == "ruff"
        else ["--config-file=", "--follow-imports=silent"]
    )
    done = subprocess.run(
        [sys.executable, "-m", *command, *settings, "."],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},  # mypy does not see an editable installation
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_model_names_the_nearest_colour(tmp_path: Path) -> None:
    model = onnx.load(scaffold.make("iris", tmp_path).folder / "triton_repo/iris/1/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    corners = np.array(scaffold._COLOURS, np.float32)
    points = np.random.default_rng(1).random((200, 3)).astype(np.float32)
    (answer,) = ReferenceEvaluator(model).run(None, {"rgb": points})
    found = np.asarray(answer)
    nearest = ((points[:, None] - corners) ** 2).sum(axis=2).argmin(axis=1)
    assert found.argmax(axis=1).tolist() == nearest.tolist()
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["", "2nd", "my-model", "my model", "a/b", "..", "_x", "class", "None", "é", "a\n"])
def test_what_is_no_name_of_a_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a module"):
        scaffold.make(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "test", "asyncio", "listener"])
def test_a_name_that_hides_another_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is the name of a module of Python's or of the listener"):
        scaffold.make(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="iris: is not empty"):
        scaffold.make("iris", tmp_path)
    assert files(tmp_path) == {"iris/README.md"}
    assert (tmp_path / "iris" / "README.md").read_text() == "mine"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "iris").mkdir()
    assert checks.run(scaffold.make("iris", tmp_path).folder) == []


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "iris").write_text("a file")
    with pytest.raises(ConfigError, match=r"iris: cannot be written: File exists$"):
        scaffold.make("iris", tmp_path)
    with pytest.raises(ConfigError, match=r"x: cannot be written: Not a directory$"):
        scaffold.make("x", tmp_path / "iris")


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pip install 'triton-listener\\[tools\\]'"):
        scaffold.make("iris", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_steps_can_be_pasted(tmp_path: Path) -> None:
    said = scaffold.make("iris", tmp_path / "with blank").next_steps()
    assert f"\n  cd '{tmp_path}/with blank/iris'\n" in said
