"""`errors: per_instance` against the real Triton, with the sample's pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.stack import ROOT, Stack, running

pytestmark = pytest.mark.triton


def test_broken_pictures_fail_alone_and_the_others_go_to_triton_together(tmp_path: Path) -> None:
    for name in ("handlers", "triton_repo"):
        (tmp_path / name).symlink_to(ROOT / name)
    routes = "routes: {digits: {handler: 'handlers.digits:Digits', errors: per_instance}}"
    (tmp_path / "listener.yaml").write_text(routes)
    pictures = [file.read_bytes() for file in sorted((ROOT / "examples").glob("digit-*"))]
    sent: list[Any] = [{"b64": base64.b64encode(picture).decode()} for picture in pictures * 4]
    broken = {3: {"b64": base64.b64encode(pictures[0][:40]).decode()}, 17: "no picture", 18: {}, 39: [1, 2]}
    for place, instance in broken.items():
        sent[place] = instance
    with running(tmp_path / "log", service=tmp_path) as stack:
        stack.until(200)
        before = _counts(stack)
        answer = stack.predict(sent)
        after = _counts(stack)
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    failed = {place: each for place, each in enumerate(found) if list(each) == ["error"]}
    assert failed.keys() == broken.keys()
    assert all(isinstance(each["error"], str) and "instances[" not in each["error"] for each in failed.values())
    right = {place: place % 10 for place in range(40) if place not in broken}
    assert {place: found[place]["digit"] for place in right} == right
    assert (after[0] - before[0], after[1] - before[1]) == (36, 1)


def _counts(stack: Stack) -> tuple[int, int]:
    """Instances and calls that Triton has worked on."""
    (model,) = requests.get(f"{stack.url}/v2/models/digits/stats", timeout=10).json()["model_stats"]
    return model["inference_count"], model["execution_count"]
