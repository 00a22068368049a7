"""What `listener new --model` makes of models of many kinds, in a real Triton."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.tools import scaffold
from tests.integration.stack import ROOT, Stack, running
from tests.tiny_onnx import KINDS

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of them as routes of one service, so that they share a Triton."""
    top = tmp_path_factory.mktemp("own")
    service, routes = top / "service", "routes:\n"
    for kind, model in KINDS.items():
        routes += _added(kind, model.write(top / "given.onnx"), service)
    routes += _added("sample", ROOT / "triton_repo" / "digits" / "1" / "model.onnx", service)
    (service / "listener.yaml").write_text(routes + "default: text\n")
    with running(top / "log", service=service) as running_stack:
        running_stack.until(200)  # every example has gone through
        yield running_stack


def _added(name: str, model: Path, service: Path) -> str:
    """Makes a service and moves its files into another one; its route."""
    made = scaffold.make(name, service.parent, model).folder
    shutil.copytree(made, service, dirs_exist_ok=True)
    return (made / "listener.yaml").read_text().partition("routes:\n")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_has_the_prediction_of_the_model(stack: Stack, kind: str) -> None:
    model = KINDS[kind]
    answer = stack.predict([model.instance, model.instance], parameters={"model": kind})
    assert answer.json() == {"predictions": [model.prediction, model.prediction]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does_not_take_is_a_400(stack: Stack, kind: str) -> None:
    answer = stack.predict([KINDS[kind].instance, {"unknown": 1}], parameters={"model": kind})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("instances[1]: unknown input 'unknown'; model ")


def test_the_sample_model(stack: Stack) -> None:
    answer = stack.predict([[[[0.0] * 24] * 24]], parameters={"model": "sample"})
    assert [*answer.json()["predictions"][0]] == ["probabilities"]
    assert sum(answer.json()["predictions"][0]["probabilities"]) == pytest.approx(1)
