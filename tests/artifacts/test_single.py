"""A repository of links around one model: made by whoever needs it, gone with the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.artifacts import choice, single
from listener.artifacts.layout import Kind
from listener.errors import ConfigError
from listener.settings import Settings
from tests.integration.stack import ROOT


@pytest.fixture(autouse=True)
def released(temporary: Path) -> Iterator[None]:
    yield
    single.release()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """One model's folder, which nobody may write into."""
    (tmp_path / "digits/3").mkdir(parents=True)
    (tmp_path / "digits/config.pbtxt").write_text("max_batch_size: 8")
    (tmp_path / "digits/3/model.onnx").write_text("3")
    return tmp_path / "digits"


def test_a_model_with_its_versions(digits: Path, temporary: Path) -> None:
    made = single.repository(Kind.MODEL, digits, str(digits), "")
    assert made.is_relative_to(temporary)
    assert [path.name for path in made.iterdir()] == ["digits"]
    assert (made / "digits/3/model.onnx").read_text() == "3"
    assert single.repository(Kind.MODEL, digits, str(digits), "") == made
    single.release()
    assert list(temporary.iterdir()) == []
    assert (digits / "3/model.onnx").exists()


def test_one_version(digits: Path) -> None:
    made = single.repository(Kind.VERSION, digits / "3", "gs://bucket/models/digits/3", "")
    assert [path.relative_to(made).as_posix() for path in sorted(made.rglob("*"))] == ["digits", "digits/3"]
    assert (made / "digits/3/model.onnx").read_text() == "3"


def test_one_version_with_a_configuration_that_says_the_name(tmp_path: Path) -> None:
    flat = tmp_path / "artifacts"
    flat.mkdir()
    (flat / "model.onnx").touch()
    (flat / "config.pbtxt").write_text('name: "digits"')
    made = single.repository(Kind.VERSION, flat, "gs://bucket", "")
    assert sorted(path.relative_to(made).as_posix() for path in made.rglob("*")) == [
        "digits",
        "digits/1",
        "digits/config.pbtxt",
    ]


def test_a_named_folder_keeps_it(digits: Path, tmp_path: Path, temporary: Path) -> None:
    made = single.repository(Kind.MODEL, digits, str(digits), str(tmp_path / "kept"))
    single.release()
    assert made.is_relative_to(tmp_path / "kept")
    assert (made / "digits/config.pbtxt").exists()
    assert list(temporary.iterdir()) == []


def test_a_place_that_cannot_be_written(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        single.repository(Kind.MODEL, digits, str(digits), str(tmp_path / "file"))
    assert len(caught.value.mistakes) == 1
    assert str(tmp_path / "file") in caught.value.mistakes[0]


def test_the_last_of_several_processes_removes_it(digits: Path, temporary: Path) -> None:
    """The other one ends while we still need it, and then we do."""
    made = single.repository(Kind.MODEL, digits, str(digits), "")
    script = (
        "import sys; from pathlib import Path; from listener.artifacts import single; "
        "from listener.artifacts.layout import Kind; "
        "print(single.repository(Kind.MODEL, Path(sys.argv[1]), sys.argv[1], ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(digits)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == f"{made}\n"
    assert (made / "digits/config.pbtxt").exists()
    single.release()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("below", "version"), [("", ""), ("3", "3")])
def test_it_is_served_like_any_repository(
    digits: Path, below: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choice.here(Settings(repository=str(digits / below)))
    assert found is not None
    assert (found.routes, [path.name for path in found.repository.iterdir()]) == ({}, ["digits"])
    monkeypatch.chdir(digits / below)
    again = choice.here(Settings(repository="."))
    assert again == found


def test_a_root_without_a_name() -> None:
    with pytest.raises(ConfigError, match="no folder there says the model's name"):
        single.repository(Kind.MODEL, Path("/nowhere"), "gs://bucket", "")
