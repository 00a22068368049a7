"""`listener up --reload` and `listener serve --reload` while somebody edits a service that `listener new` made."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from listener.process import children
from listener.tools import scaffold
from tests.integration.stack import Stack, alive, command_line, running, wait_for

pytestmark = pytest.mark.triton

PATIENCE = 20.0


class Edited:
    """A service that runs, and its files."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.handler = folder / "handlers" / "colours.py"
        self.yaml = folder / "listener.yaml"
        self.first = self.handler.read_text()

    def save(self, path: Path, text: str) -> None:
        """As editors do that write beside and rename."""
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(text)
        beside.rename(path)

    def colour(self) -> str | None:
        """The name of a red, or None where that is refused for now."""
        answer = self.stack.predict(["#ff0000"])
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return None
        assert answer.status_code == 200, answer.text
        return str(answer.json()["predictions"][0]["colour"])

    def until_colour(self, name: str) -> None:
        wait_for(lambda: self.colour() == name, PATIENCE, self.stack.output)

    def until_said(self, pattern: str, times: int = 1) -> None:
        wait_for(lambda: len(re.findall(pattern, self.stack.output())) >= times, PATIENCE, self.stack.output)

    def renamed(self, name: str) -> str:
        """The handler with another name for red."""
        return self.first.replace('"red"', f'"{name}"')


def made(tmp_path: Path) -> Path:
    return scaffold.make("colours", tmp_path).folder


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[Edited]:
    folder = made(tmp_path)
    with running(tmp_path / "log", service=folder, LISTENER_RELOAD="true") as stack:
        stack.until(200)
        yield Edited(stack, folder)


def workers(stack: Stack) -> list[int]:
    return [pid for pid in children(stack.process.pid) if "listener.worker" in command_line(pid)]


def test_a_saved_handler_serves_and_the_log_says_what_changed(edited: Edited) -> None:
    triton = edited.stack.triton_pid()
    edited.save(edited.handler, edited.renamed("rouge"))
    edited.until_colour("rouge")
    edited.until_said(r"reloaded in \d+\.\d s: handlers/colours\.py")
    edited.handler.write_text(edited.renamed("rosso"))  # in place
    edited.until_colour("rosso")
    assert edited.stack.triton_pid() == triton
    assert edited.stack.stop() == 0


def test_nobody_is_refused_a_connection_meanwhile(edited: Edited) -> None:
    statuses, end = set[int](), threading.Event()

    def ask() -> None:
        while not end.is_set():
            try:
                statuses.add(edited.stack.predict(["#ff0000"]).status_code)
            except requests.ConnectionError:
                statuses.add(0)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for times, name in enumerate(("rouge", "rosso", "rojo"), 1):
            edited.save(edited.handler, edited.renamed(name))
            edited.until_said("reloaded in", times)
    finally:
        end.set()
        asking.join()
    assert statuses == {200, 503}


def test_several_saves_within_a_moment_are_one_restart(edited: Edited) -> None:
    for name in ("a", "b", "c", "d"):
        edited.save(edited.handler, edited.renamed(name))
        (edited.folder / "words.txt").write_text(name)
    edited.until_colour("d")
    edited.until_said(r"handlers/colours\.py and 1 more changed: restarting the workers")
    edited.until_said("reloaded in")
    assert edited.stack.output().count("changed: restarting") == 1


def test_mistakes_end_nothing_and_the_next_save_serves(edited: Edited) -> None:
    parent = edited.stack.process
    mistakes = [
        (edited.handler, edited.first + "\nx = = 3\n", r"SyntaxError: invalid syntax \(\S+colours\.py:\d+\)"),
        (
            edited.handler,
            edited.first + "\n    def load(self, artifacts):\n        raise OSError('no words')\n",
            r"cannot be loaded: OSError: no words \(\S+colours\.py:\d+\)",
        ),
        (edited.yaml, edited.yaml.read_text() + "bogus: 1\n", r"listener\.yaml:\d+: unknown key 'bogus'"),
        (edited.yaml, "routes: [\n", r"listener\.yaml:\d+: (?!routes|unknown)"),
    ]
    for number, (path, wrong, said) in enumerate(mistakes, 1):
        right = path.read_text()
        edited.save(path, wrong)
        edited.until_said(said)
        wait_for(lambda: "the log has the reason" in str(edited.stack.health()), PATIENCE, edited.stack.output)
        assert edited.stack.health()[0] == 503
        assert edited.colour() is None
        assert parent.poll() is None
        edited.save(path, right)
        edited.stack.until(200, PATIENCE)
        edited.until_said("reloaded in", number)
        assert edited.colour() == "red"
    assert "Traceback" not in edited.stack.output()
    assert edited.stack.stop() == 0


def test_a_mistake_that_is_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    folder = made(tmp_path)
    yaml = (folder / "listener.yaml").read_text()
    (folder / "listener.yaml").write_text(yaml + "bogus: 1\n")
    with running(tmp_path / "log", service=folder, LISTENER_RELOAD="true") as stack:
        edited = Edited(stack, folder)
        edited.until_said("unknown key 'bogus'")
        stack.until(503, PATIENCE)
        assert stack.output().count("unknown key") == 1  # of all processes that read it, one says so
        edited.save(edited.yaml, yaml)
        edited.until_colour("red")  # and Triton has found its repository


def test_a_process_that_ends_in_the_handler_is_waited_for_as_well(edited: Edited) -> None:
    edited.save(edited.handler, "import os\nos._exit(3)\n")
    edited.until_said("ended with status 3 at each of its last 2 starts")
    assert edited.stack.process.poll() is None
    edited.save(edited.handler, edited.renamed("rouge"))
    edited.until_colour("rouge")


@pytest.mark.parametrize("form", ["def", "async def"])
def test_a_load_that_hangs_holds_up_nothing(edited: Edited, form: str) -> None:
    """The plain one hangs in a thread, the other one holds the worker's event loop."""
    hanging = f"\n    {form} load(self, artifacts):\n        import time\n\n        print('hangs', flush=True)\n"
    edited.save(edited.handler, edited.first + hanging + "        time.sleep(600)\n")
    edited.until_said("hangs")
    edited.save(edited.handler, edited.renamed("rouge"))
    edited.until_said("reloaded in")
    edited.until_colour("rouge")
    wait_for(lambda: len(workers(edited.stack)) == 1, PATIENCE, edited.stack.output)
    assert edited.stack.stop() == 0


def test_a_request_that_runs_is_answered_by_the_code_that_it_reached(edited: Edited) -> None:
    begin = '"""From this instance'
    assert begin in edited.first
    slow = edited.first.replace(begin, f"__import__('time').sleep(2)\n        {begin}")
    edited.save(edited.handler, slow)
    edited.until_said("reloaded in")
    answers: list[str | None] = []
    asking = threading.Thread(target=lambda: answers.append(edited.colour()))
    asking.start()
    time.sleep(0.5)
    edited.save(edited.handler, edited.renamed("rouge"))
    edited.until_said("draining; requests running: 1")
    edited.until_said("reloaded in", 2)
    assert edited.colour() == "rouge"
    asking.join()
    assert answers == ["red"]


def test_a_changed_model_restarts_triton_alone(edited: Edited) -> None:
    triton, worker = edited.stack.triton_pid(), workers(edited.stack)
    config = edited.folder / "triton_repo/colours/config.pbtxt"
    edited.save(config, config.read_text() + "\n# edited\n")
    edited.until_said(r"triton_repo/colours/config\.pbtxt changed: restarting Triton")
    edited.until_said(r"reloaded in \d+\.\d s: triton_repo/colours/config\.pbtxt")
    assert not alive(triton)
    assert edited.colour() == "red"
    assert workers(edited.stack) == worker
    assert edited.stack.stop() == 0


def test_a_mistake_in_a_model_is_waited_for(edited: Edited) -> None:
    config = edited.folder / "triton_repo/colours/config.pbtxt"
    right = config.read_text()
    edited.save(config, right + "\nnonsense {\n")
    edited.until_said("triton ended with status 1 at each of its last 2 starts")
    assert edited.stack.health()[0] == 503
    edited.save(config, right)
    edited.until_said("reloaded in")
    assert edited.colour() == "red"


def test_another_repository_in_listener_yaml_restarts_both(edited: Edited) -> None:
    triton = edited.stack.triton_pid()
    (edited.folder / "triton_repo").rename(edited.folder / "models")
    edited.save(edited.yaml, f"repository: models\n{edited.yaml.read_text()}")
    wait_for(lambda: not alive(triton), PATIENCE, edited.stack.output)
    edited.until_said("reloaded in")
    assert f"--model-repository={edited.folder / 'models'}" in command_line(edited.stack.triton_pid())
    assert edited.colour() == "red"


def test_a_repository_elsewhere_may_go_and_come_as_a_whole(tmp_path: Path) -> None:
    folder, models = made(tmp_path), tmp_path / "models"
    (folder / "triton_repo").rename(models)
    yaml = folder / "listener.yaml"
    yaml.write_text(f"repository: {models}\n{yaml.read_text()}")
    with running(tmp_path / "log", service=folder, LISTENER_RELOAD="true") as stack:
        stack.until(200)
        edited, aside = Edited(stack, folder), tmp_path / "aside"
        for number in (1, 2):
            shutil.copytree(models, aside)
            shutil.rmtree(models)
            edited.until_said("models: no such folder", number)
            aside.rename(models)
            edited.until_said("reloaded in", number)
            assert edited.colour() == "red"


def test_serve_reloads_code_and_leaves_triton_to_others(edited: Edited, tmp_path: Path) -> None:
    port = re.search(r"--http-port=(\d+)", command_line(edited.stack.triton_pid()))
    assert port
    folder = scaffold.make("colours", tmp_path / "other").folder
    with running(
        tmp_path / "log2", "serve", folder, LISTENER_TRITON_URL=f"127.0.0.1:{port[1]}", LISTENER_RELOAD="1"
    ) as stack:
        stack.until(200)
        other = Edited(stack, folder)
        other.save(folder / "triton_repo/colours/config.pbtxt", "# edited\n")
        other.until_said(
            r"triton_repo/colours/config\.pbtxt changed: models are served by a Triton that runs elsewhere"
        )
        other.save(other.handler, other.renamed("rouge"))
        other.until_colour("rouge")
        assert edited.colour() == "red"


def test_polling_does_as_well(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with running(tmp_path / "log", service=folder, WATCHFILES_FORCE_POLLING="true", LISTENER_RELOAD="true") as stack:
        stack.until(200)
        edited = Edited(stack, folder)
        time.sleep(1)
        assert "changed" not in stack.output()  # though Python has made its caches
        edited.save(edited.handler, edited.renamed("rouge"))
        edited.until_colour("rouge")


def test_all_workers_are_replaced(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with running(tmp_path / "log", service=folder, LISTENER_WORKERS="2", LISTENER_RELOAD="true") as stack:
        stack.until(200)
        edited, before = Edited(stack, folder), workers(stack)
        edited.save(edited.handler, edited.renamed("rouge"))
        wait_for(lambda: not any(map(alive, before)), PATIENCE, stack.output)
        wait_for(lambda: len(workers(stack)) == 2, PATIENCE, stack.output)
        edited.until_said("reloaded in")
        assert stack.stop() == 0
