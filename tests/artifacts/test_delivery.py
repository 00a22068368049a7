"""From a place in Cloud Storage to a folder on this machine and back to nothing: the real process that fetches."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from listener.artifacts import choice
from listener.artifacts.delivery import Delivery
from listener.artifacts.handover import look
from listener.errors import ConfigError
from listener.process import children
from listener.settings import Settings
from tests.artifacts.emulator import Emulator
from tests.artifacts.refusing import refusing
from tests.integration.stack import command_line

URL = "http://127.0.0.1:7777"


def configured(name: str, **more: Any) -> Settings:
    return Settings(repository=f"gs://{name}/models", triton_url=URL, **more)


@asynccontextmanager
async def delivery(settings: Settings, remove: bool = True) -> AsyncIterator[Delivery]:
    made = Delivery(settings)
    try:
        yield made
    finally:
        await made.close(remove=remove)


@pytest.fixture
def models(emulator: Emulator, request: pytest.FixtureRequest) -> str:
    """The name of a bucket with a model repository."""
    name = f"delivery-{zlib.crc32(request.node.name.encode())}"
    emulator.put(name, {"models/digits/config.pbtxt": "name: 'digits'"})
    return name


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_what_is_delivered_is_announced_and_goes_with_the_end(models: str, temporary: Path) -> None:
    settings = configured(models, default_model="digits")
    async with delivery(settings) as made:
        assert choice.present(settings) is None
        service = await made.service()
        assert (service.default, service.routes) == ("digits", {})
        assert (service.repository / "digits/config.pbtxt").read_text() == "name: 'digits'"
        assert look(URL) == service.repository
        assert choice.present(settings) == service
    assert look(URL) is None
    assert left(temporary) == []


async def test_what_is_kept_for_the_next_start_is_not_announced_meanwhile(models: str, temporary: Path) -> None:
    async with delivery(configured(models), remove=False) as made:
        folder = (await made.service()).repository
        written = (folder / "digits/config.pbtxt").stat().st_mtime_ns
    assert look(URL) is None
    async with delivery(configured(models)) as made:
        assert (await made.service()).repository == folder
        assert (folder / "digits/config.pbtxt").stat().st_mtime_ns == written
    assert left(temporary) == []


async def test_a_named_folder_keeps_it(models: str, temporary: Path, tmp_path: Path) -> None:
    async with delivery(configured(models, artifacts=str(tmp_path / "kept"))) as made:
        folder = (await made.service()).repository
    assert folder.is_relative_to(tmp_path / "kept")
    assert (folder / "digits/config.pbtxt").exists()
    assert left(temporary) == []


async def test_a_whole_service(emulator: Emulator, temporary: Path) -> None:
    emulator.put(
        "delivery-service",
        {"models/listener.yaml": "routes: {digits: }\n", "models/triton_repo/digits/config.pbtxt": "name: 'digits'"},
    )
    async with delivery(configured("delivery-service")) as made:
        service = await made.service()
        assert service.routes["digits"].line == 1
        assert service.repository == service.folder / "triton_repo"
        assert look(URL) == service.folder


async def test_a_service_without_its_repository(emulator: Emulator, temporary: Path) -> None:
    emulator.put("delivery-half", {"models/listener.yaml": "routes: {digits: }\n"})
    async with delivery(configured("delivery-half")) as made:
        with pytest.raises(ConfigError, match=r"triton_repo: no such folder; 'repository' in listener\.yaml names"):
            await made.service()
        assert look(URL) is None
    assert left(temporary) == []


async def test_a_refusal_comes_through_and_leaves_nothing(emulator: Emulator, temporary: Path) -> None:
    async with delivery(configured("delivery-nowhere")) as made:
        with pytest.raises(ConfigError) as caught:
            await made.service()
    assert caught.value.mistakes == (
        "gs://delivery-nowhere/models/: there is no bucket 'delivery-nowhere'; check the name",
    )
    assert left(temporary) == []


async def test_a_fetch_can_be_stopped_at_any_time(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client repeats a 503 for a minute; the stop does not wait for that."""
    with refusing(503) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        async with delivery(configured("anything")) as made:
            fetching = asyncio.create_task(made.service())
            async with asyncio.timeout(10):
                while not [pid for pid in children(os.getpid()) if "listener.artifacts.fetch" in command_line(pid)]:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1.5)
                assert not fetching.done()
                fetching.cancel()
                await made.close()
        assert [pid for pid in children(os.getpid()) if "listener.artifacts.fetch" in command_line(pid)] == []
    assert left(temporary) == []


async def test_a_process_that_says_nothing(models: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.artifacts.delivery.sys.executable", "/bin/false")
    async with delivery(configured(models)) as made:
        with pytest.raises(ConfigError, match="the process that fetches it ended with status 1; its log says why"):
            await made.service()


async def test_one_that_is_killed_each_time_is_given_up(
    models: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a kernel without memory."""
    program = tmp_path / "killed"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr("listener.artifacts.delivery.sys.executable", str(program))
    monkeypatch.setattr("listener.process.Backoff.after_exit", quick := Quick())
    async with delivery(configured(models)) as made:
        with pytest.raises(ConfigError, match="the process that fetches it ended with status 137; its log says why"):
            await made.service()
    assert quick.asked == 3
    assert caplog.text.count("what fetches was killed (status 137); it goes on in 0.01 s") == 2


class Quick:
    """A back-off without waiting; it gives up at the third failure."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, was_ready: bool) -> float | None:
        self.asked += 1
        return None if self.asked == 3 else 0.01
