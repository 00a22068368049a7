from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.loads import Body
from benchmarks.processes import CellFailed

SUMMARY = {
    "requests": 300,
    "duration_us": 1_500_000,
    "p50_us": 2500.0,
    "p99_us": 9000.0,
    **dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0),
}


def output(**changed: int) -> str:
    return f"Running 1s test @ http://127.0.0.1\n  2 threads\nsummary {json.dumps({**SUMMARY, **changed})}\n"


def test_the_summary_is_read() -> None:
    assert wrk.parse(output()) == wrk.Run(requests=300, seconds=1.5, p50_ms=2.5, p99_ms=9.0)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"status": 3}, "under load: 3 answers with a status of 400 or more"),
        ({"read": 1, "timeout": 2}, "under load: 1 answers that broke off, 2 answers that took too long"),
    ],
)
def test_any_error_under_load_fails_the_cell(changed: dict[str, int], sentence: str) -> None:
    with pytest.raises(CellFailed) as caught:
        wrk.parse(output(**changed))
    assert str(caught.value) == sentence


def test_output_without_a_summary_fails_the_cell() -> None:
    with pytest.raises(CellFailed, match="wrk printed no summary: unable to connect"):
        wrk.parse("unable to connect\n")


def test_bodies_lie_as_the_script_reads_them(tmp_path: Path) -> None:
    wrk.write_bodies(tmp_path / "new", [Body(b"one", {"A": "1", "B": "2"}), Body(b"two", {})])
    assert {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()} == {
        "0.body": b"one",
        "0.headers": b"A: 1\nB: 2\n",
        "1.body": b"two",
        "1.headers": b"",
    }


def test_a_missing_wrk_is_one_sentence_that_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(wrk.Missing, match=r"apt-get install wrk"):
        wrk.program()
