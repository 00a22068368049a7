"""Routes of several steps in front of a real Triton, one of whose models is missing for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration import one_number
from tests.integration.stack import Stack, command_line, running, wait_for

pytestmark = pytest.mark.triton

MODEL = """\
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        return [utils.InferenceResponse([utils.Tensor("Y", utils.get_input_tensor_by_name(r, "X").as_numpy() * FACTOR)])
                for r in requests]
"""
SERVICE = """\
default: safe
routes:
  safe: {fallback: [large, small]}
  watched: {shadow: {node: small, mirror: large}}
  by_kind:
    switch: {field: kind, cases: {words: telling}, otherwise: small}
nodes:
  large: {handler: "said_by_graph_routes:Large"}
  telling: {handler: "said_by_graph_routes:Telling", model: small}
"""
HANDLERS = """\
import asyncio
from pathlib import Path

from listener import Handler

class Large(Handler):
    example = [1]

    def load(self, artifacts):
        self.file = artifacts / "warm"

    def preprocess(self, instance):
        self.file.touch()
        return {"X": instance}

class Telling(Handler):
    async def predict(self, call):
        for word in call.instances[0]["words"]:
            yield word
            await asyncio.sleep(0)
"""


def add(folder: Path, model: str, factor: int) -> None:
    one_number.write(folder, model, MODEL.replace("FACTOR", str(factor)))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Without the model `large`; Triton loads what it is told."""
    service = tmp_path / "service"
    add(service, "small", 2)
    (service / "listener.yaml").write_text(SERVICE)
    (service / "said_by_graph_routes.py").write_text(HANDLERS)
    arguments = "--model-control-mode=explicit --load-model=small --strict-readiness=false"
    with running(tmp_path / "log", service=service, LISTENER_TRITON_ARGS=arguments, LISTENER_WORKERS="1") as made:
        made.until(200)
        yield made


def tell(stack: Stack, model: str, what: str) -> None:
    """Has Triton itself load or unload a model, which nobody can through the listener."""
    port = command_line(stack.triton_pid()).partition("--http-port=")[2].split()[0]
    url = f"http://127.0.0.1:{port}/v2/repository/models/{model}/{what}"
    assert requests.post(url, json={}, timeout=60).status_code == 200


def status(stack: Stack, name: str) -> bool:
    return bool(requests.get(f"{stack.url}/v1/models/{name}", timeout=5).json()["ready"])


def missing(stack: Stack, sentence: str) -> None:
    """Waits until health says so."""
    wait_for(lambda: sentence in stack.health()[1]["missing"], 30, lambda: f"{stack.health()}\n{stack.output()}")


def test_one_of_two_models_is_enough_and_the_other_one_may_come_and_go(stack: Stack, tmp_path: Path) -> None:
    service = tmp_path / "service"
    assert "ready all the same: model 'large' is not in the repository" in stack.output()
    assert stack.predict([[3]]).json() == {"predictions": [[6.0]]}
    assert stack.predict([[3]], parameters={"model": "watched"}).json() == {"predictions": [[6.0]]}
    assert [status(stack, name) for name in ("safe", "watched", "by_kind")] == [True, True, True]

    add(service, "large", 5)
    tell(stack, "large", "load")
    wait_for((service / "warm").exists, 30, stack.output)
    wait_for(lambda: stack.predict([[3]]).json() == {"predictions": [[15.0]]}, 10, stack.output)

    assert stack.output().count('"ready"') == 1  # all the while
    tell(stack, "small", "unload")
    missing(stack, "model 'small' is not ready")
    assert [status(stack, name) for name in ("safe", "watched", "by_kind")] == [True, False, False]

    tell(stack, "large", "unload")
    missing(
        stack, "route 'safe' has no alternative that is ready: model 'large' is not ready; model 'small' is not ready"
    )
    assert not status(stack, "safe")
    tell(stack, "small", "load")
    stack.until(200, 30)


def test_a_model_that_does_not_load_leaves_the_other_one(tmp_path: Path) -> None:
    service = tmp_path / "service"
    add(service, "small", 2)
    add(service, "large", 5)
    (service / "triton_repo/large/1/model.py").write_text("raise RuntimeError('a bug')")
    (service / "listener.yaml").write_text("routes: {safe: {fallback: [large, small]}}\n")
    arguments = "--exit-on-error=false --strict-readiness=false"
    with running(tmp_path / "log", service=service, LISTENER_TRITON_ARGS=arguments, LISTENER_WORKERS="1") as stack:
        stack.until(200)
        assert stack.predict([[3]]).json() == {"predictions": [[6.0]]}
        assert "ready all the same: model 'large' is not ready" in stack.output()


def test_a_stream_through_a_switch_to_a_generator(stack: Stack) -> None:
    body = {"instances": [{"kind": "words", "words": ["a", 2]}], "parameters": {"model": "by_kind"}}
    answer = requests.post(f"{stack.url}/predict", json=body, headers={"Accept": "text/event-stream"}, timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n") if part] == ["a", 2]


@pytest.mark.parametrize("end", ["", "/ready", "/config", "/infer"])
def test_triton_says_of_such_a_route_what_it_says_of_any_unknown_model(stack: Stack, end: str) -> None:
    method = "POST" if end == "/infer" else "GET"
    body = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1]}]} if end == "/infer" else None
    found = [
        requests.request(method, f"{stack.url}/v2/models/{name}{end}", json=body, timeout=10) for name in ("safe", "no")
    ]
    assert found[0].status_code == found[1].status_code
    assert found[0].text.replace("'safe'", "'no'") == found[1].text
