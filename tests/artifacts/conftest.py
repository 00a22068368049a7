from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import emulator as emulators
from tests.artifacts.emulator import Emulator


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As delivery.py does: no thread of Google's client that asks for the bucket's location."""
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture(scope="session")
def one_emulator() -> Iterator[Emulator]:
    with emulators.running() as running:
        yield running


@pytest.fixture
def emulator(one_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, to which Google's client goes in this test. Tests take buckets of names of their own."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", one_emulator.url)
    return one_emulator


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test and of what it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
