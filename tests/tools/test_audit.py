"""`make audit` fails where something is vulnerable, and where it could not look."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools import audit

GOOD = {"name": "numpy", "version": "2.4.0", "vulns": []}
BAD = {"name": "aiohttp", "version": "3.9.0", "vulns": [{"id": "PYSEC-2024-24", "fix_versions": ["3.9.2"]}]}
UNFIXED = {"name": "old", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": []}]}
SKIPPED = {"name": "orjson", "skip_reason": "not found: orjson (3.11)"}


@pytest.mark.parametrize(
    ("packages", "fault"),
    [
        ([GOOD], ""),
        ([GOOD, BAD], "py312: aiohttp 3.9.0: PYSEC-2024-24, mended in 3.9.2"),
        ([UNFIXED], "py312: old 1: CVE-1, mended in no version"),
        ([GOOD, SKIPPED], "py312: 1 packages could not be audited: not found: orjson (3.11)"),
        ([SKIPPED], "py312: nothing could be audited: not found: orjson (3.11)"),
        ([], "py312: nothing could be audited: it has no packages"),
    ],
)
def test_what_is_a_fault(packages: list[Any], fault: str) -> None:
    assert audit.read("py312", {"dependencies": packages}).fault == fault


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stdout: str, stderr: str = "") -> int:
    def pip_audit(command: list[str], **options: Any) -> SimpleNamespace:
        assert command[-2:] == ["-r", "requirements/py312.lock"]
        return SimpleNamespace(stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", pip_audit)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "MATERIALS", tmp_path / "sbom")
    return audit.main([Path("requirements/py312.lock")])


def test_a_good_lock_is_0_and_has_its_bill_of_materials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.dumps({"dependencies": [GOOD]})
    assert run(monkeypatch, tmp_path, told) == 0
    assert capsys.readouterr().out.split()[:3] == ["py312", "1", "audited"]
    assert (tmp_path / "sbom/py312.cdx.json").read_text() == told


def test_no_answer_is_1_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "", "Traceback:\n  ...\nConnectionError: no route to pypi.org\n") == 1
    assert capsys.readouterr().err == "py312: nothing could be audited: ConnectionError: no route to pypi.org\n"
