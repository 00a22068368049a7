"""What a service can have wrong: `listener check` and the start name file, line and field. No Triton is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stack import ROOT, running
from tests.integration.test_bad_input import write_identity

pytestmark = pytest.mark.triton

HANDLER = "routes:\n  a:\n    handler: handlers.a:A\n    model: same\n"
IMPORT = "from listener import Handler\n"
PLACE = "listener.yaml:3: routes.a.handler: "
GRAPH = "routes:\n  a:\n    "

#: listener.yaml, the handlers' module, and the sentence.
WRONG: dict[str, tuple[str, str, str]] = {
    "cannot be imported": (HANDLER, "import nowhere\n", f"{PLACE}'handlers.a' cannot be imported: ModuleNotFoundError"),
    "syntax error": (HANDLER, "class A(:\n", f"{PLACE}'handlers.a' cannot be imported: SyntaxError: "),
    "no class": (HANDLER, "class B: ...\n", f"{PLACE}"),
    "no handler": (HANDLER, "class A: ...\n", f"{PLACE}'handlers.a:A' is not a subclass of listener.Handler"),
    "a hook that is none": (
        HANDLER,
        f"{IMPORT}class A(Handler):\n    preprocess = None\n",
        f"{PLACE}A.preprocess: has to take (self, instance)",
    ),
    "wrong arguments": (
        HANDLER,
        f"{IMPORT}class A(Handler):\n    def preprocess(self): ...\n",
        f"{PLACE}A.preprocess: has to take (self, instance)",
    ),
    "wrong arguments of predict": (
        HANDLER,
        f"{IMPORT}class A(Handler):\n    async def predict(self): ...\n",
        f"{PLACE}A.predict: has to take (self, call)",
    ),
    "wrong offload": (
        HANDLER,
        f"{IMPORT}class A(Handler):\n    offload = 'gpu'\n",
        "listener.yaml:3: the handler of 'a' cannot be loaded: ValueError: offload is 'gpu'",
    ),
    "exits": (
        HANDLER,
        "raise SystemExit(3)\n",
        f"{PLACE}'handlers.a:A' ends the process when it is imported (status 3)",
    ),
    "a cycle": (
        "routes:\n  a: {node: b}\n  b: {fallback: [a, same]}\ndefault: a\n",
        "",
        "listener.yaml:2: the graph has a cycle: a -> b -> a",
    ),
    "a weight": (
        f"{GRAPH}split:\n      arms: {{same: 0}}\n",
        "",
        "listener.yaml:4: the weight of routes.a.split.arms.same is not a number above 0",
    ),
    "one name for two": (
        "routes:\n  a: {model: same}\nnodes:\n  a: {model: same}\n",
        "",
        "listener.yaml:4: 'a' is the name of a route already; two nodes cannot have one name",
    ),
    "a function": (
        f"{GRAPH}ensemble:\n      members: [same]\n      merge: handlers.a:merge\n",
        "def merge(): ...\n",
        "listener.yaml:5: routes.a.ensemble.merge: 'handlers.a:merge' has to take (predictions)",
    ),
    "deep": (
        f"{GRAPH}node: {'{node: ' * 2000}same{'}' * 2000}\n",
        "",
        "listener.yaml:3: nested too deeply",
    ),
}


def write(folder: Path, text: str, source: str) -> None:
    (folder / "handlers").mkdir()
    (folder / "handlers/a.py").write_text(source)
    (folder / "listener.yaml").write_text(text)
    write_identity(folder / "triton_repo/same")


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "listener", "check", f"--service={folder}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("text", "source", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_the_check_and_the_start_say_the_same(tmp_path: Path, text: str, source: str, sentence: str) -> None:
    write(tmp_path, text, source)
    done = check(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/{sentence}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    with running(tmp_path / "log", "serve", service=tmp_path) as stack:
        assert stack.process.wait(60) == 1
        assert f"{tmp_path}/{sentence}" in stack.output()
        assert "Traceback" not in stack.output()


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ("fallback: [same, other]", "routes.a.fallback[1]: no route, node or model 'other' in listener.yaml and "),
        ("fallback: [same, same@7]", "routes.a.fallback[1]: model 'same' has no version 7; it has 1"),
    ],
)
def test_what_may_come_later_is_a_mistake_for_the_check_alone(tmp_path: Path, node: str, sentence: str) -> None:
    write(tmp_path, f"{GRAPH}{node}\n", "")
    assert f"{tmp_path}/listener.yaml:3: {sentence}" in check(tmp_path).stdout
    with running(tmp_path / "log", "serve", service=tmp_path) as stack:
        stack.until(503)
        assert stack.process.poll() is None
