"""Which service follows from the settings: every row of the table in docs/reference/settings.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from listener import settings as table
from listener.artifacts import choice
from listener.artifacts.handover import Handover
from listener.errors import ConfigError
from listener.service import Route, Service
from listener.settings import Settings

YAML = "repository: baked\ndefault: a\nroutes: {a: {model: x}, b: }\n"
A, B = Route("a", None, "x", 3), Route("b", None, None, 3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that is empty, beside a model repository and a whole service."""
    for file in ("models/digits/1/model.onnx", "service/inside/digits/1/model.onnx"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    (tmp_path / "service/listener.yaml").write_text("repository: inside\nroutes: {theirs: }\n")
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    return tmp_path


@pytest.fixture
def baked(here: Path) -> Path:
    """A service in the current folder, as in the image."""
    (here / "current/listener.yaml").write_text(YAML)
    return here


def served(**env: str) -> Service:
    found = choice.here(table.read({name: str(value) for name, value in env.items()}))
    assert found is not None
    return found


def test_nothing_is_named_and_the_service_is_served_as_it_is(baked: Path) -> None:
    current = baked / "current"
    assert served() == Service(current, current / "baked", "a", {"a": A, "b": B})
    assert served(AIP_STORAGE_URI="", LISTENER_REPOSITORY="") == served()


def test_nothing_is_named_and_there_is_no_service(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"current/listener\.yaml: no such file; a service is a folder with"):
        served()


@pytest.mark.parametrize("variable", ["LISTENER_REPOSITORY", "AIP_STORAGE_URI"])
@pytest.mark.parametrize("name", ["models", "models/"])
def test_a_model_repository_alone_is_served_without_code(here: Path, variable: str, name: str) -> None:
    assert served(**{variable: f"{here}/{name}"}) == Service(here / "models", here / "models", "", {})


def test_a_relative_path_is_taken_from_the_current_folder_on(here: Path) -> None:
    assert served(LISTENER_REPOSITORY="../models").repository == here / "models"


def test_the_default_of_a_model_repository(here: Path) -> None:
    assert served(LISTENER_REPOSITORY="../models", LISTENER_DEFAULT_MODEL="digits").default == "digits"


def test_a_repository_that_a_person_names_is_served_without_the_service_that_happens_to_be_here(baked: Path) -> None:
    assert served(LISTENER_REPOSITORY="../models").routes == {}


def test_a_repository_that_the_platform_names_is_that_of_the_service_that_is_baked_in(baked: Path) -> None:
    found = served(AIP_STORAGE_URI="../models")
    assert (found.folder, found.repository) == (baked / "current", baked / "models")
    assert found.routes == {"a": A, "b": B}


@pytest.mark.parametrize("variable", ["LISTENER_REPOSITORY", "AIP_STORAGE_URI"])
def test_a_service_that_is_named_beside_a_repository_uses_it(baked: Path, variable: str) -> None:
    found = served(**{variable: "../models", "LISTENER_SERVICE": "."})
    assert (found.folder, found.repository) == (baked / "current", baked / "models")
    assert found.routes == {"a": A, "b": B}


def test_the_service_that_is_named_has_to_exist(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/listener\.yaml: no such file"):
        served(LISTENER_REPOSITORY="../models", LISTENER_SERVICE="nowhere")


@pytest.mark.parametrize("variable", ["LISTENER_REPOSITORY", "AIP_STORAGE_URI"])
def test_a_whole_service_at_the_place_wins_over_the_one_that_is_here(baked: Path, variable: str) -> None:
    found = served(**{variable: "../service"})
    assert (found.folder, found.repository) == (baked / "service", baked / "service/inside")
    assert list(found.routes) == ["theirs"]


def test_a_service_that_is_named_gets_the_models_of_the_one_at_the_place(baked: Path) -> None:
    found = served(LISTENER_REPOSITORY="../service", LISTENER_SERVICE=".")
    assert (found.folder, found.repository) == (baked / "current", baked / "service/inside")
    assert found.routes == {"a": A, "b": B}


def test_a_person_wins_over_the_platform(here: Path) -> None:
    found = served(AIP_STORAGE_URI="gs://bucket/models", LISTENER_REPOSITORY="../models")
    assert found.repository == here / "models"


@pytest.mark.parametrize(
    ("name", "routes"),
    [("b", {"a": A, "b": B}), ("digits", {"a": A, "b": B, "digits": Route("digits")})],
    ids=["a route", "a model"],
)
def test_the_default_model_wins_over_the_file(baked: Path, name: str, routes: dict[str, Route]) -> None:
    found = served(LISTENER_DEFAULT_MODEL=name)
    assert (found.default, found.routes) == (name, routes)


def test_what_lies_at_the_place_is_named_as_it_was_written(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\.\./nowhere: no such folder; expected is a Triton model repository"):
        served(LISTENER_REPOSITORY="../nowhere")


def test_a_repository_that_does_not_exist(baked: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        choice.with_repository(served())
    assert caught.value.mistakes == (
        f"{baked}/current/baked: no such folder; 'repository' in listener.yaml names the model repository",
    )
    assert choice.with_repository(served(LISTENER_REPOSITORY="../models")).repository == baked / "models"


# What has to be fetched


def fetched(**more: Any) -> Settings:
    return Settings(storage_uri="gs://bucket/models", triton_url="http://127.0.0.1:7777", **more)


def test_what_is_in_cloud_storage_is_not_here_yet(baked: Path, temporary: Path) -> None:
    assert choice.here(fetched()) is None
    assert choice.present(fetched()) is None
    with pytest.raises(ConfigError) as caught:
        choice.local(fetched())
    assert caught.value.mistakes == (
        "gs://bucket/models: lies in Cloud Storage; name a folder on this machine with --repository",
    )


async def test_it_arrives_once_it_is_announced(here: Path, temporary: Path) -> None:
    waiting = asyncio.create_task(choice.arrived(fetched()))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    handover = Handover(fetched().triton_url)
    handover.announce(here / "models")
    found = await asyncio.wait_for(waiting, 5)
    assert found.repository == here / "models"
    assert choice.present(fetched()) == found
    handover.close()
    assert choice.present(fetched()) is None


async def test_what_was_fetched_for_the_platform_is_the_repository_of_the_baked_service(
    baked: Path, temporary: Path
) -> None:
    handover = Handover(fetched().triton_url)
    handover.announce(baked / "models")
    found = await asyncio.wait_for(choice.arrived(fetched()), 5)
    handover.close()
    assert (found.folder, found.repository) == (baked / "current", baked / "models")


async def test_what_is_here_needs_no_waiting(baked: Path) -> None:
    assert (await choice.arrived(Settings())).default == "a"
