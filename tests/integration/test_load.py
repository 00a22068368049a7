"""`loadtest/` as people run it: Locust as a program of its own, against a real stack and against wrong answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import monkey

from tests.artifacts.secure import Authority
from tests.http_server import Answering, serving
from tests.integration.stack import ROOT, Stack, end, free_port

pytestmark = pytest.mark.triton

#: Variables that a load test reads, which may be set where the tests run.
OURS = ("BODIES", "PREDICT_ROUTE", "TOKEN", "SHAPE")


def command(host: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "-H", host, *options]


def environment(given: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("LOCUST_")}
    return {**kept, **given}


def locust(host: str, *options: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A run without the page, 2 users for a second unless the options say otherwise; its figures on stdout.

    Requests that run by then are waited for, so that there is one in any case, however busy this machine is.
    """
    argv = command(host, "--headless", "--json", "-u2", "-r2", "-t1s", "--stop-timeout=20", *options)
    return subprocess.run(argv, cwd=ROOT, env=environment(given), capture_output=True, text=True, timeout=60)


def figures(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Of the one thing that was asked for."""
    rows = json.loads(done.stdout)
    assert len(rows) == 1, done.stderr
    return dict(rows[0])


def require_failures(done: subprocess.CompletedProcess[str], name: str) -> None:
    """Every request failed, all of them by one name, which the report at the end has, and so did the run."""
    row, report = figures(done), done.stderr.rpartition("Error report")[2]
    ((times, named),) = re.findall(r"^(\d+) +POST [^ ]+: (.*?) *$", report, re.M)
    assert named.startswith(name)
    assert int(times) == row["num_failures"] == row["num_requests"] > 0
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


# A real stack


def test_the_sample_is_asked_and_nothing_fails(sample: Stack) -> None:
    done = locust(sample.url)
    row = figures(done)
    assert (done.returncode, row["method"], row["name"], row["num_failures"]) == (0, "POST", "/predict", 0), done.stderr
    assert row["num_requests"] >= 2


def test_a_route_that_is_not_there_is_a_failure(sample: Stack) -> None:
    done = locust(sample.url, PREDICT_ROUTE="/nowhere")
    require_failures(done, "404: no such path: /nowhere")


def test_bodies_of_ones_own_and_one_that_is_refused(sample: Stack, tmp_path: Path) -> None:
    (tmp_path / "bodies").write_text('{"instances": [[1, 2, 3]]}\n')
    done = locust(sample.url, BODIES=str(tmp_path / "bodies"))
    require_failures(done, "400: instances[0]: ")


def test_a_shape_ends_by_itself(sample: Stack) -> None:
    given = {"SPIKE_CALM_USERS": "1", "SPIKE_CALM_SECONDS": "2", "SPIKE_USERS": "5", "SPIKE_SECONDS": "2"}
    argv = command(sample.url, "--headless", "--json")
    env = environment({"SHAPE": "spike", **given})
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, figures(done)["num_failures"]) == (0, 0), done.stderr
    assert [line.split("updating to ")[1][:7] for line in done.stderr.splitlines() if "updating to" in line] == [
        "1 users",
        "5 users",
        "1 users",
    ]


def test_a_master_counts_what_its_worker_asks(sample: Stack, tmp_path: Path) -> None:
    port = f"{free_port()}"
    with (tmp_path / "worker").open("wb") as log:
        argv = command(sample.url, "--worker", "--master-port", port)
        worker = subprocess.Popen(argv, cwd=ROOT, env=environment({}), stdout=log, stderr=log)
    try:
        here = ("--master-bind-host=127.0.0.1", f"--master-bind-port={port}")
        done = locust(sample.url, "--master", *here, "--expect-workers=1")
        assert (done.returncode, figures(done)["num_failures"]) == (0, 0), done.stderr
        assert figures(done)["num_requests"] >= 2
        assert worker.wait(20) == 0, (tmp_path / "worker").read_text()
    finally:
        if worker.poll() is None:
            end(worker)


# What answers wrongly


@contextlib.contextmanager
def answering(status: int, body: bytes, announced: int | None = None) -> Iterator[str]:
    """A server with the same answer for each request; one that announces more bytes than it has breaks off."""

    class Wrong(Answering):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = announced is not None

    with serving(Wrong) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "body", "announced", "name"),
    [
        (200, b'{"predictions": [1, 2]}', None, "200: 2 predictions for 1 instances"),
        (200, b'{"predictions": [', 100, "no answer: "),
        (302, b"", None, "302: no body"),
        (503, b'{"error": "not ready"}', None, "503: not ready"),
    ],
)
def test_a_wrong_answer_is_a_failure(status: int, body: bytes, announced: int, name: str) -> None:
    with answering(status, body, announced) as url:
        require_failures(locust(url), name)


def test_nobody_who_answers_is_asked_once_a_second() -> None:
    done = locust(f"http://127.0.0.1:{free_port()}")
    require_failures(done, "no answer: ConnectionRefusedError: ")
    assert figures(done)["num_requests"] <= 6


def test_a_run_without_any_answer_is_not_a_good_one() -> None:
    over = threading.Event()

    class Silent(Answering):
        def do_POST(self) -> None:
            over.wait(60)

    with serving(Silent) as url:
        done = locust(url, "--stop-timeout=0")
        over.set()
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "not one answer came" in done.stderr


def test_a_whole_url_of_vertex_with_a_token(tmp_path: Path) -> None:
    path = "/v1/projects/p/locations/l/endpoints/1:predict"
    asked = set[tuple[str, str | None]]()

    class Vertex(Answering):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.add((self.path, self.headers["Authorization"]))
            self.answer(200, b'{"predictions": [1], "deployedModelId": "11"}')

    authority = Authority(tmp_path)
    with serving(Vertex, authority.context("localhost")) as url:
        done = locust("", PREDICT_ROUTE=f"{url}{path}", TOKEN="abc", SSL_CERT_FILE=str(authority.bundle))
        row = figures(done)
        assert (done.returncode, row["name"], row["num_failures"]) == (0, path, 0), done.stderr
        assert asked == {(path, "Bearer abc")}
        asked.clear()
        done = locust(f"{url}{path}", TOKEN="abc")  # by a certificate that nobody trusts
        require_failures(done, "no answer: SSL")
        assert asked == set()


# The start


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SHAPE": "peak"}, "SHAPE=peak: it can be ramp, spike, soak, or nothing for a steady load"),
        ({"BODIES": "setup.cfg"}, "BODIES=setup.cfg: line 1: no JSON: "),
        ({"BODIES": "absent"}, "BODIES=absent: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line(given: dict[str, str], sentence: str) -> None:
    done = locust("http://127.0.0.1:1", **given)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout, line.startswith(f"loadtest: {sentence}")) == (1, "", True), line


def test_it_starts_from_any_folder_where_its_files_are_links(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: each file leads into a folder beside it, of another name."""
    mounted = tmp_path / "loadtest"
    (mounted / "..data").mkdir(parents=True)
    for file in (ROOT / "loadtest").glob("*.*"):
        (mounted / "..data" / file.name).write_bytes(file.read_bytes())
        (mounted / file.name).symlink_to(f"..data/{file.name}")
    env = {name: value for name, value in environment({}).items() if name != "PYTHONPATH"}
    argv = [sys.executable, "-m", "locust", "-f", str(mounted / "locustfile.py"), "--list"]
    done = subprocess.run(argv, cwd=tmp_path / "loadtest/..data", env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Caller" in done.stdout) == (0, True), done.stderr


def test_locust_stays_out_of_this_process(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.is_blocked("locust")
    assert "locust" not in sys.modules
    assert not monkey.is_module_patched("socket")
