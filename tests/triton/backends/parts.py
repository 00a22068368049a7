"""The modules of our Python-based backends, imported as Triton's stub does: with their folders on the path."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BACKENDS = Path(__file__).parents[3] / "listener" / "triton" / "backends"


@contextlib.contextmanager
def modules(backend: str, *names: str) -> Iterator[list[ModuleType]]:
    """Those of one backend, or of what the backends share."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("_shared", backend):
            patch.syspath_prepend(str(BACKENDS / folder))
        yield [importlib.import_module(name) for name in names]
