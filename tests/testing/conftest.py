"""Services of one handler, for the tests of what is made for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from listener.testing import FakeModel, FakeTriton

PLUS = """\
from listener import Handler, InstanceError
import numpy as np

class H(Handler):
    model = "m"

    def preprocess(self, instance):
        if not isinstance(instance, (int, float)):
            raise InstanceError("no number")
        return {"x": np.array([instance + %s], np.float32)}

    def postprocess(self, outputs):
        return float(outputs["y"][0])
"""

MakeService = Callable[..., Path]


@pytest.fixture
def make_service(tmp_path: Path) -> MakeService:
    """Writes a service whose one handler adds a number; `source` replaces that handler."""

    def make(name: str, plus: int = 0, source: str | None = None) -> Path:
        folder = tmp_path / name
        (folder / "handlers").mkdir(parents=True)
        (folder / "handlers" / "h.py").write_text(PLUS % plus if source is None else source)
        (folder / "listener.yaml").write_text("routes:\n  m:\n    handler: handlers.h:H\n")
        return folder

    return make


def doubling() -> FakeTriton:
    """A Triton whose one model, m, doubles a number."""
    return FakeTriton({"m": FakeModel({"x": ("FP32", [1])}, {"y": ("FP32", [1])}, lambda a: {"y": a["x"] * 2})})
