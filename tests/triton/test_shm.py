"""Leases of shared memory: nobody gets another's bytes, everything comes back, and without room there is no error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tritonclient.utils import InferenceServerException

from listener.triton import pages, regions
from listener.triton.pages import STEP, default_size
from listener.triton.regions import SHM, shortage, sweep
from listener.triton.shm import Lease, SharedMemory

MiB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's")


class Triton:
    """What a Triton answers about shared memory."""

    def __init__(self) -> None:
        self.known: list[tuple[str, str, int]] = []
        self.error: Exception | None = None
        self.asked = 0
        self.extensions = ["classification", "system_shared_memory"]

    async def get_server_metadata(self) -> dict[str, Any]:
        return {"name": "triton", "extensions": self.extensions}

    async def get_system_shared_memory_status(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return [{"name": name, "key": key, "offset": 0, "byte_size": size} for name, key, size in self.known]

    async def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> None:
        assert name not in [known for known, _, _ in self.known], "registered twice"
        self.known.append((name, key, byte_size))

    def restart(self) -> None:
        self.known.clear()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shm(tmp_path: Path) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def made(shm: Path, size: int | None = 8 * MiB, **more: Any) -> Iterator[SharedMemory]:
    pool = SharedMemory(size, shm=shm, **more)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
async def pool(shm: Path) -> Any:
    with made(shm) as pool:
        assert await pool.register(Triton())
        yield pool


def names(shm: Path) -> set[str]:
    return {path.name for path in shm.iterdir()}


def taken(pool: SharedMemory, nbytes: int, for_output: bool = False) -> Lease:
    lease = pool.lease(nbytes, for_output)
    assert lease
    return lease


def all_is_free(pool: SharedMemory) -> bool:
    lease = pool.lease(pool.size)
    if lease:
        lease.release()
    return lease is not None


# Leases


async def test_what_is_written_into_a_lease_is_in_the_region_at_its_offset(pool: SharedMemory, shm: Path) -> None:
    tensor = np.arange(5000, dtype=np.float32)
    with taken(pool, 100), taken(pool, tensor.nbytes) as lease:
        np.copyto(np.frombuffer(lease.view, np.float32), tensor)
        found = np.fromfile(shm / lease.region, np.float32, tensor.size, offset=lease.offset)
        assert (lease.nbytes, len(lease.view), lease.region) == (tensor.nbytes, tensor.nbytes, pool.region)
    assert (found == tensor).all()


@pytest.mark.parametrize("nbytes", [1, 63, mmap.PAGESIZE, mmap.PAGESIZE + 1, STEP, STEP + 1, 8 * MiB])
async def test_a_lease_has_exactly_its_bytes_and_begins_with_a_page(pool: SharedMemory, nbytes: int) -> None:
    with taken(pool, nbytes) as lease:
        assert (lease.view.nbytes, lease.view.readonly, lease.offset % mmap.PAGESIZE) == (nbytes, False, 0)
    assert all_is_free(pool)


@pytest.mark.parametrize("nbytes", [0, -1])
async def test_a_lease_of_nothing_is_a_mistake(pool: SharedMemory, nbytes: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        pool.lease(nbytes)


async def test_without_room_there_is_none(pool: SharedMemory) -> None:
    assert pool.lease(pool.size + 1) is None
    with taken(pool, pool.size):
        assert pool.lease(1) is None
    assert all_is_free(pool)


async def test_a_lease_comes_back_once(pool: SharedMemory) -> None:
    with taken(pool, MiB) as first:
        first.release()
        with taken(pool, MiB) as second:  # the same bytes
            first.release()
            assert taken(pool, MiB).offset != second.offset


async def test_a_lease_comes_back_when_its_context_fails(pool: SharedMemory) -> None:
    with pytest.raises(KeyError), taken(pool, MiB):
        raise KeyError
    assert all_is_free(pool)


async def test_the_view_ends_with_the_context(pool: SharedMemory) -> None:
    with taken(pool, MiB) as lease:
        pass
    with pytest.raises(ValueError, match="released"):
        lease.view[0] = 1


async def test_an_array_that_is_kept_keeps_nothing_back(pool: SharedMemory) -> None:
    with taken(pool, pool.size) as lease:
        array = np.frombuffer(lease.view, np.uint8)
    assert all_is_free(pool)
    pool.close()
    assert array.size == pool.size


async def test_leases_of_several_threads_do_not_touch_one_another(pool: SharedMemory) -> None:
    torn = []

    def work(number: int) -> None:
        for turn in range(150):
            if lease := pool.lease(1 + (number * 7919 + turn * 104729) % MiB):
                with lease:
                    lease.view[:] = bytes([number]) * lease.nbytes
                    if bytes(lease.view).count(number) != lease.nbytes:
                        torn.append(lease)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert all_is_free(pool)


# Parking


async def test_a_parked_lease_stays_out_until_it_is_released(pool: SharedMemory) -> None:
    with taken(pool, pool.size) as lease:
        lease.park()
    assert pool.lease(1) is None
    lease.release()
    assert all_is_free(pool)


async def test_a_parked_lease_may_be_released_in_its_context(pool: SharedMemory) -> None:
    with taken(pool, pool.size) as lease:
        lease.park()
        lease.release()
        lease.park()
    assert all_is_free(pool)


async def test_parking_ends_with_its_time(shm: Path) -> None:
    clock = Clock()
    with made(shm, parked_for=60, clock=clock) as pool:
        await pool.register(Triton())
        with taken(pool, MiB) as first:
            first.park()
        clock.now = 30
        with taken(pool, MiB) as second:
            second.park()
        clock.now = 60
        with taken(pool, MiB) as third:
            assert (third.offset, second.offset) == (first.offset, first.offset + MiB)
            first.release()  # too late: the bytes are another's
            assert taken(pool, MiB).offset == 2 * MiB


async def test_what_triton_may_still_write_is_parked_for_longer(shm: Path) -> None:
    clock = Clock()
    with made(shm, parked_for=60, output_parked_for=600, clock=clock) as pool:
        triton = Triton()
        await pool.register(triton)
        for until in (599, 600):
            with taken(pool, MiB, for_output=True) as written, taken(pool, MiB) as other:
                written.park()
                other.park()
            clock.now += 60
            with taken(pool, pool.size - MiB) as rest:
                assert rest.offset == other.offset
            clock.now += until - 60
            assert all_is_free(pool) == (until == 600)
            triton.restart()
            assert await pool.register(triton)
            assert all_is_free(pool)


async def test_by_default_that_is_two_hours(shm: Path) -> None:
    clock = Clock()
    with made(shm, clock=clock) as pool:
        await pool.register(Triton())
        with taken(pool, MiB, for_output=True) as lease:
            lease.park()
        clock.now = 7199
        assert not all_is_free(pool)
        clock.now = 7200
        assert all_is_free(pool)


async def test_parked_outputs_leave_half_of_the_pool_to_others(pool: SharedMemory) -> None:
    parked = []
    with taken(pool, MiB, for_output=True), taken(pool, MiB) as other:
        other.park()  # these two do not count
        while lease := pool.lease(MiB, for_output=True):
            with lease:
                lease.park()
            parked.append(lease)
        assert len(parked) == pool.size // MiB // 2
        taken(pool, MiB).release()
    parked.pop().release()
    taken(pool, MiB, for_output=True).release()


async def test_a_lease_in_use_has_no_end(shm: Path) -> None:
    clock = Clock()
    with made(shm, clock=clock) as pool:
        await pool.register(Triton())
        with taken(pool, pool.size):
            clock.now = 1e9
            assert pool.lease(1) is None


async def test_a_restart_of_triton_frees_what_is_parked_and_nothing_else(pool: SharedMemory) -> None:
    triton = Triton()
    assert await pool.register(triton)
    with taken(pool, 2 * MiB) as parked:
        parked.park()
    with taken(pool, 2 * MiB) as held:
        assert await pool.register(triton)  # the same: it may still read
        assert taken(pool, 2 * MiB).offset == 4 * MiB
        triton.restart()
        assert await pool.register(triton)
        assert taken(pool, 2 * MiB).offset == parked.offset
        assert held.offset == 2 * MiB
        assert pool.lease(3 * MiB) is None


async def test_what_is_in_use_here_stays_so_whatever_becomes_of_calls_that_were_given_up(shm: Path) -> None:
    """A request asks a second model with the bytes with which it gave up the first: nobody else has them until then."""
    triton, clock = Triton(), Clock()
    with made(shm, parked_for=10, clock=clock) as pool:
        assert await pool.register(triton)
        for ends in ("the call ends", "Triton restarts", "its time ends"):
            with taken(pool, pool.size) as lease:
                lease.park("first call")
                match ends:
                    case "the call ends":
                        lease.release("first call")
                    case "Triton restarts":
                        triton.restart()
                        assert await pool.register(triton)
                    case "its time ends":
                        clock.now += 11
                assert pool.lease(1) is None, ends
            assert all_is_free(pool), ends


async def test_each_call_that_was_given_up_keeps_the_bytes_for_itself(pool: SharedMemory) -> None:
    with taken(pool, pool.size) as lease:
        lease.park("first call")
        lease.park("second call")
    lease.release("first call")
    lease.release("first call")
    assert pool.lease(1) is None
    lease.release("second call")
    assert all_is_free(pool)


# Registering


async def test_there_are_no_leases_before_it_is_registered_nor_while_suspended(shm: Path) -> None:
    triton = Triton()
    with made(shm) as pool:
        assert pool.lease(1) is None
        assert await pool.register(triton)
        assert triton.known == [(pool.region, f"/{pool.region}", 8 * MiB)]
        pool.suspend()
        assert pool.lease(1) is None
        assert await pool.register(triton)
        assert all_is_free(pool)


async def test_it_is_registered_once_though_asked_twice_at_a_time(shm: Path) -> None:
    triton = Triton()
    with made(shm) as pool:
        assert all(await asyncio.gather(pool.register(triton), pool.register(triton)))


async def test_a_refusal_is_said_once_until_triton_agrees(shm: Path, caplog: pytest.LogCaptureFixture) -> None:
    triton = Triton()
    with made(shm) as pool:
        assert await pool.register(triton)
        for warnings in (1, 2):
            triton.error = InferenceServerException("shared memory is off", status="400")
            assert [await pool.register(triton) for _ in range(3)] == [False, False, False]
            assert pool.lease(1) is None
            assert [record.getMessage() for record in caplog.records].count(caplog.records[0].getMessage()) == warnings
            triton.error = None
            assert await pool.register(triton)
            assert all_is_free(pool)
    assert "shared memory is off" in caplog.text
    assert "--allow-client-shm=true" in caplog.text


async def test_a_triton_that_does_not_offer_it_is_not_asked(shm: Path, caplog: pytest.LogCaptureFixture) -> None:
    triton = Triton()
    triton.extensions = ["classification"]
    with made(shm) as pool:
        assert not await pool.register(triton)
        assert pool.lease(1) is None
        assert (triton.asked, triton.known, caplog.text) == (0, [], "")
        triton.extensions.append("system_shared_memory")  # another one, which does
        assert await pool.register(triton)


@pytest.mark.parametrize(
    "error", [aiohttp.ClientError(), OSError(), TimeoutError(), ValueError("no JSON")], ids=lambda error: type(error)
)
async def test_no_answer_is_no_refusal(shm: Path, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    triton = Triton()
    triton.error = error
    with made(shm) as pool:
        assert not await pool.register(triton)
    assert caplog.text == ""


# The machine's memory


@pytest.mark.parametrize(
    ("free", "workers", "expected"),
    [(64, 1, 32), (64, 4, 8), (64, 8, 4), (64, 9, 0), (6, 1, 0), (8, 1, 4), (100_000, 1, 256), (100_000, 4, 64)],
)
def test_the_size_is_a_part_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, workers: int, expected: int
) -> None:
    monkeypatch.setattr(regions, "can_be_had", lambda file: free * MiB)
    assert default_size(tmp_path, workers) == expected * MiB


@pytest.mark.parametrize(("free", "said"), [(64, True), (127, True), (128, False), (100_000, False)])
def test_little_of_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, said: bool) -> None:
    monkeypatch.setattr(regions, "can_be_had", lambda file: free * MiB)
    assert bool(shortage(tmp_path)) is said
    if said:
        assert f" {free} MiB free" in (shortage(tmp_path) or "")


def test_none_of_it_is_no_shortage(tmp_path: Path) -> None:
    assert shortage(tmp_path / "none") is None


def test_a_file_system_without_limit_is_never_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda file: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert default_size(tmp_path) == 256 * MiB


@pytest.mark.parametrize("size", [None, 0, STEP - 1])
async def test_without_shared_memory_or_with_too_little_the_pool_is_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int | None
) -> None:
    triton = Triton()
    with made(tmp_path / "none", size) as pool:
        assert (pool.size, await pool.register(triton), pool.lease(1), triton.asked) == (0, False, None, 0)
        pool.trim()
    assert caplog.text == ""


async def test_where_not_even_the_first_pages_are_free_the_pool_is_off_with_a_warning(
    shm: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with made(shm) as pool:
        assert (pool.size, await pool.register(Triton())) == (0, False)
        assert names(shm) == set()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left" in caplog.text


async def test_pages_are_taken_when_they_are_needed_and_given_back_by_the_second_trim(pool: SharedMemory) -> None:
    def blocks() -> int:
        return round(os.stat(f"/dev/fd/{pool._pages._file}").st_blocks * 512 / MiB) if pool._pages else -1

    assert blocks() == 4
    with taken(pool, MiB), taken(pool, 4 * MiB) as far:
        far.view[:] = bytes(far.nbytes)
        assert blocks() == 8
        pool.trim()
        assert blocks() == 8
    pool.trim()  # it was needed since the last
    assert blocks() == 8
    pool.trim()
    assert blocks() == 4
    assert all_is_free(pool)


async def test_what_the_others_need_is_left_to_them(pool: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "can_be_had", lambda file: 8 * MiB - 1)
    assert pool.lease(STEP + 1) is None
    with taken(pool, STEP):
        assert pool.lease(1) is None
    monkeypatch.setattr(pages, "can_be_had", lambda file: 8 * MiB)
    assert all_is_free(pool)


# The end


async def test_closing_removes_the_region_at_once_and_leases_end_in_peace(shm: Path) -> None:
    pool = SharedMemory(8 * MiB, shm=shm)
    await pool.register(Triton())
    with taken(pool, MiB) as held, taken(pool, MiB) as parked:
        parked.park()
        pool.close()
        assert names(shm) == set()
        assert pool.lease(1) is None
        held.view[:] = bytes(MiB)
    parked.release()
    pool.close()
    assert not await pool.register(Triton())


OWNER = """
import asyncio, sys
from pathlib import Path
from listener.triton.shm import SharedMemory

pool = SharedMemory(8 << 20, shm=Path(sys.argv[1]))
print(pool.region, flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_leaves_nothing_to_the_next_start_and_no_pages_to_triton() -> None:
    with tempfile.TemporaryDirectory(dir=SHM) as folder:  # a real one: what is freed is freed of memory
        shm = Path(folder)
        command = [sys.executable, "-c", OWNER, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout
            region = shm / owner.stdout.readline().strip()
            with region.open("r+b") as triton:  # has it mapped, and stays
                sweep(shm)
                assert os.fstat(triton.fileno()).st_blocks * 512 == STEP
                owner.kill()
                owner.wait()
                with made(shm):
                    assert not region.exists()
                    assert os.fstat(triton.fileno()).st_blocks == 0
        assert names(shm) == set()


# Any order of events


class PoolMachine(RuleBasedStateMachine):
    """Leases, releases, parking, time and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.triton = Clock(), Triton()
        self.pool = SharedMemory(8 * MiB, shm=Path(self.folder.name), parked_for=10, clock=self.clock)
        self.held: list[Lease] = []
        self.parked: dict[Lease, float] = {}
        self.back: list[Lease] = []
        self.register()

    @rule(nbytes=st.integers(1, 5 * MiB))
    def take(self, nbytes: int) -> None:
        self.overdue()
        lease = self.pool.lease(nbytes)
        if lease is None:
            assert self.held or self.parked
        else:
            assert lease.nbytes == nbytes
            self.held.append(lease)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), parks=st.booleans())
    def leave(self, data: st.DataObject, parks: bool) -> None:
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        with lease:
            if parks:
                lease.park()
        if parks:
            self.parked[lease] = self.clock.now + 10
        else:
            self.back.append(lease)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def unpark(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.parked)))
        lease.release()
        self.back.append(lease)
        del self.parked[lease]

    @precondition(lambda self: self.back)
    @rule(data=st.data())
    def release_once_more(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.back)).release()

    @rule()
    def register(self) -> None:
        assert asyncio.run(self.pool.register(self.triton))

    @rule()
    def restart(self) -> None:
        self.triton.restart()
        self.register()
        self.back += self.parked
        self.parked.clear()

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def trim(self) -> None:
        self.pool.trim()
        self.overdue()

    def overdue(self) -> None:
        """The pool notices when somebody wants something."""
        late = [lease for lease, until in self.parked.items() if until <= self.clock.now]
        self.back += late
        for lease in late:
            del self.parked[lease]

    @invariant()
    def nobody_has_anothers_bytes_and_all_lie_inside(self) -> None:
        out = sorted([*self.held, *self.parked], key=lambda lease: lease.offset)
        ends = [0, *(lease.offset + lease.nbytes for lease in out)]
        assert all(end <= lease.offset for end, lease in zip(ends, out, strict=False))
        assert ends[-1] <= self.pool.size

    @invariant()
    def what_is_out_has_pages(self) -> None:
        assert self.pool._pages
        assert all(lease.end <= self.pool._pages.reserved for lease in [*self.held, *self.parked])

    def teardown(self) -> None:
        for lease in self.held:
            lease.release()
        self.clock.now += 10
        assert all_is_free(self.pool)
        self.pool.close()
        assert list(Path(self.folder.name).iterdir()) == []
        self.folder.cleanup()


TestPoolMachine = PoolMachine.TestCase
