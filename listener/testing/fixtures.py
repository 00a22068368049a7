"""Fixtures of pytest for the tests of a service: `pytest_plugins = ["listener.testing.fixtures"]` in conftest.py.

The tests are plain functions and need no plugin for asyncio.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.service import FILE
from listener.testing.client import Client
from listener.testing.fake import FakeTriton


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Path:
    """The service under test: the nearest folder with listener.yaml above the test file."""
    for folder in request.path.parents:
        if (folder / FILE).is_file():
            return folder
    pytest.fail(f"no folder above {request.path} has a {FILE}; define a fixture `service` that gives the one meant")


@pytest.fixture
def triton() -> FakeTriton:
    """A Triton without models; add yours: `triton.models["iris"] = FakeModel(...)`."""
    return FakeTriton()


@pytest.fixture
def client(service: Path, triton: FakeTriton) -> Iterator[Client]:
    """Asks the service, which starts at the first request and stops after the test."""
    with Client(service, triton) as made:
        yield made
