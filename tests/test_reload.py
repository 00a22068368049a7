"""`--reload`, as far as it is ready to begin: what it refuses and what it changes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from listener import reload, settings
from listener.errors import ConfigError
from listener.settings import Settings


@pytest.fixture
def service(tmp_path: Path) -> Path:
    (tmp_path / "listener.yaml").write_text("routes:\n  a:\n    model: a\n")
    return tmp_path


def configured(folder: Path, **more: Any) -> Settings:
    return Settings(service=str(folder), reload=True, **more)


def test_without_it_nothing_is_asked_and_nothing_changes(tmp_path: Path) -> None:
    given = Settings(service=str(tmp_path), repository="gs://bucket/models")
    assert reload.prepared(given) is given


def test_the_drain_is_short_and_a_shorter_one_stays(service: Path) -> None:
    assert reload.prepared(configured(service)).drain_timeout == 5
    assert reload.prepared(configured(service, drain_timeout=1.0)).drain_timeout == 1


def test_what_is_fetched_cannot_be_edited(service: Path) -> None:
    with pytest.raises(ConfigError, match="--reload: gs://bucket/models is fetched from Cloud Storage, so there is"):
        reload.prepared(configured(service, storage_uri="gs://bucket/models"))


def test_the_package_that_is_missing_is_named(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        reload.prepared(configured(service))
    assert caught.value.mistakes == ("--reload needs watchfiles: pip install 'triton-listener[reload]'",)


def test_a_mistake_that_is_there_already_is_waited_for(service: Path) -> None:
    (service / "listener.yaml").write_text("routs: {}\n")
    reload.prepared(configured(service))


def test_a_folder_without_a_service_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"listener\.yaml: no such file; a service is a folder with"):
        reload.prepared(configured(tmp_path))


def test_on_the_platform_it_warns(
    service: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reload.prepared(configured(service))
    assert caplog.records == []
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    reload.prepared(configured(service))
    (record,) = caplog.records
    assert record.message.startswith("--reload is for development")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("True", True), ("on", True), ("false", False), ("0", False)])
def test_the_variable_takes_the_usual_words(text: str, value: bool) -> None:
    assert settings.read({"LISTENER_RELOAD": text}).reload is value


def test_the_variable_refuses_others() -> None:
    with pytest.raises(ConfigError, match="LISTENER_RELOAD: 'maybe' is neither true nor false"):
        settings.read({"LISTENER_RELOAD": "maybe"})


def test_the_repository_is_the_one_that_listener_yaml_names_now(service: Path) -> None:
    with pytest.raises(ConfigError, match="triton_repo: no such folder"):
        reload.repository(configured(service))
    (service / "models").mkdir()
    (service / "listener.yaml").write_text("repository: models\n")
    assert reload.repository(configured(service)) == service / "models"


def test_a_mistake_in_listener_yaml_is_left_to_the_workers_to_tell(service: Path) -> None:
    (service / "listener.yaml").write_text("routs: {}\n")
    with pytest.raises(ConfigError) as caught:
        reload.repository(configured(service))
    assert caught.value.mistakes == ()


def test_a_file_that_an_editor_made_and_renamed_is_not_named(tmp_path: Path) -> None:
    saved, beside = tmp_path / "houses.py", tmp_path / "sedNsV3ap"
    saved.touch()
    assert reload._there({saved, beside}) == {saved}
    assert reload._there({beside}) == {beside}  # all are gone
