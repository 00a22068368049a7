"""A root file system that is read-only, one tmpfs at /tmp, and a user without name and home (sealed.py)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from listener.artifacts.choice import BEING_FETCHED
from tests.artifacts import emulator as emulators
from tests.artifacts import faults, gate
from tests.artifacts.echo import repository
from tests.artifacts.emulator import Emulator
from tests.integration.sealed import USER, Sealed, sealed
from tests.integration.stack import ROOT, Stack, command_line, descendants, end, free_port, running, wait_for

pytestmark = pytest.mark.triton

MIB = 1 << 20
#: Of a file beside the model `one`, and of one beside the service.
WEIGHTS, LARGE = 4_000_000, 24 * MIB
ONE = {"predictions": [[1, 2]]}
DIGIT = [[0, 16] * 32]
NO_ROOM = (
    "gs://echo/: 4.0 MB do not fit into /tmp/listener-12345-artifacts, which has 3.1 MB free; name another folder in "
    "LISTENER_ARTIFACTS"
)
NO_FOLDER = "no temporary folder can be written (/tmp, /var/tmp); mount a tmpfs at /tmp, or name a folder in TMPDIR"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulators.running() as emulator:
        emulator.put("echo", repository("one"))
        emulator.put("echo", {"one/1/weights": bytes(WEIGHTS)})
        for folder in ("handlers", "triton_repo"):
            emulator.upload("service", ROOT / folder, f"here/{folder}/")
        emulator.put("service", {"here/listener.yaml": (ROOT / "listener.yaml").read_bytes()})
        emulator.put("service", {"here/large": os.urandom(LARGE)})
        emulator.upload("version", ROOT / "triton_repo/digits/1", "numbers/3/")
        yield emulator


@pytest.fixture(scope="module")
def disk() -> Iterator[Sealed]:
    with sealed() as disk:
        yield disk


@contextlib.contextmanager
def up(log: Path, disk: Sealed, url: str, place: str) -> Iterator[Stack]:
    with running(
        log,
        service=None,
        words=disk.words,
        STORAGE_EMULATOR_HOST=url,
        LISTENER_REPOSITORY=place,
        LISTENER_LOG_FORMAT="json",
    ) as stack:
        yield stack


def stopped(stack: Stack, disk: Sealed) -> None:
    """It stops in order, leaves nothing, and never had a bug."""
    assert disk.left()
    assert stack.stop() == 0, stack.output()
    assert disk.left() == set()
    assert "Traceback" not in stack.output()


def missing(stack: Stack) -> str:
    """What health says that is missing; '' where nobody answers."""
    status, body = stack.health()
    assert status in (0, 503)
    return str(body["missing"][0]) if body else ""


# listener up


@pytest.mark.parametrize("place", ["gs://echo", "gs://echo/"])
def test_a_repository(tmp_path: Path, disk: Sealed, emulator: Emulator, place: str) -> None:
    with up(tmp_path / "log", disk, emulator.url, place) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]], parameters={"model": "one"}).json() == ONE
        stopped(stack, disk)


def test_a_service(tmp_path: Path, disk: Sealed, emulator: Emulator) -> None:
    with up(tmp_path / "log", disk, emulator.url, "gs://service/here") as stack:
        stack.until(200)
        assert "digit" in stack.predict(DIGIT).json()["predictions"][0]
        stopped(stack, disk)


def test_one_version(tmp_path: Path, disk: Sealed, emulator: Emulator) -> None:
    with up(tmp_path / "log", disk, emulator.url, "gs://version/numbers/3") as stack:
        stack.until(200)
        status = requests.get(f"{stack.url}/v1/models/numbers", timeout=5).json()
        assert status["model_version_status"][0]["version"] == "3"
        assert len(stack.predict([[[[0.0] * 24] * 24]]).json()["predictions"]) == 1
        stopped(stack, disk)


def test_a_tmpfs_that_is_too_small(tmp_path: Path, emulator: Emulator) -> None:
    with (
        sealed("3m") as disk,
        gate.closed(emulator.url) as closed,
        up(tmp_path / "log", disk, closed.url, "gs://echo") as stack,
    ):
        wait_for(lambda: missing(stack) == BEING_FETCHED, 30, stack.output)
        closed.open()
        assert stack.process.wait(30) == 1
        assert errors(stack.output()) == [NO_ROOM]
        assert disk.left() == set()


def test_a_tmpfs_with_room_for_the_models_alone(tmp_path: Path, emulator: Emulator) -> None:
    with sealed("4m") as disk, up(tmp_path / "log", disk, emulator.url, "gs://echo") as stack:
        assert stack.process.wait(30) == 1
        assert errors(stack.output()) == [
            "/tmp: cannot be written: No space left on device; make room there, or name another temporary folder in "
            "TMPDIR"
        ]
        assert disk.left() == set()


def test_a_tmpfs_as_docker_mounts_it_unless_told_otherwise(tmp_path: Path, emulator: Emulator) -> None:
    with sealed("256m,noexec,nosuid,nodev") as disk, up(tmp_path / "log", disk, emulator.url, "gs://echo") as stack:
        assert stack.process.wait(30) == 1
        (sentence,) = errors(stack.output())
        assert sentence.startswith("/tmp: is mounted noexec, and the embedded Triton's backends are run from there; ")
        assert disk.left() == set()


def errors(output: str) -> list[str]:
    """What a log says that went wrong. All of its lines are of the log: there is no trace."""
    lines = [json.loads(line) for line in output.splitlines()]
    return [line["message"] for line in lines if line["severity"] == "ERROR"]


# What one runs once


def listener(disk: Sealed, emulator: Emulator, *words: str, **env: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command of ours."""
    given = {"STORAGE_EMULATOR_HOST": emulator.url, "LISTENER_LOG_FORMAT": "json", "AIP_HTTP_PORT": "0", **env}
    command = [*disk.words, sys.executable, "-m", "listener", *words]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_listener_fetch(emulator: Emulator) -> None:
    with sealed() as disk:
        status, said, _ = listener(disk, emulator, "fetch", "gs://echo", "/tmp/models")
        assert (status, "fetched 3 files, 4.0 MB" in said) == (0, True)
        status, said, _ = listener(disk, emulator, "fetch", "gs://echo/", "/tmp/models")
        assert (status, "nothing has changed; unchanged: 3 files" in said) == (0, True)
        assert disk.left() == {"models", ".models.listener"}
        status, said, told = listener(disk, emulator, "fetch", "gs://echo", "/opt/models")
        sentence = "listener: /opt/models: cannot be written: Read-only file system (/opt/.models.listener)"
        assert (status, said, told.splitlines()[-1]) == (1, "", sentence)


ASKED: dict[str, list[str]] = {
    "up": ["up", "--repository", "gs://echo"],
    "up, a folder": ["up", "--service", str(ROOT)],
    "triton": ["triton", "--repository", "gs://echo"],
    "triton, a folder": ["triton", "--service", str(ROOT)],
    "serve": ["serve", "--repository", "gs://echo"],
}


@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED.keys())
def test_nothing_that_can_be_written(emulator: Emulator, words: list[str]) -> None:
    with sealed(None) as disk:
        status, said, told = listener(disk, emulator, *words)
    assert status == 1
    text = said + told
    assert text.count(NO_FOLDER) == 1
    assert "Traceback" not in text


def test_the_folder_that_keeps_what_is_fetched_cannot_be_written(disk: Sealed, emulator: Emulator) -> None:
    status, said, told = listener(disk, emulator, "up", "--repository", "gs://echo", LISTENER_ARTIFACTS="/opt/kept")
    assert (status, told) == (1, "")
    assert errors(said) == [
        "/opt/kept: what is fetched cannot be kept there: Read-only file system; name another folder in "
        "LISTENER_ARTIFACTS"
    ]


# The container


class Container(Stack):
    """What the image starts, in the folder of the sample service."""

    def __init__(self, log: Path, disk: Sealed, url: str, place: str) -> None:
        self.port, self.log = free_port(), log
        entry = re.search(r"^ENTRYPOINT (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)
        assert entry
        words = [word.replace("/etc/supervisord.conf", str(ROOT / "supervisord.conf")) for word in json.loads(entry[1])]
        env: dict[str, Any] = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIP_HTTP_PORT": str(self.port),
            "AIP_MODE": "PREDICTION",
            "AIP_PREDICT_ROUTE": "/predict",
            "AIP_HEALTH_ROUTE": "/health",
            "AIP_STORAGE_URI": place,
            "STORAGE_EMULATOR_HOST": url,
            "LISTENER_HOST": "127.0.0.1",
            "LISTENER_TRITON_URL": f"127.0.0.1:{free_port()}",
            "LISTENER_TRITON_METRICS_URL": f"127.0.0.1:{free_port()}",
        }
        with log.open("ab") as output:  # the programs open it again, and append
            if os.getuid() == 0:
                os.fchown(output.fileno(), USER, USER)  # as container engines do
            command = [*disk.words, "env", f"--chdir={ROOT}", *words]
            self.process = subprocess.Popen(command, env=env, stdout=output, stderr=output)


@contextlib.contextmanager
def container(log: Path, disk: Sealed, url: str, place: str) -> Iterator[Container]:
    started = Container(log, disk, url, place)
    try:
        yield started
    finally:
        end(started.process)


def of(stack: Stack, words: str) -> int:
    """The one process of the container whose command line holds these words; 0: there is none."""
    return next((pid for pid in descendants(stack.process.pid) if words in command_line(pid)), 0)


def is_past(stack: Stack, percent: int) -> Callable[[], bool]:
    """Whether health says that so much and not all is there."""

    def says_so() -> bool:
        said = re.fullmatch(rf"{BEING_FETCHED}: (\d+) %", missing(stack))
        return said is not None and percent <= int(said[1]) < 100

    return says_so


def test_both_programs_wait_for_a_repository_whose_fetch_is_killed(
    tmp_path: Path, disk: Sealed, emulator: Emulator
) -> None:
    with (
        gate.closed(emulator.url) as closed,
        faults.proxy(closed.url) as proxy,
        container(tmp_path / "log", disk, proxy.url, "gs://service/here") as stack,
    ):
        proxy.inject(faults.Slow(rate=4 * MIB), of="here/large")
        wait_for(lambda: missing(stack) == BEING_FETCHED, 30, stack.output)
        wait_for(lambda: bool(of(stack, "listener.artifacts.fetch")), 30, stack.output)
        triton, serve = of(stack, "listener triton"), of(stack, "listener serve")
        closed.open()
        wait_for(is_past(stack, 60), 30, stack.output)
        assert (of(stack, "listener triton"), of(stack, "listener serve")) == (triton, serve)
        os.kill(of(stack, "listener.artifacts.fetch"), signal.SIGKILL)
        stack.until(200)
        assert "what fetches was killed (status 137); it goes on in 1 s" in stack.output()
        assert (of(stack, "listener triton"), of(stack, "listener serve")) == (triton, serve)
        assert LARGE <= proxy.sent("here/large") < LARGE + 2 * 4 * MIB
        assert "digit" in stack.predict(DIGIT).json()["predictions"][0]
        stopped(stack, disk)


def test_a_container_with_a_tmpfs_that_is_too_small(tmp_path: Path, emulator: Emulator) -> None:
    with sealed("3m") as disk, container(tmp_path / "log", disk, emulator.url, "gs://echo") as stack:
        wait_for(lambda: NO_ROOM in stack.output(), 30, stack.output)
        assert stack.process.wait(30) == 1
        assert "triton has given up; its own message says why; the container ends" in stack.output()
        assert "Traceback" not in stack.output()


def test_a_container_without_a_tmpfs(tmp_path: Path, emulator: Emulator) -> None:
    with sealed(None) as disk, container(tmp_path / "log", disk, emulator.url, "gs://echo") as stack:
        assert stack.process.wait(30) == 1
        (line,) = stack.output().splitlines()
        said = json.loads(line)
        assert (said["severity"], said["message"]) == (
            "ERROR",
            "no temporary folder can be written (/tmp, /var/tmp); mount a tmpfs at /tmp, or name a folder in TMPDIR",
        )
