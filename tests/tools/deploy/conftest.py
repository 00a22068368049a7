from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest

from listener.tools.deploy import following
from tests.tools.deploy import fake_vertex
from tests.tools.deploy.fake_vertex import Vertex


@pytest.fixture
def vertex(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vertex]:
    """An empty Vertex AI, at which we look without much of a pause."""
    monkeypatch.setattr(following, "_pauses", lambda: itertools.repeat(0.01))
    with fake_vertex.running() as running:
        yield running
        assert running.mistakes == []


@pytest.fixture
def own_log() -> Iterator[None]:
    """The command sets up the log, as the program that it usually is; afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("listener", "triton", "handlers")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
