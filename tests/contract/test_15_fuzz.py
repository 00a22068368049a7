"""Malformed bodies and heads of a seeded fuzzer: no 5xx, no hang, no growth; right requests in between are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract import fuzz
from tests.contract.container import Processes
from tests.contract.target import Target

pytestmark = pytest.mark.triton

#: Kilobytes that the worker may grow by while requests of the same kinds go on.
_GROWTH = 24 * 1024


def resident(pid: int) -> int:
    """Kilobytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def attack(target: Target, requests: int, seed: int) -> None:
    found = fuzz.run(target.host, target.port, target.predict_route, requests, seed)
    print(*sorted(found.statuses.items()), sep="\n")
    assert not found.mistakes, "\n".join(found.mistakes[:10])
    assert found.right >= requests // fuzz.RIGHT_EVERY
    assert len(found.statuses) > 20


def test_malformed_requests_are_refused(target: Target, pytestconfig: pytest.Config) -> None:
    attack(target, pytestconfig.getoption("fuzzed", None) or 5_000, seed=1)


@pytest.mark.long
def test_a_hundred_thousand_malformed_requests_leave_no_trace(container: Processes) -> None:
    target, worker = container.target(), container.worker_pid()
    attack(target, 20_000, seed=2)  # until caches and pools have their size
    before = resident(worker)
    attack(target, 80_000, seed=3)
    assert resident(worker) - before < _GROWTH
    assert container.worker_pid() == worker
    assert target.health() == 200
