"""How an operation is followed, and an answer is waited for: the pauses, and what is said meanwhile."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from listener.errors import ConfigError
from listener.tools.deploy import calls, following, shown


def test_looks_become_rarer_but_come_each_ten_seconds() -> None:
    pauses = list(itertools.islice(following._pauses(), 1000))
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
    assert sum(pause < 10.0 for pause in pauses) < 12


@pytest.mark.parametrize(
    ("stage", "said"),
    [("DEPLOYMENT_STAGE_UNSPECIFIED", ""), ("STARTING_MODEL_SERVER", "starting model server")],
)
def test_a_stage_is_words(stage: str, said: str) -> None:
    assert following._stage({"metadata": {"deploymentStage": stage}}) == said
    assert following._stage({}) == ""


def test_lines_say_a_stage_once_and_then_each_half_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = itertools.count(0.0, 10.0)
    monkeypatch.setattr(shown, "time", SimpleNamespace(monotonic=lambda: next(now)))
    lines = shown.Lines()
    with caplog.at_level(logging.INFO, "listener.deploy"):
        for _ in range(7):
            lines.stage("upload the model", "")
    assert [record.getMessage() for record in caplog.records] == [
        "upload the model: under way, 0 s",
        "upload the model: under way, 30 s",
        "upload the model: under way, 60 s",
    ]


def test_a_platform_that_takes_the_connection_and_says_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "_SILENCE", 0.2)
    monkeypatch.setattr(calls, "_LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = calls.Api("my-project", "us-central1", f"http://127.0.0.1:{silent.getsockname()[1]}")
        ending = threading.Timer(10, lambda: silent.shutdown(socket.SHUT_RDWR))  # or it would be without end
        ending.start()
        begin = time.monotonic()
        with pytest.raises(ConfigError, match="tried again until nothing helped"):
            api.look(api.models.get(name="projects/my-project/locations/us-central1/models/digits"))
        assert time.monotonic() - begin < 5
        ending.cancel()
