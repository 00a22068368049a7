"""Contract, item 3, in Cloud Storage: `AIP_STORAGE_URI` names a prefix; nothing is downloaded for the container."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from listener.artifacts.choice import BEING_FETCHED
from tests.artifacts import emulator as emulators
from tests.artifacts.echo import below, repository
from tests.artifacts.emulator import Emulator
from tests.artifacts.gate import closed
from tests.integration.stack import ROOT, command_line, descendants, running

pytestmark = pytest.mark.triton

HANDLER = """
from listener import Handler


class Doubled(Handler):
    model = "one"

    def postprocess(self, outputs):
        return [2 * value for value in outputs["Y"].tolist()]
"""
SERVICE: dict[str, bytes | str] = {
    "listener.yaml": "repository: models\nroutes: {twice: {handler: 'handlers.doubled:Doubled'}}\n",
    "handlers/doubled.py": HANDLER,
    **below("models", repository("one")),
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulators.running() as running_emulator:
        running_emulator.put("artefacts", below("models", repository("one", "two")))
        running_emulator.put("artefacts", {"models/": "", "models-old/x": "no"})
        running_emulator.put("artefacts", below("service", SERVICE))
        running_emulator.put("whole", repository("one"))
        running_emulator.put("baked", {"repo/": ""})
        running_emulator.upload("baked", ROOT / "triton_repo", "repo/")
        yield running_emulator


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A working directory with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("uri", ["gs://artefacts/models", "gs://artefacts/models/"])
def test_a_model_repository_is_served_without_code(emulator: Emulator, tmp_path: Path, empty: Path, uri: str) -> None:
    with running(
        tmp_path / "log", service=None, folder=empty, AIP_STORAGE_URI=uri, STORAGE_EMULATOR_HOST=emulator.url
    ) as stack:
        stack.until(200)
        answer = stack.predict([[1, 2], [3, 4]], parameters={"model": "two"})
        assert (answer.status_code, answer.json()) == (200, {"predictions": [[1, 2], [3, 4]]})
        assert requests.get(f"{stack.url}/v1/models", timeout=5).json() == {"models": ["one", "two"]}
        environ = Path(f"/proc/{stack.triton_pid()}/environ").read_bytes().split(b"\0")
        assert not [entry for entry in environ if entry.startswith(b"AIP_")]


@pytest.mark.parametrize("uri", ["gs://whole", "gs://whole/"])
def test_a_whole_bucket(emulator: Emulator, tmp_path: Path, empty: Path, uri: str) -> None:
    with running(
        tmp_path / "log", service=None, folder=empty, AIP_STORAGE_URI=uri, STORAGE_EMULATOR_HOST=emulator.url
    ) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]]).json() == {"predictions": [[1, 2]]}


def test_the_service_that_is_baked_in_uses_it(emulator: Emulator, tmp_path: Path) -> None:
    with running(
        tmp_path / "log",
        service=None,
        folder=ROOT,
        AIP_STORAGE_URI="gs://baked/repo",
        STORAGE_EMULATOR_HOST=emulator.url,
    ) as stack:
        stack.until(200)
        assert stack.predict([[0, 16] * 32]).json()["predictions"][0].keys() == {"digit", "score", "scores"}


def test_a_whole_service_with_its_handlers(emulator: Emulator, tmp_path: Path) -> None:
    """It wins over the one in the working directory."""
    with running(
        tmp_path / "log",
        service=None,
        folder=ROOT,
        AIP_STORAGE_URI="gs://artefacts/service/",
        STORAGE_EMULATOR_HOST=emulator.url,
    ) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]]).json() == {"predictions": [[2, 4]]}


def test_a_repository_on_the_command_line_wins(emulator: Emulator, tmp_path: Path) -> None:
    """And the listener.yaml that happens to be in the working directory is not its."""
    with running(
        tmp_path / "log",
        service=None,
        folder=ROOT,
        LISTENER_REPOSITORY="gs://artefacts/models",
        LISTENER_DEFAULT_MODEL="two",
        AIP_STORAGE_URI="gs://nowhere/at-all",
        STORAGE_EMULATOR_HOST=emulator.url,
    ) as stack:
        stack.until(200)
        assert stack.predict([[1, 2]]).json() == {"predictions": [[1, 2]]}
        assert requests.get(f"{stack.url}/v1/models", timeout=5).json() == {"models": ["one", "two"]}


def test_the_port_answers_while_it_is_fetched(emulator: Emulator, tmp_path: Path, empty: Path) -> None:
    with (
        closed(emulator.url) as gate,
        running(
            tmp_path / "log",
            service=None,
            folder=empty,
            AIP_STORAGE_URI="gs://whole",
            STORAGE_EMULATOR_HOST=gate.url,
        ) as stack,
    ):
        stack.until(503)
        time.sleep(2)
        assert stack.health() == (503, {"status": "downloading", "missing": [BEING_FETCHED]})
        refusal = stack.predict([[1, 2]])
        assert (refusal.status_code, refusal.json()) == (503, {"error": "the listener is downloading"})
        assert not [pid for pid in descendants(stack.process.pid) if "tritonserver" in command_line(pid)]
        gate.open()
        stack.until(200)
        assert stack.predict([[1, 2]]).json() == {"predictions": [[1, 2]]}


WRONG = {
    "gs://nowhere/models": "there is no bucket 'nowhere'; check the name",
    "gs://whole/models": "nothing lies there; check bucket and prefix, and that the upload is complete",
    "gs://artefacts/service/handlers": "is nothing that can be served; found are doubled.py; expected is a Triton "
    "model repository (a folder for each model, with config.pbtxt or a version folder such as 1), a service (a "
    "folder with listener.yaml), or one model's folder or version folder; name the folder that holds the models",
}


@pytest.mark.parametrize(("uri", "sentence"), WRONG.items(), ids=WRONG.keys())
def test_what_cannot_be_served_ends_the_start_with_one_sentence(
    emulator: Emulator, tmp_path: Path, empty: Path, uri: str, sentence: str
) -> None:
    (tmp_path / "tmp").mkdir()
    with running(
        tmp_path / "log",
        service=None,
        folder=empty,
        AIP_STORAGE_URI=uri,
        STORAGE_EMULATOR_HOST=emulator.url,
        LISTENER_LOG_FORMAT="human",
        TMPDIR=str(tmp_path / "tmp"),
    ) as stack:
        assert stack.process.wait(30) == 1
        assert stack.output().count(f"{uri}/: {sentence}\n") == 1
        assert "Traceback" not in stack.output()
    assert list((tmp_path / "tmp").iterdir()) == []
