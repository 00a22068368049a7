"""supervisord.conf as the image runs it, in the folder of the sample service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.artifacts import emulator as emulators
from tests.integration.stack import ROOT, alive, children, command_line, descendants, free_port, wait_for

pytestmark = pytest.mark.triton


@pytest.fixture
def fetched() -> Iterator[dict[str, str]]:
    """The sample's models in Cloud Storage, where the platform says that they are."""
    with emulators.running() as emulator:
        emulator.upload("artefacts", ROOT / "triton_repo", "models/")
        yield {"AIP_STORAGE_URI": "gs://artefacts/models", "STORAGE_EMULATOR_HOST": emulator.url}


def test_both_programs_run_are_restarted_and_stop_in_order(tmp_path: Path) -> None:
    run_and_stop(tmp_path, {})


def test_the_same_with_models_that_are_fetched(tmp_path: Path, fetched: dict[str, str]) -> None:
    """One of the two programs fetches them, once, though Triton dies in between; nothing stays."""
    (tmp_path / "tmp").mkdir()
    text = run_and_stop(tmp_path, {**fetched, "TMPDIR": str(tmp_path / "tmp")})
    assert text.count('"message":"fetched: 2 of 2 files') == 1
    assert text.count("gs://artefacts/models/ has not changed since it was fetched") == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def run_and_stop(tmp_path: Path, more: dict[str, str]) -> str:
    """Both programs, the death of Triton, a prediction after it, and the stop. Returns what they wrote."""
    port, triton_port, log = free_port(), free_port(), tmp_path / "log"
    conf = tmp_path / "supervisord.conf"
    conf.write_text((ROOT / "supervisord.conf").read_text().replace("/tmp/", f"{tmp_path}/"))
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIP_HTTP_PORT": str(port),
        "AIP_MODE": "PREDICTION",
        "LISTENER_HOST": "127.0.0.1",
        "LISTENER_TRITON_URL": f"127.0.0.1:{triton_port}",
        "LISTENER_TRITON_ARGS": f"--metrics-port={free_port()}",
        **more,
    }
    with log.open("ab") as output:  # the programs append to it as well
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(conf)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    family = set[int]()
    try:
        wait_for(lambda: health(port) == 200, 60, log.read_text)
        (triton,) = (pid for pid in children(process.pid) if "listener triton" in command_line(pid))
        os.kill(next(iter(children(triton))), signal.SIGKILL)
        wait_for(lambda: health(port) == 503, 5, log.read_text)
        wait_for(lambda: health(port) == 200, 60, log.read_text)
        answer = requests.post(f"http://127.0.0.1:{port}/predict", json={"instances": [[0, 16] * 32]}, timeout=10)
        assert answer.status_code == 200
        family = descendants(process.pid)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert time.monotonic() - begin < 30
        assert len(family) >= 5
        assert not [pid for pid in family if alive(pid)]
        text = log.read_text()
        assert text.index("draining") < text.rindex('"logger":"triton"')
        return text
    finally:
        process.kill()
        process.wait()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def health(port: int) -> int:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code
    except requests.ConnectionError:
        return 0
