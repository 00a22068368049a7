"""Runs the README: every block, but for `make test` (which runs this) and those marked as needing what is not here."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from listener.testing import Client, FakeModel, FakeTriton
from tests.integration.stack import (
    ROOT,
    alive,
    command_line,
    descendants,
    free_port,
    left,
    regions,
    running,
    wait_for,
)
from tests.integration.terminal import terminal
from tests.markdown import blocks
from tools.digits_data import load_split

pytestmark = pytest.mark.triton

BLOCKS = blocks((ROOT / "README.md").read_text())


def only(language: str, containing: str = "") -> str:
    """The one block that is meant."""
    (found,) = [b.text for b in BLOCKS if b.language == language and containing in b.text and not b.needs]
    return found


def test_every_block_is_run_here_or_marked() -> None:
    """The tests below name all of them; a new block needs a new test, or a mark."""
    unmarked = [(b.language, b.text.partition("\n")[0]) for b in BLOCKS if not b.needs]
    assert unmarked == [
        ("console", "$ make run"),
        ("json", unmarked[1][1]),
        ("console", "$ make test"),
        ("python", "from handlers.ink import centred, numbers_ink"),
        ("yaml", "routes:"),
        ("yaml", "routes:"),
        ("sh", ". .venv/bin/activate"),
        ("sh", unmarked[7][1]),
    ]
    assert {b.needs for b in BLOCKS if b.needs} == {"docker, gpu"}


def test_make_run_its_curl_line_and_the_commands(tmp_path: Path) -> None:
    """`make run` at a terminal, the printed line pasted into a shell, the block of commands, and Ctrl-C."""
    port = str(free_port())
    env = {**os.environ, "PORT": port, "AIP_HTTP_PORT": port}
    with terminal(["make", "run"], env, ROOT) as screen:
        screen.until("Ctrl-C stops everything.")
        shown = screen.text
        wanted = only("console", "make run").replace("8080", port)
        last_lines = wanted[wanted.index("Ready.") :]
        assert last_lines.strip() in shown
        curl = next(line.strip() for line in shown.splitlines() if "curl" in line)
        (answer,) = json.loads(shell(curl, env))["predictions"]
        (promised,) = json.loads(only("json"))["predictions"]
        assert answer["digit"] == promised["digit"]
        assert answer["scores"] == pytest.approx(promised["scores"], abs=1e-4)
        commands = shell("set -e\n" + only("sh", "listener predict"), env)
        assert '"digit":7' in commands
        assert "200 " in commands
        assert "everything is in order" in commands
        assert "LISTENER_MAX_BODY=12582912" in commands
        asked = shell("set -e\n" + only("sh", "curl").replace("8080", port), env)
        assert '{"error":"instances[0]: ' in asked  # three numbers are no picture
        assert '{"predictions":[{"digit":4,' in asked
        assert 'data: {"predictions":[{"digit":5,' in asked
        assert '"model_version_status":[{"version":"1","state":"AVAILABLE"' in asked
        assert '"max_batch_size":64' in asked
        assert '"openapi":"3.0.3"' in asked
        family = descendants(screen.pid)
        in_use = regions(next(pid for pid in family if "tritonserver" in command_line(pid)))
        screen.press("\x03")
        screen.wait()
        wait_for(lambda: not [pid for pid in family if alive(pid)], 15)
    assert len(family) >= 4
    assert in_use
    assert not left(in_use)
    assert "Traceback" not in screen.text


def shell(script: str, env: dict[str, str]) -> str:
    run = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_handler_and_the_yaml_are_a_service(tmp_path: Path) -> None:
    (tmp_path / "handlers").mkdir()
    for helper in ("ink.py", "picture.py"):
        (tmp_path / "handlers" / helper).write_text((ROOT / "handlers" / helper).read_text())
    (tmp_path / "handlers/digits.py").write_text(only("python"))
    (tmp_path / "listener.yaml").write_text(only("yaml", "handlers.digits"))
    (tmp_path / "triton_repo").symlink_to(ROOT / "triton_repo")
    split = load_split()
    with running(tmp_path / "log", service=tmp_path) as stack:
        stack.until(200)
        answer = stack.predict([split.held_out[0].tolist()])
        assert answer.json() == {"predictions": [{"digit": int(split.held_out_digits[0])}]}
        assert stack.predict([[1]]).json() == {"error": "instances[0]: an instance is a list of 64 numbers"}


def test_the_routes_of_several_models_are_served(tmp_path: Path) -> None:
    (tmp_path / "listener.yaml").write_text(only("yaml", "split:"))
    triton = FakeTriton()
    for number, name in enumerate(("today", "improved", "exact", "rough", "cats", "dogs", "any_animal")):
        triton.models[name] = FakeModel({"x": ("FP32", [1])}, {"y": ("FP32", [1])}, partial(_answering, number))
    with Client(tmp_path, triton) as client:
        prices = client.predict([{"x": [n], "user": n} for n in range(200)], parameters={"model": "prices"})
        assert {tuple(price) for price in prices} == {(0,), (1,)}
        assert client.predict([[1]], parameters={"model": "months"}) == [[2]]
        assert client.predict([{"x": [1], "kind": kind} for kind in ("dog", "cat", "cow")]) == [[5], [4], [6]]


def _answering(number: int, given: dict[str, Any]) -> dict[str, Any]:
    return {"y": given["x"] * 0 + number}
