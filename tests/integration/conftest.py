from __future__ import annotations

from collections.abc import Iterator

import pytest

from listener.errors import ConfigError
from listener.triton import installation
from tests.integration.stack import Stack, running


@pytest.fixture(scope="session", autouse=True)
def triton_can_run(request: pytest.FixtureRequest) -> None:
    """Ends the run with the one sentence that says what this machine lacks, instead of failing every test with it."""
    try:
        installation.find("")
    except ConfigError as error:
        request.session.shouldfail = f"the integration tests need a real Triton: {error}"
        pytest.fail(request.session.shouldfail, pytrace=False)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The sample service, with the platform's variables set; shared by tests that leave it as it is."""
    log = tmp_path_factory.mktemp("sample") / "log"
    with running(log, AIP_MODE="PREDICTION", AIP_PREDICT_ROUTE="/predict", AIP_HEALTH_ROUTE="/health") as stack:
        stack.until(200)
        yield stack
