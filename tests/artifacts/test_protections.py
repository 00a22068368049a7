"""The table of protections is whole, and tells tests that need a protection from those that do not."""

from __future__ import annotations

import pytest

from tests.artifacts import protections, removals
from tests.artifacts.protections import Row

FAULTS = ("test_faults.py", "test_faults_engine.py")
#: They are there a second time, with short waits.
AT_REAL_PACE = (
    "test_faults.py::test_what_stays_unavailable_is_told_in_the_end",
    "test_faults.py::test_a_connection_that_dies_without_a_word",
    "test_faults_engine.py::test_a_connection_that_dies_without_a_word_is_replaced",
)


def test_each_test_of_a_fault_and_each_removal_is_in_the_table() -> None:
    names = protections.collected(*protections.files())
    listed = {name for row in protections.TABLE for name in protections.named(row, names)} | {protections._FAIR}
    faults = {name for name in names if name.startswith(FAULTS) and name.partition("[")[0] not in AT_REAL_PACE}
    assert sorted(faults - listed) == []
    assert {removed for row in protections.TABLE for removed in row.removed} == set(removals.REMOVALS)


def test_a_test_that_passes_without_its_protection_is_named() -> None:
    needed, idle = "test_faults.py::test_no_such_bucket", "test_faults.py::test_half_a_listing_never_becomes"
    names = protections.collected("test_faults.py")
    is_right, said = protections.judged(Row(("no such bucket is told apart",), (needed, idle)), names)
    assert not is_right
    first, *others = said.splitlines()
    assert first.startswith("removed no such bucket is told apart: 1 of 2 tests fail")
    assert others == [f"    passes without it: {idle}_half_a_repository"]


@pytest.mark.long
def test_without_each_protection_its_tests_fail() -> None:
    assert protections.main([]) == 0
