"""How many CPUs there are for us, from made-up trees of /proc and /sys; and the workers that `auto` makes of them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from listener import cpus
from listener.cpus import Cpus

ALLOWED = 64


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(ALLOWED)))


def tree(root: Path, own: str, files: dict[str, str]) -> Path:
    """A root with /proc/self/cgroup, and files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


V1 = "12:memory:/a/b\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n0::/a/b\n"
LIMITS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "a container of v2": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "half a CPU": ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
    "no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "the root of a host has no file": ("0::/\n", {}, None),
    "the own cgroup of v2": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
    "one above is lower": ("0::/a/b\n", {"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, 4),
    "one above is higher": ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "800000 100000"}, 4),
    "another's is lower": ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/c/cpu.max": "100000 100000"}, 4),
    "a path of the host's": ("0::/kubepods/pod1/c2\n", {"cpu.max": "250000 100000"}, 2.5),
    "a path outside": ("0::/../../x\n", {"cpu.max": "600000 100000"}, 6),
    "v1": (V1, v1("cpu,cpuacct/a/b", 150_000), 1.5),
    "v1, one above": (V1, v1("cpu,cpuacct/a/b", -1) | v1("cpu,cpuacct/a", 700_000), 7),
    "v1, mounted by its short name": (V1, v1("cpu/a/b", 400_000), 4),
    "v1, a container": (V1, v1("cpu", 200_000, 50_000), 4),
    "v1 without a limit": (V1, v1("cpu", -1), None),
    "another controller": ("3:cpuset:/\n2:cpuacct:/\n", v1("cpu", 100_000), None),
    "more than there are": ("0::/\n", {"cpu.max": "12800000 100000\n"}, None),
    "nonsense": ("0\nx:y\n0::/\n", {"cpu.max": "many 100000\n"}, None),
    "a period of nothing": ("0::/\n", {"cpu.max": "100000 0\n"}, None),
}


@pytest.mark.parametrize(("own", "files", "limit"), LIMITS.values(), ids=LIMITS.keys())
def test_the_limit_is_the_lowest_of_what_holds_for_this_process(
    tmp_path: Path, own: str, files: dict[str, str], limit: float | None
) -> None:
    expected = Cpus(ALLOWED, "the affinity mask") if limit is None else Cpus(limit, "the cgroup")
    assert cpus.available(tree(tmp_path, own, files)) == expected


def test_the_affinity_mask_is_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, "0::/\n", {"cpu.max": "400000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5})
    assert cpus.available(root) == Cpus(2, "the affinity mask")


def test_where_nothing_says_it_the_affinity_mask_does(tmp_path: Path) -> None:
    assert cpus.available(tmp_path) == Cpus(ALLOWED, "the affinity mask")


def test_this_machine_has_cpus() -> None:
    assert 0 < cpus.available().number <= ALLOWED


@pytest.mark.parametrize(
    ("number", "workers"),
    [(0.25, 1), (1, 1), (2, 1), (3, 1), (3.5, 1), (4, 1), (7.9, 1), (8, 2), (12, 3), (64, 16), (5000, 256)],
)
def test_the_rule(number: float, workers: int) -> None:
    assert cpus.workers(number) == workers


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Cpus(8, "the cgroup"), "8 CPUs of the cgroup"),
        (Cpus(1, "the affinity mask"), "1 CPU of the affinity mask"),
        (Cpus(0.5, "the cgroup"), "0.5 CPUs of the cgroup"),
    ],
)
def test_what_the_log_says_of_it(found: Cpus, text: str) -> None:
    assert str(found) == text


@pytest.mark.parametrize(
    ("number", "count", "line"),
    [
        (8.0, 2, "2 workers: LISTENER_WORKERS=auto, 8 CPUs of the cgroup"),
        (1.5, 1, "1 worker: LISTENER_WORKERS=auto, 1.5 CPUs of the cgroup"),
    ],
)
def test_auto_becomes_a_number_and_a_line_in_the_log(
    number: float, count: int, line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(cpus, "available", lambda: Cpus(number, "the cgroup"))
    assert cpus.how_many("auto") == count
    assert caplog.messages == [line]


def test_a_number_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert cpus.how_many(5) == 5
    assert caplog.messages == []
