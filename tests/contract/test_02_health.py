"""Contract, item 2: health is 200 exactly when predictions can be made, else 503, and never waits for inference."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract import models
from tests.contract.container import Container, running
from tests.contract.target import Target
from tests.integration.stack import wait_for

pytestmark = pytest.mark.triton

#: What the platform gives a health check before it counts as failed, in seconds.
LIMIT = 10.0


@pytest.fixture
def own(here: None, tmp_path: Path) -> Iterator[Container]:
    """A container that a test may harm, whose Triton loads and unloads models when it is told to."""
    repository = models.write(tmp_path / "models", [models.DEFAULT])
    explicit = "--model-control-mode=explicit --load-model=*"
    with running(
        tmp_path / "run", "--repository", str(repository), LISTENER_TRITON_ARGS=explicit, LISTENER_DEFAULT_MODEL=None
    ) as container:
        yield container


def health(target: Target) -> int:
    """The status of the health route, which comes in time."""
    begin = time.monotonic()
    status = target.health()
    assert time.monotonic() - begin < LIMIT
    return status


def test_health_is_200_when_predictions_can_be_made(target: Target) -> None:
    answer = target.get(target.health_route)
    assert answer.status == 200
    assert answer.media_type == "application/json"
    assert target.predictions([[1.0]]) == [[1.0]]


def test_while_loading_it_is_503_and_then_200(own: Container) -> None:
    target, seen = own.target(), list[int]()

    def ready() -> bool:
        status = health(target)
        if status and seen[-1:] != [status]:
            seen.append(status)
        return status == 200

    wait_for(ready, 60, own.output)
    assert seen == [503, 200]
    assert target.predictions([[1.0]]) == [[1.0]]


def test_it_is_503_after_the_death_of_triton_and_200_once_that_is_back(own: Container) -> None:
    target = own.ready()
    os.kill(own.triton_pid(), signal.SIGKILL)
    assert wait_for(lambda: health(target) == 503, LIMIT, own.output) < LIMIT
    own.ready()
    assert target.predictions([[1.0]]) == [[1.0]]


def test_it_is_503_while_triton_says_nothing(own: Container) -> None:
    target = own.ready()
    triton = own.triton_pid()
    os.kill(triton, signal.SIGSTOP)
    try:
        wait_for(lambda: health(target) == 503, 30, own.output)
    finally:
        os.kill(triton, signal.SIGCONT)
    own.ready()
    assert target.predictions([[1.0]]) == [[1.0]]


def test_it_is_503_while_triton_has_not_the_model(own: Container) -> None:
    target = own.ready()
    triton = own.triton()
    assert triton.post(f"/v2/repository/models/{models.DEFAULT}/unload").status == 200
    wait_for(lambda: health(target) == 503, LIMIT, own.output)
    assert triton.post(f"/v2/repository/models/{models.DEFAULT}/load").status == 200
    own.ready()


def test_it_answers_in_time_under_full_load(target: Target) -> None:
    """Requests that wait in Triton, large ones that are parsed, and many small ones, all at once."""
    large = {"instances": [[0.5] * 400_000]}

    def slow(_: int) -> int:
        return target.predict({"instances": [[0.3]], "parameters": {"model": "slow"}}).status

    with ThreadPoolExecutor(24) as pool:
        work = [pool.submit(slow, n) for n in range(16)]
        work += [pool.submit(lambda: target.predict(large).status) for _ in range(4)]
        work += [pool.submit(lambda: target.predict({"instances": [[1.0]] * 50}).status) for _ in range(100)]
        answered = 0
        while not all(future.done() for future in work):
            assert health(target) == 200
            answered += 1
        assert answered > 3
        assert {future.result() for future in work} == {200}
