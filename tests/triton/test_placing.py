"""Where the inputs of a call lie: in shared memory if they are large, copied there at most once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.triton.codec import Region
from listener.triton.placing import THRESHOLD, place, room, worth_it
from listener.triton.shm import SharedMemory

LARGE = THRESHOLD // 4  # numbers of FP32


class Control:
    """A Triton that takes every region."""

    async def get_system_shared_memory_status(self) -> list[dict[str, Any]]:
        return []

    async def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> None:
        pass


@pytest.fixture
async def memory(tmp_path: Path) -> Any:
    made = SharedMemory(16 << 20, shm=tmp_path)
    assert await made.register(Control())
    yield made
    made.close()


def floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def contents(region: Region, memory: SharedMemory, shm: Path) -> NDArray[np.float32]:
    file = (shm / memory.region).read_bytes()[region.offset : region.offset + region.nbytes]
    return np.frombuffer(file, np.float32).reshape(region.shape)


async def test_small_inputs_stay_where_they_are(memory: SharedMemory) -> None:
    group = {"X": floats(2, 16)}
    assert not worth_it([group])
    batch, taken, found = place([group], memory)
    assert batch["X"] is group["X"]
    assert (taken, found) == ([], [])


@pytest.mark.parametrize("rows", [[1], [2, 1], [1, 1, 1]])
async def test_a_large_input_is_written_in_the_order_of_the_requests(
    memory: SharedMemory, tmp_path: Path, rows: list[int]
) -> None:
    groups = [{"X": floats(count, LARGE), "n": floats(count, 1)} for count in rows]
    assert worth_it(groups)
    batch, taken, found = place(groups, memory)
    region = batch["X"]
    assert isinstance(region, Region)
    assert region.shape == (sum(rows), LARGE)
    np.testing.assert_array_equal(contents(region, memory, tmp_path), np.concatenate([g["X"] for g in groups]))
    np.testing.assert_array_equal(np.asarray(batch["n"]), np.concatenate([g["n"] for g in groups]))
    assert (len(taken), found) == (1, [])
    taken[0].release()


async def test_what_lies_there_already_is_not_copied(memory: SharedMemory) -> None:
    lease = room(memory, THRESHOLD)
    assert lease is not None
    with lease:
        array = np.frombuffer(lease.view, np.float32).reshape(1, LARGE)
        batch, taken, found = place([{"X": array}], memory)
        assert batch["X"] == Region(lease.region, lease.offset, THRESHOLD, "FP32", (1, LARGE))
        assert (taken, found) == ([], [lease])


async def test_without_room_the_arrays_travel(memory: SharedMemory) -> None:
    memory.suspend()
    groups = [{"X": floats(1, LARGE)}, {"X": floats(1, LARGE)}]
    batch, taken, found = place(groups, memory)
    np.testing.assert_array_equal(np.asarray(batch["X"]), np.concatenate([g["X"] for g in groups]))
    assert (taken, found) == ([], [])


async def test_strings_never_lie_there(memory: SharedMemory) -> None:
    group = {"X": np.full((1, THRESHOLD), b"a", dtype=np.object_)}
    batch, taken, _ = place([group], memory)
    assert batch["X"] is group["X"]
    assert taken == []


@pytest.mark.parametrize("nbytes", [1, THRESHOLD - 1])
async def test_no_room_is_taken_for_small_bodies(memory: SharedMemory, nbytes: int) -> None:
    assert room(memory, nbytes) is None
    assert room(None, THRESHOLD) is None
