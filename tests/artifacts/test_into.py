"""`listener fetch`: the folder is complete or as it was; real processes, from the emulator."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from listener.artifacts import bucket, into
from listener.artifacts.bucket import Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.into import Target
from listener.artifacts.store import Store
from listener.errors import ConfigError
from tests.artifacts.emulator import Emulator
from tests.artifacts.gate import closed, slow
from tests.artifacts.refusing import refusing
from tests.integration.stack import ROOT, command_line, wait_for

MODELS: dict[str, bytes | str] = {
    "models/digits/config.pbtxt": "name: 'digits'",
    "models/digits/1/model.onnx": bytes(range(256)) * 4_000,
    "models/both/config.pbtxt": "platform: 'ensemble'",
    "models/both/1/": "",
}


@pytest.fixture
def name(emulator: Emulator, request: pytest.FixtureRequest) -> str:
    """A bucket with a model repository."""
    name = f"into-{zlib.crc32(request.node.name.encode())}"
    emulator.put(name, MODELS)
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here/models"


def run(uri: str, *more: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "listener", "fetch", uri, *map(str, more)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LISTENER_LOG_LEVEL": "warning", **env},
    )


def begun(name: str, folder: Path, url: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """A fetch that is on its way, from behind a gate."""
    return subprocess.Popen(
        [sys.executable, "-m", "listener", "fetch", f"gs://{name}/models", str(folder)],
        stderr=stderr,
        text=True,
        env={**os.environ, "STORAGE_EMULATOR_HOST": url},
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lying() -> dict[str, bytes]:
    texts = {name: text.encode() if isinstance(text, str) else text for name, text in MODELS.items()}
    return {name.removeprefix("models/"): text for name, text in texts.items() if not name.endswith("/")}


def fetched(name: str, folder: Path) -> into.Plan:
    """In this process."""
    place = bucket.parse(f"gs://{name}/models")
    return into.fetch(place, Target(folder, place), Cloud())


def refusal(name: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        fetched(name, folder)
    (sentence,) = caught.value.mistakes
    return sentence


def test_the_whole_of_a_place_and_a_second_run(name: str, folder: Path) -> None:
    first = run(f"gs://{name}/models", folder)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"{folder}: fetched 3 files, 1.0 MB in ")
    assert first.stdout.endswith(" MB/s; unchanged: 0 files, 0 bytes\n")
    assert files(folder) == lying()
    assert (folder / "both/1").is_dir()
    assert sorted(path.name for path in folder.parent.iterdir()) == [".models.listener", "models"]
    second = run(f"gs://{name}/models/", folder)
    assert (second.returncode, second.stdout) == (
        0,
        f"{folder}: nothing has changed; unchanged: 3 files, 1.0 MB\n",
    )


def test_what_has_changed_alone_is_fetched(emulator: Emulator, name: str, folder: Path) -> None:
    run(f"gs://{name}/models", folder)
    inode = (folder / "digits/1/model.onnx").stat().st_ino
    emulator.put(name, {"models/digits/config.pbtxt": "name: 'digits' # new", "models/digits/notes": "x"})
    emulator._client.bucket(name).delete_blob("models/both/config.pbtxt")
    emulator._client.bucket(name).delete_blob("models/both/1/")
    done = run(f"gs://{name}/models", folder)
    assert done.stdout.startswith(f"{folder}: fetched 2 files, 21 bytes in ")
    assert done.stdout.endswith("; unchanged: 1 file, 1.0 MB; no longer there: 1\n")
    wanted = {**lying(), "digits/config.pbtxt": b"name: 'digits' # new", "digits/notes": b"x"}
    wanted.pop("both/config.pbtxt")
    assert files(folder) == wanted
    assert (folder / "digits/1/model.onnx").stat().st_ino == inode
    assert not (folder / "both").exists()
    assert len(list((folder.parent / ".models.listener").glob("*.json"))) == 1


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(emulator: Emulator, name: str, folder: Path) -> None:
    dry = run(f"gs://{name}/models", folder, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.splitlines() == [
        "fetch           20 bytes  both/config.pbtxt",
        "fetch             1.0 MB  digits/1/model.onnx",
        "fetch           14 bytes  digits/config.pbtxt",
        "to fetch: 3 files, 1.0 MB; unchanged: 0 files, 0 bytes",
    ]
    assert not folder.parent.exists()
    run(f"gs://{name}/models", folder)
    emulator.put(name, {"models/digits/config.pbtxt": ""})
    emulator._client.bucket(name).delete_blob("models/both/config.pbtxt")
    before = files(folder.parent)
    assert run(f"gs://{name}/models", folder, "--dry-run").stdout.splitlines() == [
        "fetch            0 bytes  digits/config.pbtxt",
        "unchanged         1.0 MB  digits/1/model.onnx",
        "remove                    both/config.pbtxt",
        "to fetch: 1 file, 0 bytes; unchanged: 1 file, 1.0 MB; no longer there: 1",
    ]
    assert files(folder.parent) == before


def test_an_empty_folder_and_a_link_to_one(name: str, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    assert run(f"gs://{name}/models", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert files(folder) == lying()


def test_a_file_that_went_is_fetched_again_and_what_running_left_goes(name: str, folder: Path) -> None:
    fetched(name, folder)
    (folder / "digits/config.pbtxt").unlink()
    (folder / "digits/__pycache__").mkdir()
    (folder / "digits/__pycache__/a.pyc").touch()
    assert list(fetched(name, folder).fetched) == ["digits/config.pbtxt"]
    assert files(folder) == lying()


# What is refused


def test_a_folder_of_somebody_else(name: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    done = run(f"gs://{name}/models", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"listener: {folder}: is not empty, and nothing says that it was fetched; name another folder, or empty it\n"
    )
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("path", ["digits/config.pbtxt", "digits/mine"])
def test_what_a_person_changed_is_not_lost(name: str, folder: Path, path: str) -> None:
    fetched(name, folder)
    (folder / path).write_text("mine")
    assert refusal(name, folder) == (
        f"{folder}: {path} was changed or added after the fetch, and would be lost; remove it, or name another folder"
    )
    assert (folder / path).read_text() == "mine"


def test_another_place(emulator: Emulator, name: str, folder: Path) -> None:
    fetched(name, folder)
    emulator.put(f"{name}-b", MODELS)
    assert refusal(f"{name}-b", folder) == (
        f"{folder}: holds what was fetched from gs://{name}/models/; name another folder"
    )


def test_a_file_the_current_folder_and_a_folder_that_cannot_be(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert refusal(name, Path("file")) == "file: is a file; name a folder"
    assert refusal(name, Path(".")) == (
        ".: is the current folder, and is replaced as a whole; name a folder inside of it"
    )
    assert refusal(name, Path("/dev/shm")).startswith("/dev/shm: is a mount point, and is replaced as a whole; ")
    assert (
        refusal(name, Path("file/models"))
        == f"file/models: cannot be written: Not a directory ({tmp_path}/file/.models.listener)"
    )
    assert refusal(name, Path("/proc/models")).startswith("/proc/models: cannot be written: No such file or directory")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("gs://into-nowhere/models", "gs://into-nowhere/models/: there is no bucket 'into-nowhere'; check the name"),
        ("models", "'models' is no place in Cloud Storage; what is fetched is gs://BUCKET/PREFIX"),
        ("s3://models", "'s3://models' is neither a folder nor gs://BUCKET or gs://BUCKET/PREFIX, with a bucket's "),
        (
            "gs://NAME/nothing",
            "gs://NAME/nothing/: nothing lies there; check bucket and prefix, and that the upload is complete",
        ),
        ("gs://NAME", "gs://NAME/: is nothing that can be served; found are models/; expected is a Triton model "),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["wet", "dry"])
def test_a_place_that_cannot_be_fetched(name: str, folder: Path, uri: str, sentence: str, more: list[str]) -> None:
    done = run(uri.replace("NAME", name), folder, *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"listener: {sentence.replace('NAME', name)}")
    assert done.stderr.count("\n") == 1
    assert not folder.exists()


def test_no_permission(folder: Path) -> None:
    with refusing(403) as url:
        done = run("gs://anything/models", folder, STORAGE_EMULATOR_HOST=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "listener: gs://anything/models/: may not be read without credentials, and there are none; run with a service "
        "account, or `gcloud auth application-default login`\n"
    )


def test_no_room(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free", 1_000_000)
    assert refusal(name, folder) == (f"gs://{name}/models/: 1.0 MB do not fit beside {folder}, where 1.0 MB are free")


# Complete or unchanged


def test_what_fails_on_the_way_changes_nothing(
    emulator: Emulator, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(name, folder)
    emulator.put(name, {"models/digits/config.pbtxt": "new", "models/digits/2/model.onnx": "new"})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr(into, "transfer", fail)
        assert refusal(name, folder) == f"{folder}: cannot be written: No space left on device (x)"
    assert files(folder) == lying()
    fetched(name, folder)
    assert files(folder) == {**lying(), "digits/config.pbtxt": b"new", "digits/2/model.onnx": b"new"}


@pytest.mark.parametrize("dies_in", ["_exchange", "rmtree"])
def test_a_death_at_the_change_leaves_one_state_that_is_known(
    emulator: Emulator, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    fetched(name, folder)
    emulator.put(name, {"models/digits/config.pbtxt": "new"})

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(into if dies_in == "_exchange" else shutil, dies_in, die)
        fetched(name, folder)
    new = {**lying(), "digits/config.pbtxt": b"new"}
    assert files(folder) == (lying() if dies_in == "_exchange" else new)
    fetched(name, folder)
    assert files(folder) == new
    assert fetched(name, folder).is_nothing


def test_a_system_that_cannot_exchange(
    emulator: Emulator, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(name, folder)
    emulator.put(name, {"models/digits/config.pbtxt": "new"})
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    fetched(name, folder)
    assert files(folder) == {**lying(), "digits/config.pbtxt": b"new"}


@pytest.mark.parametrize("later", [0.0, 0.05, 0.2, 0.5, 1.0, 1.5])
def test_ctrl_c_at_any_moment(emulator: Emulator, name: str, folder: Path, later: float) -> None:
    """From the start of the process that fetches, so while it imports and asks, and where an exception is forgotten."""
    with closed(emulator.url) as gate:
        process = begun(name, folder, gate.url)
        wait_for(lambda: "listener.artifacts.into" in command_line(process.pid), 20)
        time.sleep(later)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, f"listener: stopped; {folder} is as it was\n")


def test_ctrl_c_too_late_is_none(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """While the folder is replaced."""
    taken = Target.take

    def take(self: Target, made: Path, items: Mapping[str, Item]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        taken(self, made, items)

    monkeypatch.setattr(Target, "take", take)
    fetched(name, folder)
    assert files(folder) == lying()
    with pytest.raises(KeyboardInterrupt):  # the handler is the one from before
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c(emulator: Emulator, name: str, folder: Path) -> None:
    with closed(emulator.url) as gate:
        process = begun(name, folder, gate.url)
        wait_for(lambda: (folder.parent / ".models.listener").exists(), 20)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, f"listener: stopped; {folder} is as it was\n")
    assert not folder.exists()


def test_a_death_on_the_way_leaves_the_old_state_and_the_next_run_makes_the_new_one(
    emulator: Emulator, name: str, folder: Path
) -> None:
    fetched(name, folder)
    emulator.put(name, {"models/digits/config.pbtxt": "new", "models/digits/2/model.onnx": bytes(2_000_000)})
    with slow(emulator.url, 0.1) as gate:
        for patience in (0.0, 0.4, 0.9):
            process = begun(name, folder, gate.url, stderr=subprocess.DEVNULL)
            wait_for(lambda: bool(list((folder.parent / ".models.listener").glob("*/*.partial"))), 20)
            time.sleep(patience)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert files(folder) == lying()
    assert run(f"gs://{name}/models", folder).returncode == 0
    assert files(folder) == {**lying(), "digits/config.pbtxt": b"new", "digits/2/model.onnx": bytes(2_000_000)}
    assert [path.name for path in (folder.parent / ".models.listener").glob("*/*")] == []
