"""What the listener makes on a machine is its user's alone, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.stops import claims
from tests.artifacts import emulator as emulators
from tests.artifacts.echo import below, repository
from tests.artifacts.emulator import Emulator
from tests.artifacts.gate import slow
from tests.integration.stack import SHM, running, wait_for

pytestmark = pytest.mark.triton

#: A umask that takes nothing away.
OPEN = ["sh", "-c", 'umask 000; exec "$@"', "sh"]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with emulators.running() as running_emulator:
        running_emulator.put("models", below("repo", repository("one")))
        running_emulator.put("models", {"repo/one/1/weights": bytes(2_000_000)})
        yield running_emulator


def open_to_others(*folders: Path) -> list[str]:
    """What others may read or write of what is below these folders: a folder that is closed closes all below it."""
    found = list[str]()
    for folder in folders:
        for entry in os.scandir(folder):
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                continue
            if mode & 0o077:
                found.append(f"{entry.path}: {stat.filemode(mode)}")
                if stat.S_ISDIR(mode):
                    found += open_to_others(Path(entry.path))
    return found


def in_shared_memory(prefixes: set[str]) -> dict[str, str]:
    """The modes of names in shared memory."""
    return {
        path.name: oct(path.stat().st_mode & 0o777) for path in SHM.iterdir() if path.name.startswith(tuple(prefixes))
    }


@pytest.mark.parametrize("keeps", [False, True], ids=["in the temporary folder", "in LISTENER_ARTIFACTS"])
def test_nothing_that_is_made_is_open_to_others(tmp_path: Path, emulator: Emulator, keeps: bool) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "volume").mkdir()
    env = {"TMPDIR": str(tmp_path / "tmp"), "LISTENER_REPOSITORY": "gs://models/repo"}
    if keeps:
        env["LISTENER_ARTIFACTS"] = str(tmp_path / "volume/models/here")
    places = (tmp_path / "tmp", tmp_path / "volume")
    with slow(emulator.url, 0.1) as gate:
        env["STORAGE_EMULATOR_HOST"] = gate.url
        with running(tmp_path / "log", "up", None, tmp_path, OPEN, **env) as stack:
            progress = (tmp_path / "volume") if keeps else (tmp_path / "tmp")
            wait_for(lambda: bool([*progress.rglob("progress")]), 30, stack.output)
            assert open_to_others(*places) == []
            stack.until(200)
            assert stack.predict([[1, 2]]).status_code == 200
            assert open_to_others(*places) == []
            made = {path.name for place in places for path in place.iterdir()}
            assert len(made) > 1, made
            assert len(in_shared_memory(claims(stack))) > 3
            # Triton's regions are changed when the parent sees that it is ready, which is not when a worker does
            wait_for(lambda: set(in_shared_memory(claims(stack)).values()) == {"0o600"}, 5)


def test_what_is_fetched_into_a_folder_is_not_open_to_others(tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "models").mkdir()
    argv = [*OPEN, sys.executable, "-m", "listener", "fetch", "gs://models/repo", str(tmp_path / "models/made/here")]
    env = {**os.environ, "STORAGE_EMULATOR_HOST": emulator.url}
    for _ in range(2):  # the second time files are linked
        subprocess.run(argv, env=env, check=True, timeout=60)
        assert (tmp_path / "models/made/here/one/config.pbtxt").is_file()
        assert open_to_others(tmp_path / "models") == []
        emulator.put("models", {"repo/one/1/other": b"x"})


def test_it_is_seen(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/file").touch(0o666)
    assert open_to_others(tmp_path) == []
    (tmp_path / "file").touch(0o604)
    assert open_to_others(tmp_path) == [f"{tmp_path}/file: -rw----r--"]
