"""Batches cut into parts and joined again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from listener.triton.split import join, parts


def batch(rows: int) -> dict[str, NDArray[Any]]:
    strings = np.array([f"{n}".encode() for n in range(rows)], dtype=np.object_)
    return {"x": np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3), "n": np.arange(rows), "s": strings}


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


@given(st.integers(1, 70), st.integers(1, 80))
def test_cut_and_joined_is_the_same(rows: int, max_batch_size: int) -> None:
    whole = batch(rows)
    assert same(join(parts(whole, max_batch_size)), whole)


@pytest.mark.parametrize(
    ("rows", "max_batch_size", "sizes"),
    [
        (1, 1, [1]),
        (1, 8, [1]),
        (8, 8, [8]),
        (9, 8, [8, 1]),
        (16, 8, [8, 8]),
        (3, 1, [1, 1, 1]),
        (7, 3, [3, 3, 1]),
    ],
)
def test_no_part_is_larger_than_the_model_takes(rows: int, max_batch_size: int, sizes: list[int]) -> None:
    cut = parts(batch(rows), max_batch_size)
    assert [len(part["x"]) for part in cut] == sizes
    assert [set(part) for part in cut] == [{"x", "n", "s"}] * len(sizes)
    assert [int(part["n"][0]) for part in cut] == list(range(0, rows, max_batch_size))


def test_parts_are_views() -> None:
    whole = batch(5)
    assert all(np.shares_memory(part["x"], whole["x"]) for part in parts(whole, 2))


def test_one_part_is_handed_on_without_a_copy() -> None:
    whole = batch(3)
    assert join([whole])["x"] is whole["x"]


def test_joined_outputs_keep_their_order() -> None:
    replies = [{"y": np.array([[1], [2]])}, {"y": np.array([[3]])}]
    assert join(replies)["y"].tolist() == [[1], [2], [3]]
