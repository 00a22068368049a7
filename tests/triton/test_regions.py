"""Shared memory left by stubs: what is alive is kept, what is dead is swept, whoever looks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.triton.regions import Regions, sweep

HOLDER = """
import subprocess, sys
from pathlib import Path
from listener.triton.regions import Regions

with Regions(Path(sys.argv[1])) as regions:
    if sys.argv[2] == "with-stub":
        stub = subprocess.Popen(["sleep", "60"], pass_fds=[regions.lock], stdout=subprocess.DEVNULL)
        print(regions.prefix, stub.pid, flush=True)
    else:
        print(regions.prefix, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(shm: Path, kind: str = "alone") -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Another process inside `Regions`, and what it says: the prefix, and the process id of its stub."""
    command = [sys.executable, "-c", HOLDER, str(shm), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


def names(shm: Path) -> set[str]:
    return {path.name for path in shm.iterdir()}


def region(shm: Path, prefix: str, number: int = 1) -> str:
    (shm / f"{prefix}_region_{number}").write_bytes(b"x")
    return f"{prefix}_region_{number}"


def kill(pid: int) -> None:
    """Kills a process that is not our child, and waits for its end."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([descriptor], [], [], 5)[0]
    os.close(descriptor)


# One start


def test_a_start_has_a_prefix_and_a_lock_of_its_own(tmp_path: Path) -> None:
    with Regions(tmp_path) as one, Regions(tmp_path) as other:
        assert one.prefix != other.prefix
        assert names(tmp_path) == {f"{one.prefix}.lock", f"{other.prefix}.lock"}
        assert one.lock is not None
        assert not os.get_inheritable(one.lock)


def test_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    with Regions(tmp_path) as held:
        region(tmp_path, held.prefix)
        region(tmp_path, held.prefix, 2)
    assert names(tmp_path) == set()
    assert held.lock is None


def test_a_failed_start_leaves_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Regions(tmp_path) as held:
        region(tmp_path, held.prefix)
        raise KeyError
    assert names(tmp_path) == set()


def test_regions_that_are_gone_already_are_no_error(tmp_path: Path) -> None:
    with Regions(tmp_path) as held:
        (tmp_path / f"{held.prefix}.lock").unlink()
    assert names(tmp_path) == set()


def test_a_machine_without_shared_memory(tmp_path: Path) -> None:
    with Regions(tmp_path / "none") as held:
        assert held.lock is None
    assert not (tmp_path / "none").exists()


# Others


def test_what_is_alive_in_this_process_is_kept(tmp_path: Path) -> None:
    with Regions(tmp_path) as held:
        kept = region(tmp_path, held.prefix)
        sweep(tmp_path)
        assert names(tmp_path) == {kept, f"{held.prefix}.lock"}


def test_what_is_alive_in_another_process_is_kept_until_that_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, (prefix,)):
        kept = region(tmp_path, prefix)
        sweep(tmp_path)
        assert names(tmp_path) == {kept, f"{prefix}.lock"}
        process.kill()
        process.wait()
        sweep(tmp_path)
        assert names(tmp_path) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="waits for the end of a process that is no child of ours")
def test_a_stub_that_outlives_its_listener_keeps_its_regions(tmp_path: Path) -> None:
    with holder(tmp_path, "with-stub") as (process, (prefix, stub)):
        kept = region(tmp_path, prefix)
        process.kill()
        process.wait()
        sweep(tmp_path)
        assert names(tmp_path) == {kept, f"{prefix}.lock"}
        kill(int(stub))
        sweep(tmp_path)
        assert names(tmp_path) == set()


def test_the_next_start_sweeps(tmp_path: Path) -> None:
    (tmp_path / "listener-py-0123abcd.lock").touch()
    region(tmp_path, "listener-py-0123abcd")
    with Regions(tmp_path) as held:
        assert names(tmp_path) == {f"{held.prefix}.lock"}


def test_the_lock_goes_last_so_that_an_interrupted_sweep_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listener-py-0123abcd.lock").touch()
    for number in range(3):
        region(tmp_path, "listener-py-0123abcd", number)
    unlink, unlinked = Path.unlink, 0

    def fail_at_the_third(path: Path, missing_ok: bool = False) -> None:
        nonlocal unlinked
        unlinked += 1
        if unlinked == 3:
            raise PermissionError(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_at_the_third)
        sweep(tmp_path)
    assert "listener-py-0123abcd.lock" in names(tmp_path)
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == set()


def test_the_folder_of_a_dead_start_goes_though_another_temporary_folder_is_used_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shm, theirs, ours = (tmp_path / name for name in ("shm", "theirs", "ours"))
    for folder in (shm, theirs, ours):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(theirs))
    with holder(shm) as (process, (prefix,)):
        process.kill()
        process.wait()
    assert names(theirs) == {prefix}
    monkeypatch.setenv("TMPDIR", str(ours))
    sweep(shm)
    assert names(theirs) == names(shm) == set()


def test_a_start_without_room_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with Regions(tmp_path) as held:
            assert held.folder.is_dir()
            assert names(tmp_path) == {f"{held.prefix}.lock"}
    assert not held.folder.exists()
    assert names(tmp_path) == set()


def test_no_other_folder_goes_that_a_lock_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm, kept = tmp_path / "shm", tmp_path / "listener-py-0123abcd"
    for folder in (shm, kept, tmp_path / "other"):
        folder.mkdir()
    (shm / "listener-py-aaaaaaaa.lock").write_bytes(os.fsencode(tmp_path / "other"))
    sweep(shm)
    (shm / "listener-py-0123abcd.lock").write_bytes(os.fsencode(kept))
    with monkeypatch.context() as other_user:
        other_user.setattr(os, "getuid", lambda: 4321)
        sweep(shm)
    assert names(tmp_path) == {"shm", kept.name, "other"}


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    others = {"psm_12345", "sem.x", "listener-py-0123abcd_region_1", "triton_python_backend_shm_region_1.lock"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "listener-py-dddddddd.lock").mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == {*others, "listener-py-dddddddd.lock"}


@pytest.mark.parametrize("name", ["listener-py-.lock", "listener-py-*.lock", "listener-py-[0-9a-f].lock"])
def test_a_lock_with_an_odd_name_takes_nothing_else_with_it(tmp_path: Path, name: str) -> None:
    # anybody may put files into /dev/shm
    with Regions(tmp_path) as held:
        kept = region(tmp_path, held.prefix)
        (tmp_path / name).touch()
        sweep(tmp_path)
        assert {kept, f"{held.prefix}.lock"} <= names(tmp_path)


def test_a_sweep_in_the_moment_of_a_start_does_not_take_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as when two containers that share one /dev/shm start together
    flock, swept = fcntl.flock, False

    def flock_after_a_sweep(descriptor: int, operation: int) -> Any:
        nonlocal swept
        if not swept:
            swept = True
            sweep(tmp_path)
        return flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_a_sweep)
    with Regions(tmp_path) as held:
        assert swept
        sweep(tmp_path)
        assert names(tmp_path) == {f"{held.prefix}.lock"}
