"""The stack of the suite: started once, or a container elsewhere (`--base-url`)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.errors import ConfigError
from listener.triton import installation
from tests.contract import models
from tests.contract.container import Container, Processes, running
from tests.contract.target import Target
from tests.integration.stack import environment_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the conformance suite against a container that runs already")
    group.addoption(
        "--base-url",
        help="test this container, which serves the repository that `python -m tests.contract.models DIR` writes "
        f"(LISTENER_DEFAULT_MODEL={models.DEFAULT}), instead of a listener that the suite starts",
    )
    group.addoption(
        "--pid",
        type=int,
        help="of that container's first process, where it is on this machine and in this network: what looks into "
        "processes is tested as well",
    )
    group.addoption("--fuzzed", type=int, help="malformed requests of the fuzzer; default: 5000")
    group.addoption("--predict-route", default="/predict", help="of that container; default: /predict")
    group.addoption("--health-route", default="/health", help="of that container; default: /health")


@pytest.fixture(scope="session")
def elsewhere(pytestconfig: pytest.Config) -> Target | None:
    """The container that the command line names."""
    url = pytestconfig.getoption("base_url", None)
    if url is None:
        return None
    parts = urllib.parse.urlsplit(str(url))
    assert parts.scheme == "http" and parts.hostname, f"--base-url: {url!r} is not http://HOST:PORT"
    routes = pytestconfig.getoption("predict_route"), pytestconfig.getoption("health_route")
    return Target(parts.hostname, parts.port or 80, *routes)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's model repository."""
    return models.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def here(elsewhere: Target | None) -> None:
    """For tests that start, change or look into processes."""
    if elsewhere is not None:
        pytest.skip("needs control over the process, which --base-url does not give")
    try:
        installation.find("")
    except ConfigError as error:
        pytest.fail(f"the conformance suite needs a real Triton: {error}", pytrace=False)


@pytest.fixture(scope="session")
def container(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Processes:
    """A listener with every model of the suite, as Vertex starts it; shared by tests that leave it as it is."""
    if pid := pytestconfig.getoption("pid", None):
        assert pytestconfig.getoption("base_url"), "--pid is of the container that --base-url names"
        return looked_into(pid)
    started: Processes = request.getfixturevalue("own_container")
    return started


def looked_into(pid: int) -> Processes:
    """A container by its first process."""
    told = environment_of(pid).items()
    return Processes(pid, {name: value for name, value in told if name.startswith(("AIP_", "LISTENER_"))})


@pytest.fixture(scope="session")
def own_container(here: None, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One that the suite starts."""
    folder = tmp_path_factory.mktemp("container")
    with running(folder, "--repository", str(repository), LISTENER_DEFAULT_MODEL=models.DEFAULT) as started:
        started.ready()
        yield started


@pytest.fixture(scope="session")
def target(elsewhere: Target | None, request: pytest.FixtureRequest) -> Target:
    """What is tested."""
    if elsewhere is not None:
        return elsewhere
    started = request.getfixturevalue("container")
    assert isinstance(started, Processes)
    return started.target()
