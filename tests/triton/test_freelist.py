"""Which bytes are free, against a table that holds each page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.triton.freelist import FreeList

PAGE = 16


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [(1, (0, 16)), (16, (0, 16)), (17, (0, 32)), (64, (0, 64)), (65, None)],
)
def test_a_range_is_of_whole_pages_and_begins_at_the_lowest(nbytes: int, expected: tuple[int, int] | None) -> None:
    assert FreeList(64 + 15, PAGE).take(nbytes) == expected


def test_nothing_is_free_of_nothing() -> None:
    assert FreeList(15, PAGE).take(1) is None


def test_the_first_gap_that_is_wide_enough_is_used() -> None:
    free = FreeList(10 * PAGE, PAGE)
    taken = [free.take(pages * PAGE) for pages in (1, 2, 1, 3)]
    for found in (taken[1], taken[3]):
        assert found
        free.give(*found)
    assert free.gaps == [(16, 48), (64, 160)]
    assert free.take(3 * PAGE) == (64, 112)
    assert free.take(PAGE) == (16, 32)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_neighbours_are_joined_in_whatever_order_they_come_back(order: tuple[int, ...]) -> None:
    free = FreeList(3 * PAGE, PAGE)
    taken = [free.take(PAGE) for _ in range(3)]
    for index in order:
        found = taken[index]
        assert found
        free.give(*found)
    assert free.gaps == [(0, 3 * PAGE)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5 * PAGE)), max_size=40))
def test_it_agrees_with_a_table_of_pages(steps: list[tuple[bool, int]]) -> None:
    free, table = FreeList(12 * PAGE, PAGE), [False] * 12
    out: list[tuple[int, int]] = []
    for taking, number in steps:
        if taking:
            pages = -(-number // PAGE)
            fits = [at for at in range(12 - pages + 1) if not any(table[at : at + pages])]
            found = free.take(number)
            assert found == ((fits[0] * PAGE, (fits[0] + pages) * PAGE) if fits else None)
            out += [found] if found else []
        elif out:
            found = out.pop(number % len(out))
            free.give(*found)
        else:
            continue
        if found:
            begin, end = found[0] // PAGE, found[1] // PAGE
            table[begin:end] = [taking] * (end - begin)
    assert sum(end - begin for begin, end in free.gaps) == table.count(False) * PAGE
    assert all(one[1] < other[0] for one, other in zip(free.gaps, free.gaps[1:], strict=False))
