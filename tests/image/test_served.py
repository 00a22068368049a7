"""The images as Vertex starts them: nothing is set but AIP_*, the models lie in Cloud Storage.

And who they run as, what they may do, and what becomes of them when one of their processes is killed.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.artifacts import emulator as emulators
from tests.artifacts.gate import closed
from tests.image.runtime import PORT, STOP_PATIENCE, VERTEX, Container, Image, Rights, rights_of, running
from tests.integration.stack import ROOT, alive, descendants, environment_of, wait_for

PICTURES = sorted((ROOT / "examples").glob("digit-*"))

#: Each process that is killed in turn, as its command line begins or has it; those above it notice and act.
VICTIMS = ("tritonserver ", "listener triton", "listener.starts", "listener.worker", "listener serve")


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, str]]:
    """Cloud Storage with the sample's models, and the one variable that Vertex does not set: where it is."""
    with emulators.running() as storage:
        storage.upload("artefacts", ROOT / "triton_repo", "models/")
        yield {"STORAGE_EMULATOR_HOST": storage.url}


@dataclass(frozen=True)
class Start:
    """A container that serves, and how it got there.

    Attributes:
        opened: seconds until its port was open.
        health: statuses of the health route with their words, each once, in order.
    """

    container: Container
    opened: float
    health: tuple[tuple[int, str], ...]


@pytest.fixture(scope="module")
def start(image: Image, emulator: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Shared by the tests of this file, of which the last one ends it. Nothing comes until it says that it waits."""
    with (
        closed(emulator["STORAGE_EMULATOR_HOST"]) as gate,
        running(image, tmp_path_factory.mktemp("vertex"), {**VERTEX, "STORAGE_EMULATOR_HOST": gate.url}) as container,
    ):
        seen, opened = list[tuple[int, str]](), 0.0
        until = container.started + 60
        while (200, "ready") not in seen and time.monotonic() < until and container.process.poll() is None:
            if now := health(container):
                opened = opened or time.monotonic() - container.started
                seen += [now] if now not in seen[-1:] else []
                if now[1] == "downloading":
                    gate.open()
            time.sleep(0.01)
        assert (200, "ready") in seen, container.output()
        yield Start(container, opened, tuple(seen))


def health(container: Container) -> tuple[int, str] | None:
    """Status and word; None while nobody answers."""
    try:
        answer = container.target.get(container.target.health_route)
    except (OSError, http.client.HTTPException):
        return None
    return answer.status, answer.json()["status"]


def test_the_port_opens_at_once_and_health_tells_the_rest(start: Start) -> None:
    print(f"the port was open after {start.opened:.2f} s")
    assert start.opened < 4  # 2 where nothing else runs
    *before, last = start.health
    assert last == (200, "ready")
    assert (503, "downloading") in before
    assert {status for status, _ in before} == {503}


def test_nothing_else_is_set(start: Start) -> None:
    """But where Cloud Storage is, which is not its usual place here, and what the image says of itself."""
    environ = environment_of(start.container.inside.pid)
    seen = {name: value for name, value in environ.items() if name.startswith(("AIP_", "LISTENER_"))}
    assert seen == VERTEX | {"LISTENER_METRICS_PORT": "8003"}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_the_sample_pictures(start: Start, picture: Path) -> None:
    instance = {"b64": base64.b64encode(picture.read_bytes()).decode()}
    answer = start.container.target.post(VERTEX["AIP_PREDICT_ROUTE"], {"instances": [instance]})
    assert answer.status == 200, answer
    assert answer.json()["predictions"][0]["digit"] == int(picture.stem[-1])


def test_the_healthcheck(start: Start) -> None:
    told = start.container.run("listener", "health")
    assert told.returncode == 0, told


def test_who_runs_and_what_they_may_do(start: Start) -> None:
    nothing = Rights(frozenset({1000}), frozenset({1000}), 0, True, frozenset({"/tmp", "/dev/shm"}))
    processes = start.container.processes()
    assert len(processes) >= 7, processes
    assert {line: rights for pid, line in processes.items() if (rights := rights_of(pid)) != nothing} == {}
    assert "Read-only file system" in start.container.run("touch", "/service/new").stderr


def test_what_tritons_environment_has(start: Start, image: Image) -> None:
    environ = environment_of(start.container.pid("tritonserver"))
    assert not [name for name in environ if name.startswith("AIP_")]
    # the base's BASH_ENV was read, which in NVIDIA's is what puts CUDA's forward compatibility in place
    assert environ.get("READ_FROM_BASH_ENV") == ("yes" if "BASH_ENV" in image.environ else None)


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_is_killed_comes_back(start: Start, victim: str) -> None:
    container = start.container
    killed = container.pid(victim)
    family = {killed} | descendants(killed)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in family), 15, container.output)
    if "triton" in victim:
        container.until(503, 10)
    wait_for(lambda: any(victim in line for line in container.processes().values()), 10, container.output)
    container.until(200)
    assert container.pid(victim) not in family
    answer = container.target.post(VERTEX["AIP_PREDICT_ROUTE"], {"instances": [[0, 16] * 32]})
    assert answer.status == 200, answer
    wait_for(lambda: all(alive(pid) for pid in descendants(container.inside.pid)), 2)  # and nobody is left unreaped


def test_the_death_of_supervisord_ends_it(start: Start) -> None:
    """Not with 0, or no platform would start it anew; and with everything."""
    container, begin = start.container, time.monotonic()
    family = container.processes()
    os.kill(container.pid("listener.supervised"), signal.SIGKILL)
    assert container.process.wait(STOP_PATIENCE) == 1, container.output()
    print(f"ended in {time.monotonic() - begin:.1f} s")
    wait_for(lambda: not any(alive(pid) for pid in family), 2)


@pytest.mark.parametrize("user", ["4711:4711", "4711:0"])
def test_any_user_and_a_stop(image: Image, user: str, tmp_path: Path) -> None:
    """The baked-in models; Kubernetes and OpenShift choose a user of their own. Nothing is left after SIGTERM."""
    with running(image, tmp_path, {"AIP_HTTP_PORT": str(PORT)}, user=user) as container:
        container.until(200)
        assert container.target.post("/predict", {"instances": [[0, 16] * 32]}).status == 200
        family = container.processes()
        ids = {(rights.uids, rights.gids) for rights in map(rights_of, family)}
        uid, gid = map(int, user.split(":"))
        assert ids == {(frozenset({uid}), frozenset({gid}))}
        status, took = container.stop(signal.SIGTERM)
        print(f"stopped in {took:.1f} s")
        assert status == 0, container.output()
        assert took < STOP_PATIENCE
        wait_for(lambda: not any(alive(pid) for pid in family), 2)


def test_artefacts_that_are_not_there_end_it_with_a_sentence(
    image: Image, emulator: dict[str, str], tmp_path: Path
) -> None:
    environ = {**VERTEX, **emulator, "AIP_STORAGE_URI": "gs://nowhere/models"}
    with running(image, tmp_path, environ) as container:
        assert container.process.wait(STOP_PATIENCE) == 1, container.output()
    messages = [json.loads(line)["message"] for line in container.output().splitlines()]
    assert [text for text in messages if "gs://nowhere/models/: there is no bucket 'nowhere'" in text]
    assert "Traceback" not in container.output()
