"""Contract, item 3: `AIP_STORAGE_URI` unset, empty, and a local folder, which the SDK's local runner may give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import models
from tests.contract.container import running

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("here")]

#: How an entry process may end that has nothing to serve, in seconds.
PATIENCE = 20


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return models.write(tmp_path / "artefacts", [models.DEFAULT])


@pytest.mark.parametrize("uri", [None, ""], ids=["unset", "empty"])
def test_without_artefacts_the_repository_of_the_command_line_is_served(
    small: Path, tmp_path: Path, uri: str | None
) -> None:
    with running(tmp_path / "run", "--repository", str(small), AIP_STORAGE_URI=uri) as container:
        assert container.ready().predictions([[1.0]]) == [[1.0]]


@pytest.mark.parametrize("end", ["", "/"], ids=["without a slash", "with a slash"])
def test_a_local_folder_is_served(small: Path, tmp_path: Path, end: str) -> None:
    with running(tmp_path / "run", AIP_STORAGE_URI=f"{small}{end}") as container:
        assert container.ready().predictions([[1.0]]) == [[1.0]]


def test_the_variable_may_stand_on_the_command_line(small: Path, tmp_path: Path) -> None:
    """As the platform expands `args: ["--repository=$(AIP_STORAGE_URI)"]`."""
    with running(tmp_path / "run", f"--repository={small}", AIP_STORAGE_URI=str(small)) as container:
        assert container.ready().predictions([[1.0]]) == [[1.0]]


@pytest.mark.parametrize("uri", [None, ""], ids=["unset", "empty"])
def test_with_nothing_to_serve_the_start_ends_with_a_sentence(tmp_path: Path, uri: str | None) -> None:
    with running(tmp_path / "run", AIP_STORAGE_URI=uri) as container:
        assert container.process.wait(PATIENCE) == 1
        assert "listener.yaml" in container.output() or "repository" in container.output()
        assert "Traceback" not in container.output()


def test_a_folder_that_is_not_there_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path / "run", AIP_STORAGE_URI=str(tmp_path / "nothing")) as container:
        assert container.process.wait(PATIENCE) == 1
        assert str(tmp_path / "nothing") in container.output()
        assert "Traceback" not in container.output()
