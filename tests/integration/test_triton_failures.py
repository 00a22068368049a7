"""What a listener does when a real Triton stops, loses a model, is busy, hangs up, fails on an instance or is replaced.

Upper bounds are twice what the documentation promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from chaos import proxy
from chaos.proxy import Message, Spoil
from chaos.stack import behind_proxy
from tests.integration import one_number
from tests.integration.stack import Stack, running, wait_for

pytestmark = pytest.mark.triton

DIGIT = [[0, 16] * 32]

#: Gives back what it gets. 13 is its failure, 14 the caller's fault, for all of the call that has it.
PICKY = """\
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, x):
        if 13 in x:
            return utils.InferenceResponse(error=utils.TritonError("secret"))
        if 14 in x:
            return utils.InferenceResponse(error=utils.TritonError("14 is bad", utils.TritonError.INVALID_ARG))
        return utils.InferenceResponse([utils.Tensor("Y", x)])
"""


@pytest.fixture
def picky(tmp_path: Path) -> Path:
    """A service of that model."""
    folder = tmp_path / "service"
    one_number.write(folder, "picky", PICKY)
    (folder / "listener.yaml").write_text("default: picky\nroutes:\n  picky: {errors: per_instance}\n")
    return folder


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is stopped, and goes on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def hasty(stack: Stack) -> int:
    """The status that a request gets which does not wait."""
    body = {"instances": DIGIT}
    return requests.post(
        f"{stack.url}/predict", json=body, headers={"X-Request-Timeout": "0.3"}, timeout=60
    ).status_code


def tensors() -> dict[str, Any]:
    """A request of Triton's own protocol."""
    return {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 1, 24, 24], "data": [0.5] * 576}]}


def test_a_stopped_triton_is_known_and_refused_at_once_and_called_again_when_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path / "log", LISTENER_WORKERS="1") as stack:
        stack.until(200)
        with stopped(stack.triton_pid()):
            stack.until(503, 5)  # promised: within 2.4 s
            wait_for(lambda: hasty(stack) == 503, 9, stack.output)  # promised: within 4.6 s
            for _ in range(5):
                begin = time.monotonic()
                refused = stack.predict(DIGIT)
                assert time.monotonic() - begin < 1
                assert (refused.status_code, refused.json()) == (503, {"error": "Triton is not ready"})
                assert refused.headers["Retry-After"] == "1"
                assert stack.health()[0] == 503
            begin = time.monotonic()
            passed = requests.post(f"{stack.url}/v2/models/digits/infer", json=tensors(), timeout=60)
            assert (passed.status_code, passed.json()) == (503, {"error": "Triton is not ready"})
            assert time.monotonic() - begin < 1
        assert wait_for(lambda: hasty(stack) == 200, 4, stack.output) < 4  # promised: within 2 s
        assert stack.until(200, 4) < 4
        assert {stack.predict(DIGIT).status_code for _ in range(20)} == {200}


def test_a_model_that_is_unloaded_is_refused_at_once_and_called_again_once_it_is_loaded(tmp_path: Path) -> None:
    control = "--model-control-mode=explicit --load-model=*"
    with running(tmp_path / "log", LISTENER_WORKERS="1", LISTENER_TRITON_ARGS=control) as stack:
        stack.until(200)
        model = f"{stack.triton_url()}/v2/repository/models/digits"
        assert requests.post(f"{model}/unload", json={}, timeout=30).status_code == 200
        seen, until = set[tuple[int, str]](), time.monotonic() + 3
        while time.monotonic() < until:
            begin = time.monotonic()
            answer = stack.predict(DIGIT)
            assert time.monotonic() - begin < 1
            seen.add((answer.status_code, answer.json().get("error", "")))
        assert seen <= {(200, ""), (503, "model 'digits' is not ready")}
        assert (503, "model 'digits' is not ready") in seen
        status, said = stack.health()
        assert (status, said["missing"]) == (503, ["model 'digits' is not ready"])
        assert requests.post(f"{model}/load", json={}, timeout=60).status_code == 200
        assert wait_for(lambda: hasty(stack) == 200, 4, stack.output) < 4
        assert stack.until(200, 4) < 4


@pytest.mark.parametrize("spoil", [proxy.busy, proxy.gone])
async def test_what_triton_does_not_answer_at_first_is_asked_again(
    spoil: Spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "_PART", 0.05)
    spoilt = 0

    async def counted(answer: Message, writer: asyncio.StreamWriter) -> bool:
        nonlocal spoilt
        spoilt += 1
        return await spoil(answer, writer)

    async with behind_proxy(tmp_path / "log") as target:
        target.proxy.spoil = counted
        for number in range(100):
            answer = await asyncio.to_thread(target.stack.predict, [[number, 1, 2, 3]])
            assert answer.json() == {"predictions": [[3 * number + 1, 4, 7, 10]]}, target.stack.output()
    assert spoilt


def test_an_instance_that_a_model_fails_on_fails_alone(tmp_path: Path, picky: Path) -> None:
    failed, bad = {"error": "model 'picky' failed in Triton"}, {"error": "model 'picky': 14 is bad"}
    with running(tmp_path / "log", service=picky) as stack:
        stack.until(200)
        answer = stack.predict([[number] for number in range(20)])
        assert answer.status_code == 200
        told = {13: failed, 14: bad}
        assert answer.json()["predictions"] == [told.get(number, [number]) for number in range(20)]
        assert [stack.predict([[number]] * 3).status_code for number in (12, 13, 14)] == [200, 502, 400]
        assert "secret" in stack.output()  # what Triton said of its failure is in the log


def test_a_replaced_triton_is_told_and_asked_everything_anew_by_the_same_worker(tmp_path: Path, picky: Path) -> None:
    with running(tmp_path / "log", service=picky, LISTENER_WORKERS="1") as stack:
        stack.until(200)
        assert [stack.predict([given]).status_code for given in ([1], [1, 2])] == [200, 200]
        workers, known = stack.worker_pids(), shared(stack)
        assert len(workers) == len(known) == 1
        config = picky / "triton_repo/picky/config.pbtxt"
        config.write_text(config.read_text().replace("dims: [ 1 ]", "dims: [ 2 ]"))
        os.kill(stack.triton_pid(), signal.SIGKILL)
        stack.until(503, 5)
        stack.until(200)
        assert stack.worker_pids() == workers
        assert shared(stack) == known
        assert stack.predict([[1, 2]]).json() == {"predictions": [[1, 2]]}
        (wrong,) = stack.predict([[1]]).json()["predictions"]
        assert "takes [2]" in wrong["error"]


def shared(stack: Stack) -> set[str]:
    """The names of the regions that the Triton that runs now was told of."""
    status = requests.get(f"{stack.triton_url()}/v2/systemsharedmemory/status", timeout=10).json()
    return {region["name"] for region in status}
