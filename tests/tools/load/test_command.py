"""`listener load` without a stack: what is wrong before the run, a server over HTTPS, and two runs side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from listener.cli import cli
from tests.artifacts.secure import Authority
from tests.http_server import Answering, serving

BODY = '{"instances": [1]}'


class Refusing(Answering):
    """Says what its path says."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).seen.append(dict(self.headers))
        status = int(self.path.rpartition("/")[2] or 200)
        said = {401: {"error": {"message": "who are\nyou?"}}, 200: {"predictions": [1]}}
        self.answer(status, json.dumps(said.get(status, {"error": f"this is {status}"})).encode())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Refusing) as url:
        yield url


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "bodies.jsonl"
    file.write_text(BODY)
    return str(file)


def load(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["load", *arguments])


def told(result: Result) -> str:
    """The one line of a run that did not begin."""
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    return line


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "401: who are you?"), (403, "403: this is 403"), (404, "404: this is 404"), (400, "400: this is 400")],
)
def test_a_server_that_refuses_ends_it_with_its_sentence(server: str, data: str, status: int, sentence: str) -> None:
    said = told(load(f"{server}/{status}", "--data", data))
    assert said == f"listener: {server}/{status}: {sentence} ({data}:1)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "listener: PREDICT_URL is missing"),
        (["http://127.0.0.1:1"], "listener: http://127.0.0.1:1: has no path"),
        (["http://127.0.0.1:1/predict"], "listener: http://127.0.0.1:1/predict: no answer: Connection refused"),
        (["http://127.0.0.1:1/p", "--slo-p99", "50"], "listener: http://127.0.0.1:1/p: no answer"),
        (["http://127.0.0.1:1/p", "--slo-p99", "fast"], "listener: --slo-p99: 'fast' is no time such as 50ms"),
        (["http://127.0.0.1:1/p", "--duration", "0s"], "listener: --duration: '0s' is no time"),
        (["http://127.0.0.1:1/p", "--duration", "500ms"], "listener: --duration: 500ms is too short"),
        (["http://127.0.0.1:1/p", "--duration", "61m"], "listener: --duration: 61m is too long"),
        (["http://127.0.0.1:1/p", "--rate", "0"], "listener: --rate: requests per second above 0"),
        (["http://127.0.0.1:1/p", "--rate", "nan"], "listener: --rate: requests per second above 0"),
        (
            ["http://127.0.0.1:1/p", "--html", "/nowhere/a.html"],
            "listener: /nowhere/a.html: cannot be written: No such",
        ),
        (["http://127.0.0.1:1/p", "--json", "/"], "listener: /: cannot be written: Is a directory"),
        (["http://127.0.0.1:1/p", "--header", "a"], "listener: --header 'a': NAME:VALUE"),
        (
            ["http://127.0.0.1:1/p", "--metrics", "http://127.0.0.1:1/m"],
            "listener: --metrics http://127.0.0.1:1/m: no m",
        ),
        (["--compare", "/nowhere/a.json"], "listener: /nowhere/a.json: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], sentence: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(load(*arguments, "--data", data)).startswith(sentence)
    assert [file.name for file in tmp_path.iterdir()] == [
        "bodies.jsonl"
    ]  # looking whether it can be written leaves none


def test_a_run_over_https_with_headers(data: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    Refusing.seen.clear()
    with serving(Refusing, authority.context("localhost")) as url:
        trusted, distrusting = ({**os.environ, **more} for more in ({"SSL_CERT_FILE": str(authority.bundle)}, {}))
        argv = [sys.executable, "-m", "listener", "load", f"{url}/v1/200", "--data", data, "--rate", "20"]
        argv += ["--duration", "2s", "--slo-p99", "2s", "--header", "X-Api-Key: secret", "--json", "run.json"]
        done = subprocess.run(argv, cwd=tmp_path, env=trusted, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        refused = subprocess.run(argv, cwd=tmp_path, env=distrusting, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    (step,) = json.loads((tmp_path / "run.json").read_text())["steps"]
    assert step["errors"] == {}
    assert len(Refusing.seen) == step["sent"] + 6
    assert all(headers["X-Api-Key"] == "secret" for headers in Refusing.seen)
    assert "secret" not in (tmp_path / "load-report.html").read_text() + (tmp_path / "run.json").read_text()
    assert done.stdout.splitlines()[0].startswith("Keeps p99 under 2000 ms at 20 requests/s: ")
    assert done.stderr.startswith("step 1: 20/s, p50 ")


def test_two_runs_are_compared_without_a_third(server: str, data: str, tmp_path: Path) -> None:
    runs = [str(tmp_path / name) for name in ("a.json", "b.json")]
    page = tmp_path / "report.html"
    for run in runs:
        assert (
            load(
                f"{server}/200", "--data", data, "--rate", "50", "--duration", "2s", "--html", str(page), "--json", run
            ).exit_code
            == 0
        )
    assert load("--compare", runs[0], "--compare", runs[1], "--html", str(page)).exit_code == 0
    assert "Side by side" in page.read_text()
