"""Raw bytes of a seeded fuzzer on many connections at once: each ends or is answered, and nothing is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import fuzz_sockets

pytestmark = pytest.mark.triton


def attack(folder: Path, connections: int, staying: bool) -> fuzz_sockets.Found:
    found = fuzz_sockets.run(folder, connections, seed=2, staying=staying)
    print(*sorted(found.outcomes.items()), sep="\n")
    assert not found.mistakes, "\n".join(found.mistakes[:10])
    assert found.outcomes.total() > connections
    assert found.right > connections // fuzz_sockets.RIGHT_EVERY
    return found


def test_malformed_connections_end_and_leave_nothing(tmp_path: Path) -> None:
    attack(tmp_path, 10_000, staying=False)


@pytest.mark.long
def test_two_hundred_thousand_malformed_connections_end_and_leave_nothing(tmp_path: Path) -> None:
    """Among them a hundred that their clients never end."""
    assert attack(tmp_path, 200_000, staying=True).outcomes["stayed, and was ended"] == 100
