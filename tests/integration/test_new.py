"""A newcomer's path, as docs/getting-started.md has it: every block of it is run or written, in its order."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.integration.stack import ROOT, running, wait_for
from tests.markdown import blocks

pytestmark = pytest.mark.triton

PAGE = ROOT / "docs" / "getting-started.md"

#: `listener` and `python` of this interpreter, wherever the shell would find others.
_COMMANDS = f"""\
set -e -o pipefail
listener() {{ {shlex.quote(sys.executable)} -m listener "$@"; }}
python() {{ {shlex.quote(sys.executable)} "$@"; }}
"""


def shell(script: str, folder: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        ["bash", "-c", _COMMANDS + script], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def write(text: str, service: Path) -> None:
    """A block whose first line names its file, as `# handlers/houses.py`."""
    named = re.match(r"# (\S+)\n", text)
    assert named, f"does not say which file it is: {text}"
    (service / named[1]).write_text(text)


def test_the_page_is_a_path_to_a_right_prediction(tmp_path: Path) -> None:
    service = tmp_path / "houses"
    said = []
    *path, up, curl, promised, reloading, edit, changed = [
        block for block in blocks(PAGE.read_text()) if not block.needs
    ]
    for language, text, _ in path:
        if language == "sh":
            said.append(shell(text, service if service.exists() else tmp_path))
        else:
            write(text, service)
    made, disagreeing, own = said
    assert "everything is in order" in made
    assert "6 passed" in made
    assert "mistakes" not in disagreeing  # their number goes to stderr
    assert "'features'" in disagreeing
    assert "everything is in order" in own
    assert "2 passed" in own
    assert up.text == "listener up --host 127.0.0.1\n"
    with running(tmp_path / "log", service=service) as stack:
        stack.until(200)
        answer = shell(curl.text.replace("http://127.0.0.1:8080", stack.url), service)
        assert answer == promised.text.strip()
        refused = requests.post(f"{stack.url}/predict", json={"instances": [{"rooms": 1, "area": 2}, 7]}, timeout=30)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("instances[1]: an instance is ")
    assert reloading.text == "listener up --host 127.0.0.1 --reload\n"
    with running(tmp_path / "log", service=service, LISTENER_RELOAD="true") as stack:
        stack.until(200)
        shell(edit.text, service)
        wait_for(lambda: "reloaded in" in stack.output(), 20, stack.output)
        assert re.search(r"reloaded in \d\.\d s: handlers/houses\.py", stack.output())
        assert shell(curl.text.replace("http://127.0.0.1:8080", stack.url), service) == changed.text.strip()


def test_what_new_says_next_can_be_done(tmp_path: Path) -> None:
    """The service as it is made, served by a real Triton, and asked by the printed line."""
    shown = shell("listener new iris", tmp_path)
    ask = next(line.strip() for line in shown.splitlines() if "predict -" in line)
    with running(tmp_path / "log", service=tmp_path / "iris") as stack:
        stack.until(200)
        port = stack.url.rpartition(":")[2]
        (orange,) = json.loads(shell(f"export AIP_HTTP_PORT={port}\n{ask}", tmp_path))["predictions"]
        colours = ["#000000", "#c01020", "#10c020", "#1020c0", "#e0e020", "#10d0d0", "#d010d0", "#f0f0f0"]
        answers = stack.predict(colours).json()["predictions"]
    assert orange["colour"] in ("red", "yellow")
    named = [answer["colour"] for answer in answers]
    assert named == ["black", "red", "green", "blue", "yellow", "cyan", "magenta", "white"]
    assert all(1 / 8 < answer["probability"] <= 1 for answer in answers)
