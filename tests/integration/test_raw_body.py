"""One instance's bytes as the body, in front of a real Triton; large ones are read into shared memory."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from tests.integration.stack import ROOT, Stack, running

pytestmark = pytest.mark.triton

RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def sum3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The sums of a [3, 512, 512] tensor's channels, without a handler."""
    log = tmp_path_factory.mktemp("sum3") / "log"
    with running(log, service=ROOT / "benchmarks/services/sum3") as stack:
        stack.until(200)
        yield stack


def tensor(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 8, (3, 512, 512)).astype(np.float32)


def post(stack: Stack, body: bytes) -> requests.Response:
    return requests.post(f"{stack.url}/predict", data=body, headers=RAW, timeout=60)


def test_each_body_gets_its_own_answer(sum3: Stack) -> None:
    def ask(seed: int) -> bool:
        sums = post(sum3, tensor(seed).tobytes()).json()["predictions"][0]
        return bool(np.array_equal(sums, tensor(seed).sum(axis=(1, 2))))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(40)))


@pytest.mark.parametrize("size", [1, 200_000, 3 * 512 * 512 * 4 - 1])
def test_a_body_of_another_size_is_refused(sum3: Stack, size: int) -> None:
    answer = post(sum3, bytes(size))
    assert answer.status_code == 400
    assert answer.json() == {"error": f"instances[0]: input 'X': {size} bytes do not make FP32 [3,512,512]"}


def test_clients_that_leave_in_the_middle_keep_no_memory(sum3: Stack) -> None:
    lines = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: application/octet-stream", "Content-Length: 3145728"]
    head = "\r\n".join([*lines, "", ""]).encode()
    for _ in range(200):  # 600 MB, where there are 256
        with socket.create_connection(("127.0.0.1", sum3.port)) as client:
            client.sendall(head + bytes(200_000))
    test_each_body_gets_its_own_answer(sum3)


def test_the_same_after_a_restart_of_triton(tmp_path: Path) -> None:
    with running(tmp_path / "log", service=ROOT / "benchmarks/services/sum3") as stack:
        stack.until(200)
        test_each_body_gets_its_own_answer(stack)
        os.kill(stack.triton_pid(), signal.SIGKILL)
        stack.until(503, 5)
        assert post(stack, tensor(0).tobytes()).status_code == 503
        stack.until(200)
        test_each_body_gets_its_own_answer(stack)
