"""Little memory, little shared memory, little time."""

from __future__ import annotations

import base64
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract import models
from tests.image.runtime import PORT, Container, Image, running
from tests.integration.stack import ROOT, wait_for

_MIB = 1 << 20
ENVIRON = {"AIP_HTTP_PORT": str(PORT)}
#: In a Python of the image: seconds for everything that serves, and what must not have come with it.
_IMPORT = """
import json, sys, time
begin = time.perf_counter()
import listener.cli, listener.workers, listener.worker
print(json.dumps({"seconds": time.perf_counter() - begin, "google": "google.cloud.storage" in sys.modules}))
"""


def test_the_import_is_quick(image: Image, tmp_path: Path) -> None:
    with running(image, tmp_path, {}, command=["python", "-c", _IMPORT]) as container:
        container.process.wait(60)
    found = json.loads(container.output())
    print(f"imported in {found['seconds']:.2f} s")
    assert found["seconds"] < 1
    assert not found["google"]


def exchange(container: Container, start: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A tensor of 6 MiB and what the model that changes nothing gives for it, in Triton's own protocol."""
    given = np.arange(start, start + 6 * _MIB // 4, dtype="<f4").reshape(1, -1)
    head = {
        "inputs": [
            {"name": "X", "datatype": "FP32", "shape": given.shape, "parameters": {"binary_data_size": given.nbytes}}
        ],
        "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
    }
    words = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(words)), "Content-Type": "application/octet-stream"}
    answer = container.target.post("/v2/models/identity_fp32/infer", words + given.tobytes(), headers)
    assert answer.status == 200, answer.body[:500]
    return given, np.frombuffer(answer.body[-given.nbytes :], "<f4").reshape(1, -1)


def warnings(container: Container, word: str) -> list[str]:
    return [line for line in container.output().splitlines() if '"WARNING"' in line and word in line]


@pytest.mark.parametrize(("size", "count"), [(64 * _MIB, 1), (512 * _MIB, 0)])
def test_a_small_dev_shm_is_one_warning(image: Image, tmp_path: Path, size: int, count: int) -> None:
    """And tensors that do not fit go as bytes: 6 MiB in and out, of two callers at once."""
    repository = models.write(tmp_path / "models", ["identity_fp32"])
    environ = {**ENVIRON, "LISTENER_REPOSITORY": "/models", "LISTENER_WORKERS": "2"}
    with running(image, tmp_path / "c", environ, mounts={"/models": repository}, shm=size) as container:
        container.until(200)
        # each worker is ready by itself, and a new connection may be the other one's
        wait_for(lambda: container.output().count('"message":"ready"') >= 2, 20, container.output)
        with ThreadPoolExecutor(2) as callers:
            for given, answer in callers.map(lambda start: exchange(container, start), range(4)):
                assert np.array_equal(answer, given)
        assert len(warnings(container, "/dev/shm")) == count, container.output()
        assert container.stop(signal.SIGTERM)[0] == 0, container.output()
    assert len(warnings(container, "/dev/shm")) == count, container.output()


def test_the_listener_does_with_256_mib(image: Image, tmp_path: Path) -> None:
    """`listener serve` alone in a cgroup of that size; Triton in a container beside it."""
    pictures = sorted((ROOT / "examples").glob("digit-*"))
    batch = {"instances": [{"b64": base64.b64encode(picture.read_bytes()).decode()} for picture in pictures]}
    entry = ["bash", "-c"]
    with (
        running(image, tmp_path / "triton", {}, command=[*entry, "exec listener triton"]),
        running(
            image, tmp_path / "listener", ENVIRON, command=[*entry, "exec listener serve"], memory=256 * _MIB
        ) as container,
    ):
        container.until(200)
        family = container.processes().keys()
        for _ in range(50):
            answer = container.target.post("/predict", batch)
            assert answer.status == 200, answer
            assert [row["digit"] for row in answer.json()["predictions"]] == list(range(10))
        memory = container.stats()["memory"]
        print(f"listener: {memory['usage']['max'] / _MIB:.0f} MiB at most")
        assert memory["usage"]["limit"] == 256 * _MIB
        assert container.processes().keys() == family  # the kernel has killed none of them for want of memory
        assert container.stop(signal.SIGTERM)[0] == 0, container.output()
