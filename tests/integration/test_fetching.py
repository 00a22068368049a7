"""What people see while models come, and one model alone behind a real Triton."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from listener.artifacts.choice import BEING_FETCHED
from tests.artifacts import emulator as emulators
from tests.artifacts.echo import below, repository
from tests.artifacts.emulator import Emulator
from tests.artifacts.gate import slow
from tests.integration.stack import ROOT, Stack, free_port, running, wait_for
from tests.integration.terminal import terminal
from tests.markdown import blocks

pytestmark = pytest.mark.triton

DIGITS = ROOT / "triton_repo/digits"
ONE = {"predictions": [[1, 2]]}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulators.running() as running_emulator:
        running_emulator.put("models", below("repo", repository("one")))
        running_emulator.put("models", {"repo/one/1/weights": bytes(4_000_000)})
        running_emulator.upload("models", DIGITS / "1", "versions/numbers/3/")
        yield running_emulator


@pytest.fixture
def env(emulator: Emulator, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tmp").mkdir()
    return {"TMPDIR": str(tmp_path / "tmp"), "STORAGE_EMULATOR_HOST": emulator.url}


def left(env: dict[str, str]) -> list[str]:
    return [path.name for path in Path(env["TMPDIR"]).iterdir()]


def test_health_says_how_far_it_is(tmp_path: Path, emulator: Emulator, env: dict[str, str]) -> None:
    """Two stacks that share a volume: one fetches, the other one waits, and both say the same."""
    with slow(emulator.url, 0.15) as gate:
        mine = {**env, "STORAGE_EMULATOR_HOST": gate.url, "LISTENER_REPOSITORY": "gs://models/repo"}
        port = free_port()
        first = running(tmp_path / "first", service=None, folder=None, LISTENER_METRICS_PORT=str(port), **mine)
        second = running(tmp_path / "second", service=None, folder=None, **mine)
        with first as one, second as other:
            for stack in (one, other):
                said = list[int]()

                def is_on_its_way(stack: Stack = stack, said: list[int] = said) -> bool:
                    _, body = stack.health()
                    sentence = (body or {}).get("missing", [""])[0]
                    assert (body or {}).get("status") != "starting" or BEING_FETCHED not in sentence
                    if sentence.startswith(f"{BEING_FETCHED}: "):
                        said.append(int(sentence.removeprefix(f"{BEING_FETCHED}: ").removesuffix(" %")))
                    return len(set(said)) > 2

                wait_for(is_on_its_way, 30, stack.output)
                assert said == sorted(said)
                assert 0 <= said[0] < said[-1] < 100
            done, of_all = fetched_bytes(port)
            assert 0 < done < of_all
            one.until(200)
            assert fetched_bytes(port) == (of_all, of_all)
            other.until(200)
            assert other.predict([[1, 2]]).json() == ONE
            fetched = [line for stack in (one, other) for line in stack.output().splitlines() if '"fetched: ' in line]
            assert len(fetched) == 1
            assert '"files_done":3,"files":3,"bytes_done":' in fetched[0]
            assert one.stop() == other.stop() == 0
    assert left(env) == []


def fetched_bytes(port: int) -> tuple[float, float]:
    """Those that are there and all of them, as the metrics say."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    done, of_all = (
        float(re.findall(rf'^listener_fetch_bytes{{state="{state}"}} (\S+)$', text, re.M)[0])
        for state in ("done", "all")
    )
    return done, of_all


def test_a_bar_at_a_terminal(emulator: Emulator, env: dict[str, str], tmp_path: Path) -> None:
    with slow(emulator.url, 0.05) as gate:
        mine = {**env, "STORAGE_EMULATOR_HOST": gate.url, "AIP_HTTP_PORT": str(free_port()), "TERM": "xterm"}
        argv = ["python", "-m", "listener", "up", "--host", "127.0.0.1", "--repository", "gs://models/repo"]
        python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with terminal(argv, {**os.environ, **mine, "PATH": python, "COLUMNS": "120"}, ROOT) as screen:
            screen.until(" %")
            screen.until("/3 files")
            screen.until("Serving every model of gs://models/repo")
            assert "fetched: 3 of 3 files, 4.0 MB of 4.0 MB in " in screen.text
            assert "Traceback" not in screen.text
            screen.press("\x03")
            assert screen.wait() == 0


def test_one_model_in_a_bucket(emulator: Emulator, env: dict[str, str], tmp_path: Path) -> None:
    with running(
        tmp_path / "log", service=None, folder=None, **env, LISTENER_REPOSITORY="gs://models/repo/one"
    ) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]], parameters={"model": "one"}).json() == ONE
        assert stack.stop() == 0
    assert left(env) == []


def test_one_version_in_a_bucket(emulator: Emulator, env: dict[str, str], tmp_path: Path) -> None:
    uri = "gs://models/versions/numbers/3/"
    with running(tmp_path / "log", service=None, folder=tmp_path, **env, AIP_STORAGE_URI=uri) as stack:
        stack.until(200)
        status = requests.get(f"{stack.url}/v1/models/numbers", timeout=5).json()
        assert status["model_version_status"][0]["version"] == "3"
        assert len(stack.predict([[[[0.0] * 24] * 24]]).json()["predictions"]) == 1
        assert stack.stop() == 0
    assert left(env) == []


@pytest.mark.parametrize("below", ["", "1"])
def test_one_model_in_a_folder_that_is_read_only(env: dict[str, str], tmp_path: Path, below: str) -> None:
    shutil.copytree(DIGITS, tmp_path / "there/digits")
    for path in [*(tmp_path / "there").rglob("*"), tmp_path / "there"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    place = tmp_path / "there/digits" / below
    before = sorted(place.rglob("*"))
    with running(tmp_path / "log", service=None, folder=None, **env, LISTENER_REPOSITORY=str(place)) as stack:
        stack.until(200)
        assert requests.get(f"{stack.url}/v1/models", timeout=5).json() == {"models": ["digits"]}
        assert len(stack.predict([[[[0.0] * 24] * 24]]).json()["predictions"]) == 1
        assert stack.stop() == 0
    assert sorted(place.rglob("*")) == before
    assert left(env) == []


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("place", ["gs://models/repo", "triton_repo"])
def test_make_run_with_other_models(env: dict[str, str], place: str) -> None:
    mine = {**os.environ, **env, "PORT": str(free_port())}
    with terminal(["make", "run", f"REPOSITORY={place}"], mine, ROOT) as screen:
        screen.until(f"Serving every model of {place}")
        screen.press("\x03")
        screen.wait()
    wait_for(lambda: left(env) == [], 15)


def test_without_a_bucket_as_the_page_has_it(env: dict[str, str]) -> None:
    """The blocks of docs/deploy.md as they are typed, in two terminals, but for the ports."""
    page = (ROOT / "docs/deploy.md").read_text().partition("### Without a bucket")[2].partition("\n## ")[0]
    ports = str(free_port()), str(free_port())
    emulator, run = (block.text.replace("9023", ports[0]) for block in blocks(page))
    mine = {**os.environ, "TMPDIR": env["TMPDIR"], "PORT": ports[1]}
    mine.pop("STORAGE_EMULATOR_HOST", None)
    with contextlib.ExitStack() as terminals:
        one = terminals.enter_context(terminal(["sh", "-c", emulator], mine, ROOT))
        wait_for(lambda: accepts(int(ports[0])), 20, lambda: one.text)
        other = terminals.enter_context(terminal(["sh", "-c", run], mine, ROOT))
        other.until("Serving every model of gs://models")
        instances = {"instances": [[[[0.0] * 24] * 24]]}
        answer = requests.post(f"http://127.0.0.1:{ports[1]}/predict", json=instances, timeout=30)
        assert len(answer.json()["predictions"]) == 1
        other.press("\x03")
        other.wait()
    wait_for(lambda: left(env) == [], 15)
