"""A newcomer's path, as docs/getting-started.md has it: every block of it is run or written, in its order."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.integration.stack import ROOT, running, wait_for
from tests.markdown import Block, blocks

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


def write(text: str, folder: Path) -> None:
    """A block whose first line names its file, as `# make_model.py`."""
    named = re.match(r"# (\S+)\n", text)
    assert named, f"does not say which file it is: {text}"
    (folder / named[1]).write_text(text)


def edit(text: str, service: Path) -> None:
    """A block whose first line names its file and whose others are lines of it, as they were and as they are."""
    named, *lines = text.splitlines()
    file = service / named.removeprefix("--- ")
    old, new = ("".join(f"{line[1:]}\n" for line in lines if line.startswith(sign)) for sign in ("-", "+"))
    content = file.read_text()
    assert content.count(old) == 1, f"{file} has not these lines, once:\n{old}"
    file.write_text(content.replace(old, new))


def typed(block: Block) -> int:
    """How many characters of a block have to be typed; an editor indents by itself."""
    if block.needs not in ("", "network") or block.language == "json":
        return 0
    lines = block.text.splitlines()
    if block.language == "diff":
        lines = [line[1:] for line in lines if line.startswith("+")]
    elif block.language == "python":
        lines = lines[1:]  # the file's name
    return sum(len(line.strip()) + 1 for line in lines)


def test_the_page_says_how_much_has_to_be_typed() -> None:
    page = PAGE.read_text()
    count = sum(map(typed, blocks(page)))
    assert count < 1500
    said = re.search(r"are ([\d,]+) characters, which are (\d+) minutes", page)
    assert said
    assert int(said[1].replace(",", "")) == count
    assert int(said[2]) == math.ceil(count / 200)


def test_the_page_is_a_path_to_a_right_prediction(tmp_path: Path) -> None:
    service = tmp_path / "wine"
    page = [block for block in blocks(PAGE.read_text()) if not block.needs]
    model, make, new, handler, test, check, up, curl, promised, again, changed = page
    write(model.text, tmp_path)
    shell(make.text, tmp_path)
    as_made = shell(new.text, tmp_path)
    edit(handler.text, service)
    assert "1 failed, 1 passed" in shell("python -m pytest || true", service)
    edit(test.text, service)
    for said in (as_made, shell(check.text, service)):
        assert "everything is in order" in said
        assert "2 passed" in said
    assert up.text == "listener up --host 127.0.0.1 --reload\n"
    with running(tmp_path / "log", service=service, LISTENER_RELOAD="true") as stack:
        stack.until(200)
        ask = curl.text.replace("http://127.0.0.1:8080", stack.url)
        assert shell(ask, service) == promised.text.strip()
        refused = requests.post(f"{stack.url}/predict", json={"instances": [[1, 2], [3]]}, timeout=30)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("instances[1]: input 'X' has shape [1]")
        edit(again.text, service)
        wait_for(lambda: "reloaded in" in stack.output(), 20, stack.output)
        assert re.search(r"reloaded in \d\.\d s: handlers/wine\.py", stack.output())
        assert shell(ask, service) == changed.text.strip()


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
