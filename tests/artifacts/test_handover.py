"""Who lives says where the repository lies; what a dead process left is not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from listener.artifacts import handover
from listener.artifacts.handover import Handover, look

pytestmark = pytest.mark.usefixtures("temporary")

URL = "http://127.0.0.1:7777"


def test_nobody_has_said_anything() -> None:
    assert look(URL) is None


def test_what_is_announced_is_seen_until_it_is_taken_back(temporary: Path) -> None:
    writer = Handover(URL)
    writer.announce(Path("/srv/modèles a"))
    assert look(URL) == Path("/srv/modèles a")
    assert look("http://localhost:7777") == Path("/srv/modèles a")
    assert look("http://127.0.0.1:7778") is None
    writer.close()
    assert look(URL) is None
    assert list(temporary.iterdir()) == []


def test_a_path_that_is_no_text(temporary: Path) -> None:
    writer = Handover(URL)
    path = Path(os.fsdecode(b"/srv/\xff\n"))
    writer.announce(path)
    assert look(URL) == path
    writer.close()


def test_the_last_word_counts(temporary: Path) -> None:
    first, second = Handover(URL), Handover(URL)
    first.announce(Path("/a"))
    first.announce(Path("/b"))
    assert look(URL) == Path("/b")
    second.announce(Path("/c"))
    first.close()  # not the other's
    assert look(URL) == Path("/c")
    second.close()
    assert list(temporary.iterdir()) == []


def test_looking_disturbs_neither_the_writer_nor_others() -> None:
    writer = Handover(URL)
    writer.announce(Path("/a"))
    assert {look(URL) for _ in range(50)} == {Path("/a")}
    writer.close()
    writer.close()


SAYS = """
import sys, time
from pathlib import Path
from listener.artifacts.handover import Handover
writer = Handover(sys.argv[1])
writer.announce(Path("/old"))
print("said", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_said_does_not_count_and_goes(temporary: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SAYS, URL], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"said\n"
    assert look(URL) == Path("/old")
    process.kill()
    process.wait()
    process.stdout.close()
    assert look(URL) is None
    writer = Handover("http://127.0.0.1:7778")
    writer.announce(Path("/new"))
    assert (look(URL), look("http://127.0.0.1:7778")) == (None, Path("/new"))
    writer.close()
    assert list(temporary.iterdir()) == []


def test_a_file_of_somebody_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Handover(URL)
    writer.announce(Path("/a"))
    file = handover._file(URL)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    monkeypatch.setattr(handover, "_file", lambda url: file)
    assert look(URL) is None
    monkeypatch.undo()
    writer.close()


def test_a_link_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    writer = Handover(URL)
    writer.announce(Path("/a"))
    file = handover._file(URL)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert look(URL) is None
    writer.close()
