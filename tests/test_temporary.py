"""The temporary folder: the same one for each process, whatever its state, and one sentence where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from listener import temporary
from listener.artifacts import handover
from listener.artifacts.handover import Handover
from listener.artifacts.store import Store
from listener.errors import ConfigError
from listener.triton.regions import Regions, sweep

NONE = "no temporary folder can be written (/proc/named, /proc/one, /proc/two); mount a tmpfs at /tmp, or name a folder"
URL = "http://127.0.0.1:7777"


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders in the stead of the usual ones, and nothing in TMPDIR."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(temporary, "_USUAL", (str(one), str(two)))
    return one, two


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder that anybody could write to, root included."""
    monkeypatch.setenv("TMPDIR", "/proc/named")
    monkeypatch.setattr(temporary, "_USUAL", ("/proc/one", "/proc/two"))


def test_the_named_one_comes_first_and_then_the_usual_ones(
    usual: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = usual
    assert temporary.folder() == one
    one.rmdir()
    assert temporary.folder() == two
    monkeypatch.setenv("TMPDIR", "/proc/1")  # there, and nobody may write to it
    assert temporary.folder() == two
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary.folder() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", ".")
    assert temporary.folder() == tmp_path


@pytest.mark.usefixtures("none")
@pytest.mark.parametrize(
    "asked", [temporary.folder, Regions, lambda: Handover(URL), lambda: handover.look(URL), lambda: Store("", "key")]
)
def test_without_one_the_sentence_says_what_to_do(asked: Callable[[], object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        asked()
    assert caught.value.mistakes == (f"{NONE} in TMPDIR",)


@pytest.mark.usefixtures("none")
def test_without_one_shared_memory_is_swept_as_ever(tmp_path: Path) -> None:
    (tmp_path / "listener-py-00000000.lock").touch()
    (tmp_path / "listener-py-00000000_region").touch()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from listener.artifacts.handover import Handover
from listener.errors import ConfigError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    Handover(sys.argv[1]).announce(Path("/srv"))
except ConfigError as error:
    print(error)
"""


def test_a_word_for_which_there_is_no_room_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    said = subprocess.run([sys.executable, "-c", FULL, URL], capture_output=True, text=True, check=False)
    assert said.stdout == (
        f"{tmp_path}: cannot be written: File too large; make room there, or name another temporary folder in TMPDIR\n"
    ), said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_went_leaves_no_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there, shm = tmp_path / "there", tmp_path / "shm"
    there.mkdir()
    shm.mkdir()
    monkeypatch.setenv("TMPDIR", str(there))
    regions = Regions(shm)
    there.rmdir()
    with pytest.raises(ConfigError, match=f"{there}: cannot be written: No such file or directory; make room"):
        regions.__enter__()
    assert list(shm.iterdir()) == []


def test_a_private_folder_and_those_above_it_are_this_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "there").mkdir(mode=0o755)
        for _ in range(2):
            temporary.private(tmp_path / "there/one/two")
    finally:
        os.umask(before)
    modes = [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("there", "there/one", "there/one/two")]
    assert modes == ["0o755", "0o700", "0o700"]


def test_a_private_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/folder"):
        with pytest.raises(OSError, match="file"):
            temporary.private(tmp_path / name)
