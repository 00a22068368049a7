"""What a handler can do wrong while it serves, against the real stack: the request fails, and no other one does."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.stack import Stack, alive, running, wait_for
from tests.integration.test_bad_input import check_refusal, write_identity
from tests.integration.test_workers import workers

pytestmark = pytest.mark.triton

SOURCE = """\
import os
import sys
import time

import numpy as np

from listener import Handler
from listener.call import Reply


class Hooks(Handler):
    model = "same"
    offload = "thread"

    def preprocess(self, instance):
        match instance:
            case "another name":
                return {"Z": np.zeros(1, np.float32)}
            case "another shape":
                return {"X": np.zeros(3, np.float32)}
            case "too many rows":
                return {"X": np.zeros((5, 1), np.float32)}
            case "another dtype":
                return {"X": np.zeros(1, np.complex64)}
            case "no arrays":
                return 5
            case "never":
                time.sleep(1000)
            case "sys.exit":
                sys.exit(3)
            case "os._exit":
                os._exit(3)
        return {"X": np.array([instance], np.float32)}

    def postprocess(self, outputs):
        if outputs["X"][0] == 13:
            return object()
        return float(outputs["X"][0])


class Apart(Hooks):
    offload = "process"


class Inline(Hooks):
    offload = "inline"


class Whole(Handler):
    model = "same"

    async def predict(self, call):
        if call.instances[0] == "too many":
            return Reply([1] * 10)
        if call.instances[0] == "no reply":
            return None
        return Reply([instance * 2 for instance in call.instances])


def merge(predictions):
    sys.exit(3)


def choose(instance, context):
    sys.exit(3)
"""

YAML = """\
default: hooks
routes:
  hooks: {handler: "handlers.bad:Hooks"}
  apart: {handler: "handlers.bad:Apart"}
  inline: {handler: "handlers.bad:Inline"}
  whole: {handler: "handlers.bad:Whole"}
  merged: {ensemble: {members: {a: same, b: same}, merge: "handlers.bad:merge"}}
  scored: {cascade: {nodes: [same, same], below: 1, score: "handlers.bad:merge"}}
  chosen: {switch: {function: "handlers.bad:choose", cases: {a: same}}}
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "handlers").mkdir()
    (folder / "handlers/bad.py").write_text(SOURCE)
    (folder / "listener.yaml").write_text(YAML)
    write_identity(folder / "triton_repo/same")
    with running(folder / "log", service=folder, LISTENER_TIMEOUT="2", LISTENER_THREADS="2") as stack:
        stack.until(200)
        yield stack


class Others:
    """Clients that send right requests meanwhile, and count what they get."""

    def __init__(self, stack: Stack, routes: tuple[str, ...] = ("hooks", "same")) -> None:
        self.answers = Counter[Any]()
        self._stack, self._end = stack, threading.Event()
        self._threads = [threading.Thread(target=self._client, args=[route]) for route in routes]

    def __enter__(self) -> Others:
        for thread in self._threads:
            thread.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *failure: object) -> None:
        time.sleep(0.1)
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _client(self, route: str) -> None:
        while not self._end.wait(0.01):
            answer = ask(self._stack, route, 3, 4)
            right = [[3.0], [4.0]] if route == "same" else [3.0, 4.0]
            self.answers["right" if answer.json() == {"predictions": right} else answer.text] += 1


def ask(stack: Stack, route: str, *instances: Any) -> requests.Response:
    return stack.predict(list(instances), parameters={"model": route})


def failed(route: str, hook: str) -> str:
    return f"the handler of {route!r} failed in {hook}; the log has the reason"


CASES: list[tuple[str, Any, int, str]] = [
    *(("hooks", case, 500, failed("hooks", "preprocess")) for case in ("another name", "no arrays", "sys.exit")),
    ("hooks", "another dtype", 500, failed("hooks", "preprocess")),
    ("hooks", "another shape", 500, failed("hooks", "preprocess")),
    ("hooks", "too many rows", 500, failed("hooks", "preprocess")),
    ("hooks", 13, 500, "a handler failed in postprocess; the log has the reason"),
    ("hooks", "never", 504, ""),
    ("apart", "sys.exit", 500, failed("apart", "preprocess")),
    ("apart", "os._exit", 500, failed("apart", "preprocess")),
    ("apart", "never", 504, ""),
    ("inline", "sys.exit", 500, failed("inline", "preprocess")),
    ("whole", "too many", 500, failed("whole", "predict")),
    ("whole", "no reply", 500, failed("whole", "predict")),
    ("merged", 1, 500, failed("merged", "merge")),
    ("scored", 1, 500, failed("scored", "score")),
    ("chosen", 1, 500, failed("chosen", "its function")),
]


@pytest.mark.parametrize(
    ("route", "instance", "status", "sentence"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES]
)
def test_the_request_fails_and_no_other_one_does(
    bad: Stack, route: str, instance: Any, status: int, sentence: str
) -> None:
    before = workers(bad)
    with Others(bad) as others:
        answer = ask(bad, route, instance)
    check_refusal(answer, status)
    assert answer.json()["error"].startswith(sentence)
    assert answer.headers["X-Request-Id"] in bad.output()
    assert set(others.answers) == {"right"}
    if route in ("hooks", "apart", "inline"):
        assert ask(bad, route, 5).json() == {"predictions": [5.0]}
    assert workers(bad) == before


def test_a_version_that_is_not_there_fails_its_requests_alone(tmp_path: Path) -> None:
    """Health tells what is missing; what is there is served all the same."""
    yaml = "default: same\nroutes:\n  same: {}\n  seventh: {model: same, version: 7}\n  referred: {node: same@7}\n"
    (tmp_path / "listener.yaml").write_text(yaml)
    write_identity(tmp_path / "triton_repo/same")
    with running(tmp_path / "log", service=tmp_path) as stack:
        wait_for(lambda: stack.health()[0] == 503 and ask(stack, "same", 1).status_code == 200, 60, stack.output)
        with Others(stack, ("same",)) as others:
            for route in ("seventh", "referred"):
                answer = ask(stack, route, 1)
                check_refusal(answer, 503)
                assert "7" in answer.json()["error"]
        assert set(others.answers) == {"right"}
        assert stack.health() == (
            503,
            {"status": "not ready", "missing": ["model 'same' has no version 7 that is ready"]},
        )


@pytest.mark.parametrize(
    ("route", "instance", "reason"),
    [
        ("hooks", "another name", "'Z'"),
        ("hooks", "too many rows", "has shape [1, 5, 1], the model takes"),
        ("apart", "os._exit", "exit code 3"),
        ("merged", 1, "SystemExit: 3"),
        ("scored", 1, "SystemExit: 3"),
        ("whole", "too many", "10 predictions for 1 instances"),
    ],
)
def test_the_log_has_the_reason(bad: Stack, route: str, instance: Any, reason: str) -> None:
    before = len(bad.output())
    request = ask(bad, route, instance).headers["X-Request-Id"]
    lines = [line for line in bad.output()[before:].splitlines() if request in line]
    assert any(reason in line for line in lines), "\n".join(lines)[-700:]


def test_more_hooks_that_never_return_than_there_are_threads(bad: Stack) -> None:
    """Each is given up in its time and its thread replaced."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(bad, "hooks", "never"), range(6)))
    assert [answer.status_code for answer in answers] == [504] * 6
    assert ask(bad, "hooks", 5).json() == {"predictions": [5.0]}


def test_a_hook_that_ends_the_worker_costs_its_requests_and_no_later_ones(bad: Stack) -> None:
    """os._exit in a thread of the worker, or on its loop, cannot be held: that is what `offload: process` is for."""
    (worker,) = workers(bad)
    with pytest.raises(requests.ConnectionError):
        ask(bad, "hooks", "os._exit")
    wait_for(lambda: not alive(worker), 5)
    bad.until(200)
    assert ask(bad, "hooks", 5).json() == {"predictions": [5.0]}
