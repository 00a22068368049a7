"""What is fetched, in the life of real processes: once, for all who need it, and gone after the stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.artifacts.choice import BEING_FETCHED
from listener.process import children
from tests.artifacts import emulator as emulators
from tests.artifacts.echo import below, repository
from tests.artifacts.emulator import Emulator
from tests.artifacts.gate import closed
from tests.integration.stack import (
    Stack,
    alive,
    command_line,
    descendants,
    free_port,
    running,
    wait_for,
)

pytestmark = pytest.mark.triton

URI = "gs://models/repo"
ONE = {"predictions": [[1, 2]]}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulators.running() as running_emulator:
        running_emulator.put("models", below("repo", repository("one")))
        yield running_emulator


@pytest.fixture
def env(emulator: Emulator, tmp_path: Path) -> dict[str, str]:
    """For every process of a test: one temporary folder, and a place that is in Cloud Storage."""
    (tmp_path / "tmp").mkdir()
    return {"TMPDIR": str(tmp_path / "tmp"), "STORAGE_EMULATOR_HOST": emulator.url, "LISTENER_REPOSITORY": URI}


def left(env: dict[str, str]) -> list[str]:
    return [path.name for path in Path(env["TMPDIR"]).iterdir()]


def fetching(stack: Stack) -> list[int]:
    return [pid for pid in children(stack.process.pid) if "listener.artifacts.fetch" in command_line(pid)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_nothing_of_it(tmp_path: Path, env: dict[str, str], number: signal.Signals) -> None:
    with running(tmp_path / "log", service=None, folder=None, **env) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]]).json() == ONE
        assert any(name.endswith("-artifacts") for name in left(env))
        assert not fetching(stack)
        assert stack.stop(number) == 0
    assert left(env) == []


@pytest.mark.parametrize("command", ["up", "triton"])
def test_a_stop_does_not_wait_for_what_is_being_fetched(
    tmp_path: Path, emulator: Emulator, env: dict[str, str], command: str
) -> None:
    with closed(emulator.url) as gate:
        mine = {**env, "STORAGE_EMULATOR_HOST": gate.url, "LISTENER_TRITON_URL": f"127.0.0.1:{free_port()}"}
        with running(tmp_path / "log", command, service=None, folder=None, **mine) as stack:
            wait_for(lambda: "fetching gs://models/repo/" in stack.output(), 20)
            family = descendants(stack.process.pid)
            begin = time.monotonic()
            assert stack.stop() == 0
            assert time.monotonic() - begin < 6
            assert fetching(stack) == []
            assert [pid for pid in family if alive(pid)] == []
    assert left(env) == []


def test_who_was_killed_leaves_something_and_the_next_start_takes_it_up(tmp_path: Path, env: dict[str, str]) -> None:
    with running(tmp_path / "first", service=None, folder=None, **env) as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: not [pid for pid in family if alive(pid)], 20)
    assert left(env)
    with running(tmp_path / "second", service=None, folder=None, **env) as stack:
        stack.until(200)
        assert "gs://models/repo/ has not changed since it was fetched" in stack.output()
        assert stack.stop() == 0
    assert left(env) == []


def test_two_stacks_share_it_and_the_last_one_removes_it(tmp_path: Path, env: dict[str, str]) -> None:
    with running(tmp_path / "first", service=None, folder=None, **env) as first:
        first.until(200)
        with running(tmp_path / "second", service=None, folder=None, **env) as second:
            second.until(200)
            assert "has not changed since it was fetched" in second.output()
            assert first.stop() == 0
            (pid,) = [pid for pid in children(second.process.pid) if "listener.worker" in command_line(pid)]
            os.kill(pid, signal.SIGKILL)  # the next worker needs to find it again
            wait_for(lambda: not alive(pid), 5)
            second.until(200)
            assert second.predict([[1, 2]]).json() == ONE
            assert second.stop() == 0
    assert left(env) == []


def test_a_named_folder_keeps_it_for_the_next_start(tmp_path: Path, env: dict[str, str]) -> None:
    mine = {**env, "LISTENER_ARTIFACTS": str(tmp_path / "kept")}
    for log, word in (("first", "fetched: 2 of 2 files"), ("second", "has not changed since it was fetched")):
        with running(tmp_path / log, service=None, folder=None, **mine) as stack:
            stack.until(200)
            assert word in stack.output()
            assert stack.stop() == 0
    assert left(env) == []
    assert list((tmp_path / "kept").rglob("one/1/model.py"))


def test_triton_fetches_and_serve_waits_for_it(tmp_path: Path, emulator: Emulator, env: dict[str, str]) -> None:
    """The two commands of the image. Only one fetches, and a Triton that died comes back without doing it again."""
    with closed(emulator.url) as gate:
        mine = {
            **env,
            "STORAGE_EMULATOR_HOST": gate.url,
            "LISTENER_TRITON_URL": f"127.0.0.1:{free_port()}",
            "LISTENER_TRITON_METRICS_URL": f"127.0.0.1:{free_port()}",
        }
        with running(tmp_path / "serve", "serve", service=None, folder=None, **mine) as serve:
            serve.until(503)
            with running(tmp_path / "triton", "triton", service=None, folder=None, **mine) as triton:
                wait_for(lambda: "fetching gs://models/repo/" in triton.output(), 20)
                assert serve.health() == (503, {"status": "downloading", "missing": [BEING_FETCHED]})
                gate.open()
                serve.until(200)
                assert serve.predict([[1, 2]]).json() == ONE
                assert "fetching" not in serve.output()
                os.kill(triton.triton_pid(), signal.SIGKILL)
                assert triton.process.wait(20) == 137
                serve.until(503, 5)
            assert any(name.endswith("-artifacts") for name in left(env))
            with running(tmp_path / "again", "triton", service=None, folder=None, **mine) as triton:
                serve.until(200)
                assert "has not changed since it was fetched" in triton.output()
                assert serve.predict([[1, 2]]).json() == ONE
                assert serve.stop() == 0
                assert triton.stop() == 0
    assert left(env) == []


def test_serve_does_not_wait_for_a_triton_elsewhere(tmp_path: Path, env: dict[str, str]) -> None:
    with running(
        tmp_path / "log", "serve", service=None, folder=None, **env, LISTENER_TRITON_URL="http://triton:8000"
    ) as stack:
        assert stack.process.wait(20) == 1
        assert stack.output() == (
            "listener: gs://models/repo: is fetched by the `listener triton` that runs on the same machine, and Triton "
            "is at http://triton:8000; give `listener serve` a folder in LISTENER_REPOSITORY\n"
        )
