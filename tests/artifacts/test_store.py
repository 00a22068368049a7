"""Folders that are complete as soon as they have a name, and that the last user removes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from listener.artifacts.store import Store
from listener.errors import ConfigError

KEY = "bucket-models-0123"


def fill(store: Store, digest: str, text: str = "x") -> Path:
    (store.partial(digest) / "file").write_text(text)
    return store.publish(digest)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_folder_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "artifacts"), KEY)
    with store.fetching():
        partial = store.partial("d1")
        (partial / "file").write_text("x")
        assert not store.published("d1").exists()
        assert store.publish("d1") == store.published("d1") == tmp_path / "artifacts" / KEY / "d1"
        assert not partial.exists()
        assert (store.published("d1") / "file").read_text() == "x"


def test_what_an_interrupted_fetch_left_of_another_state_is_gone_at_the_next(tmp_path: Path) -> None:
    store = Store(str(tmp_path), KEY)
    with store.fetching():
        for digest in ("d1", "d2"):
            (store.partial(digest) / "half").write_bytes(bytes(10_000))
            store.journal(digest).touch()
        store.partial("d2")
        assert names(tmp_path / KEY) == {"d2.partial", "d2.partial/half", "d2.parts"}
        assert (store.held("d1"), store.held("d2") >= 10_000) == (0, True)
        store.publish("d2")
        assert names(tmp_path / KEY) == {"d2", "d2/half"}


def test_what_is_fetched_is_for_its_user_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path), KEY)
    assert oct(store.partial("d1").stat().st_mode)[-3:] == "700"


def test_whether_case_counts_is_asked_of_the_file_system(tmp_path: Path) -> None:
    store = Store(str(tmp_path), KEY)
    store.partial("d1")
    (tmp_path / "x").touch()
    assert store.tells_case_apart("d1") is not (tmp_path / "X").exists()


def test_a_named_root_is_made_and_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a/b"), KEY)
    store.use()
    fill(store, "d1")
    store.remove()
    store.release()
    assert (store.published("d1") / "file").exists()


def test_a_relative_root_is_taken_from_the_current_folder_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("artifacts", KEY).root == tmp_path / "artifacts"


def test_a_temporary_root_goes_with_its_last_user(temporary: Path) -> None:
    one, other = Store("", KEY), Store("", KEY)
    one.use()
    other.use()
    folder = fill(one, "d1")
    assert oct(one.root.stat().st_mode)[-3:] == "700"
    one.remove()
    one.release()
    assert (folder / "file").exists()
    other.remove()
    other.release()
    assert list(temporary.iterdir()) == []


def test_another_places_folders_stay(temporary: Path) -> None:
    one, other = Store("", KEY), Store("", "other")
    one.use()
    other.use()
    fill(one, "d1")
    kept = fill(other, "d1")
    one.remove()
    one.release()
    assert (kept / "file").exists()
    assert {path.name for path in one.root.iterdir()} == {"other", "other.used"}
    other.remove()
    other.release()
    assert list(temporary.iterdir()) == []


def test_who_does_not_use_it_removes_nothing(temporary: Path) -> None:
    store, idle = Store("", KEY), Store("", KEY)
    store.use()
    folder = fill(store, "d1")
    store.release()
    idle.remove()
    assert folder.exists()


def test_a_folder_is_usable_again_after_it_was_removed(temporary: Path) -> None:
    store = Store("", KEY)
    for _ in range(3):
        store.use()
        with store.fetching():
            assert (fill(store, "d1") / "file").exists()
        store.remove()
        store.release()
    assert list(temporary.iterdir()) == []


CHURN = """
import sys
from listener.artifacts.store import Store
for n in range(int(sys.argv[1])):
    store = Store("", "key")
    store.use()
    with store.fetching():
        if not store.published("d").exists():
            (store.partial("d") / "file").write_text("x")
            store.publish("d")
    assert (store.published("d") / "file").read_text() == "x"
    store.remove()
    store.release()
"""


def test_users_that_come_and_go_do_not_pull_it_from_under_one_another(temporary: Path) -> None:
    """Four processes that use and remove the same folder all the time; whoever uses it must find it."""
    processes = [subprocess.Popen([sys.executable, "-c", CHURN, "150"]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert list(temporary.iterdir()) == []


def test_one_fetches_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "listener.artifacts")
    inside, order = threading.Event(), list[str]()

    def second() -> None:
        with Store(str(tmp_path), KEY).fetching():
            order.append("second")

    with Store(str(tmp_path), KEY).fetching():
        thread = threading.Thread(target=second)
        thread.start()
        inside.wait(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert [record.getMessage() for record in caplog.records] == [
        f"another process is at work on {tmp_path / KEY}; waiting for it"
    ]


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        Store(str(tmp_path / "file"), KEY).use()
    assert caught.value.mistakes == (
        f"{tmp_path}/file: what is fetched cannot be kept there: File exists; name another folder in "
        "LISTENER_ARTIFACTS",
    )


def test_a_temporary_root_of_somebody_else_is_not_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("", KEY)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(ConfigError, match="belongs to somebody else; name a folder of your own in LISTENER_ARTIFACTS"):
        store.use()


def test_a_temporary_root_that_is_a_link_is_not_used(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = Store("", KEY)
    store.root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        store.use()


def test_free_space(tmp_path: Path) -> None:
    assert Store(str(tmp_path), KEY).free > 0
