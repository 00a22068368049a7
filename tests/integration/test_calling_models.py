"""Handlers that call models of a real Triton: in turn and in parallel, a version, a time for one call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.integration.stack import Stack, running

pytestmark = pytest.mark.triton

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
#: `slow` waits for as long as its input says and gives it back; `times` multiplies by ten times its version.
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.slow, self.version = args["model_name"] == "slow", int(args["model_version"])

    def execute(self, requests):
        inputs = [request.inputs()[0].as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", self.told(x))]) for x in inputs]

    def told(self, x):
        if self.slow:
            time.sleep(float(x.max()))
            return x
        return x * np.float32(10 * self.version)
"""
HANDLER = """
import asyncio
import numpy as np
from listener import Handler, Reply


class Calls(Handler):
    model = None
    uses = ("times", "slow")

    async def predict(self, call):
        return Reply([await getattr(self, instance["do"])(**instance.get("with", {})) for instance in call.instances])

    async def ask(self, model, numbers, **more):
        x = np.array(numbers, np.float32)[:, None]
        return (await self.models[model].infer({"x": x}, **more))["y"][:, 0].tolist()

    async def parallel(self, count):
        return await asyncio.gather(*(self.ask("times", [n], version=1 + n % 2) for n in range(count)))

    async def turn(self):
        return await self.ask("times", await self.ask("times", [1, 2], version=1), version="2")
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("calls")
    for name, versions, more in (("times", 2, "version_policy { all {} }"), ("slow", 1, "")):
        for version in range(1, versions + 1):
            (folder / "triton_repo" / name / str(version)).mkdir(parents=True)
            (folder / "triton_repo" / name / str(version) / "model.py").write_text(MODEL)
        (folder / "triton_repo" / name / "config.pbtxt").write_text(CONFIG + more)
    (folder / "handlers").mkdir()
    (folder / "handlers" / "calls.py").write_text(HANDLER)
    (folder / "listener.yaml").write_text("routes:\n  calls: {handler: handlers.calls:Calls}\n")
    with running(folder / "log", service=folder) as started:
        started.until(200)
        yield started


def told(stack: Stack, do: str, **given: Any) -> Any:
    answer = stack.predict([{"do": do, "with": given}])
    return (
        answer.json()["predictions"][0] if answer.status_code == 200 else (answer.status_code, answer.json()["error"])
    )


@pytest.mark.parametrize(
    ("more", "y"), [({}, 20), ({"version": 1}, 10), ({"version": "2"}, 20), ({"version": "01"}, 10)]
)
def test_a_version(stack: Stack, more: dict[str, Any], y: float) -> None:
    assert told(stack, "ask", model="times", numbers=[1, 2], **more) == [y, 2 * y]


def test_a_version_that_triton_does_not_have(stack: Stack) -> None:
    answer = told(stack, "ask", model="times", numbers=[1], version=7)
    assert answer == (503, "model 'times' has no version 7")


def test_what_is_no_version_or_no_model_is_the_handlers_bug(stack: Stack) -> None:
    failed = (500, "the handler of 'calls' failed in predict; the log has the reason")
    assert told(stack, "ask", model="times", numbers=[1], version="latest") == failed
    assert "ValueError: version is 'latest'; it has to be a number from 1 on" in stack.output()
    assert told(stack, "ask", model="nothing", numbers=[1]) == failed
    assert "NoSuchModel: no model 'nothing' for this handler; it has 'slow', 'times'; name further" in stack.output()


def test_in_turn_and_in_parallel(stack: Stack) -> None:
    assert told(stack, "turn") == [200, 400]
    assert told(stack, "parallel", count=8) == [[n * 10 * (1 + n % 2)] for n in range(8)]


def test_a_call_has_a_time_of_its_own(stack: Stack) -> None:
    started = time.monotonic()
    answer = told(stack, "ask", model="slow", numbers=[3], timeout=0.2)
    assert answer == (504, "model 'slow' took longer than its 0.2 s")
    assert time.monotonic() - started < 2.5
    assert told(stack, "ask", model="slow", numbers=[0.1], timeout=20) == pytest.approx([0.1])


def test_a_route_without_a_model_of_its_own(stack: Stack) -> None:
    def status(path: str) -> Any:
        answer = requests.get(f"{stack.url}{path}", timeout=10)
        return answer.status_code, answer.json()

    assert status("/v1/models/calls") == (200, {"name": "calls", "ready": True, "model_version_status": []})
    assert status("/openapi.json")[0] == 200
    answer = stack.predict([{"do": "turn"}], parameters={"version": 1})
    sentence = "parameters.version: route 'calls' has no model of its own, and no versions"
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    answer = requests.post(f"{stack.url}/predict", json=request, timeout=10)
    sentence = "route 'calls' has no model of its own; it takes instances"
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)
