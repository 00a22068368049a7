"""Where the tensors of a call lie: in shared memory if they are large, inputs copied there at most once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from listener.tensors import ModelSpec, TensorSpec
from listener.triton.codec import Codec, Region, Slot
from listener.triton.placing import THRESHOLD, place, room, worth_it
from listener.triton.shm import SharedMemory

LARGE = THRESHOLD // 4  # numbers of FP32


def codec(*outputs: TensorSpec, batch: int = 8) -> Codec:
    return Codec(ModelSpec("m", (), outputs, batch), "h")


#: Of a model with small outputs.
SMALL = codec(TensorSpec("Y", "FP32", (2,)))


def floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def contents(region: Region, memory: SharedMemory, shm: Path) -> NDArray[np.float32]:
    file = (shm / memory.region).read_bytes()[region.offset : region.offset + region.nbytes]
    return np.frombuffer(file, np.float32).reshape(region.shape)


async def test_small_inputs_stay_where_they_are(memory: SharedMemory) -> None:
    group = {"X": floats(2, 16)}
    assert not worth_it([group], SMALL)
    assert place([group], SMALL, memory) is None


@pytest.mark.parametrize("rows", [[1], [2, 1], [1, 1, 1]])
async def test_a_large_input_is_written_in_the_order_of_the_requests(
    memory: SharedMemory, tmp_path: Path, rows: list[int]
) -> None:
    groups = [{"n": floats(count, 1), "X": floats(count, LARGE)} for count in rows]
    assert worth_it(groups, SMALL)
    places = place(groups, SMALL, memory)
    assert places
    [batch] = places.groups
    region = batch["X"]
    assert isinstance(region, Region)
    assert region.shape == (sum(rows), LARGE)
    np.testing.assert_array_equal(contents(region, memory, tmp_path), np.concatenate([g["X"] for g in groups]))
    np.testing.assert_array_equal(np.asarray(batch["n"]), np.concatenate([g["n"] for g in groups]))
    assert (len(places.taken), places.found, places.outputs) == (1, [], {})
    places.taken[0].release()


async def test_bf16_lies_there_in_two_bytes(memory: SharedMemory, tmp_path: Path) -> None:
    bf16 = Codec(ModelSpec("m", (TensorSpec("X", "BF16", (-1,)),), (), 8), "h")
    groups = bf16.as_sent([{"X": np.full((count, 2 * LARGE), 1.5, np.float32)} for count in (1, 2)])
    places = place(groups, bf16, memory)
    assert places
    region = places.groups[0]["X"]
    assert isinstance(region, Region)
    assert (region.datatype, region.shape, region.nbytes) == ("BF16", (3, 2 * LARGE), 3 * THRESHOLD)
    file = (tmp_path / memory.region).read_bytes()[region.offset : region.offset + region.nbytes]
    assert file == b"\xc0\x3f" * 6 * LARGE


async def test_what_lies_there_already_is_not_copied(memory: SharedMemory) -> None:
    lease = room(memory, THRESHOLD)
    assert lease is not None
    with lease:
        array = np.frombuffer(lease.view, np.float32).reshape(1, LARGE)
        places = place([{"X": array}], SMALL, memory)
        assert places
        assert places.groups == [{"X": Region(lease.region, lease.offset, THRESHOLD, "FP32", (1, LARGE))}]
        assert (places.taken, places.found) == ([], [lease])


async def test_without_room_all_travels_as_it_is(memory: SharedMemory) -> None:
    memory.suspend()
    assert place([{"X": floats(1, LARGE)}, {"X": floats(1, LARGE)}], HUGE, memory) is None


async def test_strings_never_lie_there(memory: SharedMemory) -> None:
    group = {"X": np.full((1, THRESHOLD), b"a", dtype=np.object_)}
    assert place([group], codec(TensorSpec("Y", "BYTES", (THRESHOLD,))), memory) is None


@pytest.mark.parametrize("nbytes", [1, THRESHOLD - 1])
async def test_no_room_is_taken_for_small_bodies(memory: SharedMemory, nbytes: int) -> None:
    assert room(memory, nbytes) is None
    assert room(None, THRESHOLD) is None


# Outputs


#: One row of Y is just large enough; Z becomes so with four rows.
HUGE = codec(
    TensorSpec("Y", "FP32", (2, LARGE // 2)), TensorSpec("Z", "UINT8", (LARGE,)), TensorSpec("S", "BYTES", (9,))
)


@pytest.mark.parametrize(("rows", "large"), [([1], ["Y"]), ([2, 1], ["Y"]), ([2, 2], ["Y", "Z"])])
async def test_large_outputs_get_room_for_all_rows(memory: SharedMemory, rows: list[int], large: list[str]) -> None:
    groups = [{"X": floats(count, 2)} for count in rows]
    assert worth_it(groups, HUGE)
    places = place(groups, HUGE, memory)
    assert places
    assert places.groups is groups  # small inputs are not even joined
    assert list(places.outputs) == large
    assert places.taken == list(places.outputs.values())
    for name, lease in places.outputs.items():
        assert lease.for_output
        assert lease.nbytes == sum(rows) * (THRESHOLD if name == "Y" else LARGE)
        assert places.slots()[name] == Slot(memory.region, lease.offset, lease.nbytes)
        assert places.views()[name] is lease.view


async def test_inputs_and_outputs_of_one_call(memory: SharedMemory) -> None:
    places = place([{"X": floats(1, LARGE)}], HUGE, memory)
    assert places
    [batch] = places.groups
    assert isinstance(batch["X"], Region)
    assert [lease.for_output for lease in places.taken] == [False, True]
    assert len({lease.offset for lease in places.taken}) == 2


async def test_the_rows_of_a_model_that_does_not_batch_are_its_own(memory: SharedMemory) -> None:
    whole = codec(TensorSpec("Y", "FP32", (LARGE,)), batch=0)
    places = place([{"X": floats(7)}], whole, memory)
    assert places
    assert places.outputs["Y"].nbytes == THRESHOLD


async def test_small_calls_of_a_model_with_large_ones_travel_as_they_are(memory: SharedMemory) -> None:
    often = codec(TensorSpec("Y", "FP32", (LARGE // 8,)))
    assert worth_it([{"X": floats(1, 2)}], often)
    assert place([{"X": floats(7, 2)}], often, memory) is None
    assert place([{"X": floats(8, 2)}], often, memory)
