from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import emulator as emulators
from tests.artifacts import faults
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Proxy
from tests.artifacts.fetching import Place, repository


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
    return folder


@pytest.fixture
def proxy(emulator: Emulator) -> Iterator[Proxy]:
    """In front of the emulator; it fails as the test tells it to."""
    with faults.proxy(emulator.url) as running:
        yield running


@pytest.fixture(scope="session")
def shared(one_emulator: Emulator) -> str:
    """The name of a bucket with the repository of fetching.py, for tests that do not change it."""
    one_emulator.put("faults", dict(repository()))
    return "faults"


@pytest.fixture
def place(shared: str, proxy: Proxy, tmp_path: Path) -> Place:
    return Place(proxy, shared, tmp_path / "artifacts")


@pytest.fixture
def own(emulator: Emulator, proxy: Proxy, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """The same repository in a bucket of this test's own, in which objects may be replaced."""
    name = f"faults-{zlib.crc32(request.node.name.encode())}"
    emulator.put(name, dict(repository()))
    return Place(proxy, name, tmp_path / "artifacts")
