"""Which Python `make install` takes, of stand-ins that say what they are."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from tools import interpreter, preflight


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("path", "usr"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(interpreter, "_FOLDERS", (str(tmp_path / "usr"),))


def stand_in(path: Path, line: str) -> str:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_the_one_in_front_if_it_is_as_good_as_any(tmp_path: Path) -> None:
    first = stand_in(tmp_path / "path/python3", "echo optimised")
    stand_in(tmp_path / "usr/python3", "echo optimised")
    assert interpreter.choose() == first


@pytest.mark.parametrize("front", ["echo suits", "echo", "echo optimised; exit 1", "exit 127"])
def test_one_that_was_built_with_optimisations_before_one_that_was_not(tmp_path: Path, front: str) -> None:
    stand_in(tmp_path / "path/python3", front)
    stand_in(tmp_path / "path/python3.12", "echo suits")
    better = stand_in(tmp_path / "usr/python3.11", "echo optimised")
    assert interpreter.choose() == better


def test_one_that_will_do_before_one_that_will_not(tmp_path: Path) -> None:
    stand_in(tmp_path / "path/python3", "echo")
    will_do = stand_in(tmp_path / "path/python3.11", "echo suits")
    assert interpreter.choose() == will_do


def test_without_any_preflight_has_the_word(tmp_path: Path) -> None:
    stand_in(tmp_path / "path/python3", "echo")
    assert interpreter.choose() == "python3"


def test_what_a_python_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "missing", list)
    monkeypatch.setattr(sys, "executable", "/opt/python/bin/python3")
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "'--prefix=/opt/python'")
    assert interpreter.judge() == "suits"
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "'--enable-optimizations' '--with-lto'")
    assert interpreter.judge() == "optimised"
    monkeypatch.setattr(preflight, "missing", lambda: ["a library is missing"])
    assert interpreter.judge() == ""


def test_a_distribution_s_python_is_optimised_whatever_its_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    assert interpreter.optimised()
