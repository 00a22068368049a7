"""`listener fetch` of an object of 5 GB: whole, held against its checksum, in memory that does not grow with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.fetching.fetchers import checksum_of, peak
from tests.artifacts import generated
from tests.artifacts.generated import BLOCK, generating
from tests.integration.stack import ROOT

MB = 1_000_000
#: Some 5 GB in whole blocks.
SIZE = 5_000 * MB // BLOCK * BLOCK


def fetched(folder: Path, url: str, bound: float) -> tuple[int, str, int]:
    """Status, what was said, and the most memory that was resident, in bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STORAGE_EMULATOR_HOST": url}
    argv = [sys.executable, "-m", "listener", "fetch", "gs://bucket/models", str(folder)]
    most, end = 0, time.monotonic() + bound
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        while process.poll() is None:
            most = max(most, peak(process.pid))
            if time.monotonic() > end:
                process.kill()
            time.sleep(0.02)
        assert process.stdout
        return process.returncode, process.stdout.read(), most


@pytest.mark.long
def test_five_gigabytes_whole_and_in_little_memory(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    if stat.f_bavail * stat.f_frsize < 1.1 * SIZE:
        pytest.skip("5 GB do not fit here")
    right = generated.checksum(SIZE)
    with generating(SIZE) as url:
        status, said, most = fetched(tmp_path / "a", url, 300)
    assert status == 0, said
    file = tmp_path / "a/large/1/model.onnx"
    print(said, f"{most / MB:.0f} MB resident at most")
    assert file.stat().st_size == SIZE
    assert checksum_of(file) == right
    file.unlink()
    assert 20 * MB < most < 200 * MB


@pytest.mark.long
def test_five_hundred_megabytes_whose_checksum_is_another_one(tmp_path: Path) -> None:
    """It is fetched three times, and refused."""
    size = SIZE // 10 // BLOCK * BLOCK
    with generating(size, crc=generated.checksum(size) ^ 1) as url:
        status, said, most = fetched(tmp_path / "a", url, 120)
    assert status == 1
    assert "'models/large/1/model.onnx' arrived damaged 3 times (its checksum is wrong); start again" in said
    assert not (tmp_path / "a").exists()
    assert 20 * MB < most < 200 * MB
