"""Start, death, restart and stop of real processes. Upper bounds are twice what the documentation promises."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from listener.process import children
from tests.integration import one_number
from tests.integration.stack import (
    ROOT,
    Stack,
    alive,
    command_line,
    descendants,
    free_port,
    left,
    running,
    wait_for,
)
from tests.integration.terminal import terminal

pytestmark = pytest.mark.triton

SLOW_MODEL = """\
import time
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(2)
        return [utils.InferenceResponse([utils.Tensor("Y", utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""
STUCK = """\
import threading
from listener import Handler

class Stuck(Handler):
    def preprocess(self, instance):
        threading.Event().wait()
"""


@pytest.fixture
def slow_service(tmp_path: Path) -> Path:
    """A service whose only model takes two seconds."""
    folder = tmp_path / "service"
    one_number.write(folder, "slow", SLOW_MODEL)
    (folder / "listener.yaml").write_text("routes:\n  slow: {}\n")
    return folder


def test_cold_start_answers_at_once_and_is_ready_soon_after_triton(tmp_path: Path) -> None:
    """503 within 1 s of the process start, 200 within 1 s after Triton is ready; each bound doubled."""
    with running(tmp_path / "log") as stack:
        wait_for(lambda: stack.health()[0] != 0, 10)
        first = time.monotonic() - stack.started
        status, body = stack.health()
        assert first < 2.0
        assert status == 503
        assert body["missing"]
        triton = wait_for_triton(stack)
        assert stack.until(200, 2.0) < 2.0, triton


def wait_for_triton(stack: Stack) -> str:
    """Waits until Triton itself says that it is ready; returns its URL."""
    wait_for(lambda: any("tritonserver" in command_line(pid) for pid in children(stack.process.pid)), 10)
    url = stack.triton_url()

    def ready() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/v2/health/ready", timeout=2).status_code == 200
        return False

    wait_for(ready, 60)
    return url


def test_death_of_triton_is_noticed_survived_and_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "log") as stack:
        stack.until(200)
        regions, first = stack.regions(), stack.triton_pid()
        stubs = descendants(first)
        os.kill(first, signal.SIGKILL)
        assert stack.until(503, 5) < 2.0  # promised: within 1 s
        assert stack.predict([[0, 16] * 32]).status_code == 503
        stack.until(200)
        assert stack.triton_pid() != first
        assert stack.predict([[0, 16] * 32]).status_code == 200
        assert not [pid for pid in stubs if alive(pid)]
        assert "a Python stub of Triton has ended" not in stack.output()
        assert len(regions) >= 2  # the lock and the stub's
        assert not left(regions)


def test_a_lost_stub_is_noticed_and_replaced(tmp_path: Path) -> None:
    """Triton itself goes on without it, calls itself ready and fails every second request."""
    with running(tmp_path / "log") as stack:
        stack.until(200)
        stub = next(pid for pid in children(stack.triton_pid()) if "python_backend_stub" in command_line(pid))
        os.kill(stub, signal.SIGKILL)
        stack.until(503, 5)
        stack.until(200)
        assert "a Python stub of Triton has ended; Triton is restarted" in stack.output()
        assert {stack.predict([[0, 16] * 32]).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize("name", ["mit leer", "m\u00fcller"])
def test_a_path_that_tritons_stubs_could_not_take(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(ROOT / "triton_repo", folder / "triton_repo")
    shutil.copytree(ROOT / "handlers", folder / "handlers")
    shutil.copy(ROOT / "listener.yaml", folder)
    with running(tmp_path / "log", service=folder) as stack:
        stack.until(200)
        assert stack.predict([[0, 16] * 32]).status_code == 200


def test_everything_runs_on_loopback_and_triton_sees_no_platform_variables(sample: Stack) -> None:
    environ = Path(f"/proc/{sample.triton_pid()}/environ").read_bytes().split(b"\0")
    assert not [entry for entry in environ if entry.startswith(b"AIP_")]
    assert b"LISTENER_HOST=127.0.0.1" in environ  # the check above looked at a real environment
    sockets = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    mine = {f"pid={pid}," for pid in descendants(sample.process.pid) | {sample.process.pid}}
    addresses = [line.split()[3] for line in sockets.splitlines() if any(pid in line for pid in mine)]
    assert len(addresses) >= 3  # ours, Triton's HTTP, Triton's metrics
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_two_stacks_run_side_by_side(sample: Stack, tmp_path: Path) -> None:
    with running(tmp_path / "log") as other:
        other.until(200)
        assert sample.health()[0] == 200
        assert other.predict([[0, 16] * 32]).status_code == 200


def test_a_taken_port_is_one_sentence(sample: Stack, tmp_path: Path) -> None:
    with running(tmp_path / "log", AIP_HTTP_PORT=str(sample.port)) as second:
        assert second.process.wait(10) == 1
        assert second.output().strip() == (
            f"listener: cannot listen on 127.0.0.1:{sample.port}: Address already in use; "
            "choose another port with --port or AIP_HTTP_PORT"
        )


def test_ctrl_c_in_a_terminal_drains_first(slow_service: Path) -> None:
    """Ctrl-C goes to the whole foreground group, as from a keyboard; the running request still gets its answer."""
    port = free_port()
    env = {**os.environ, "LISTENER_HOST": "127.0.0.1", "AIP_HTTP_PORT": str(port)}
    with terminal([sys.executable, "-m", "listener", "up"], env, slow_service) as screen:
        screen.until("Ready. Serving slow")
        family, answers = descendants(screen.pid), list[requests.Response]()
        body = {"instances": [[1.5]]}
        request = threading.Thread(
            target=lambda: answers.append(requests.post(f"http://127.0.0.1:{port}/predict", json=body, timeout=30))
        )
        request.start()
        time.sleep(0.5)
        screen.press("\x03")
        begin = time.monotonic()
        assert screen.wait() == 0, screen.text
        request.join()
        assert time.monotonic() - begin < 20
        assert answers[0].json() == {"predictions": [[1.5]]}
        wait_for(lambda: not [pid for pid in family if alive(pid)], 5)
        assert "Traceback" not in screen.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "tmp").mkdir()
    with running(tmp_path / "log", TMPDIR=str(tmp_path / "tmp")) as stack:
        stack.until(200)
        regions = stack.regions()
        assert list((tmp_path / "tmp").iterdir())
        family = descendants(stack.process.pid)
        begin = time.monotonic()
        assert stack.stop(number) == 0
        assert time.monotonic() - begin < 15
        assert len(family) >= 3  # worker, Triton, at least one stub
        assert not [pid for pid in family if alive(pid)]
    assert regions
    assert not left(regions)
    assert not list((tmp_path / "tmp").iterdir())


def phases(port: int) -> list[str]:
    """Those in which a worker says that it is."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    found: list[str] = re.findall(r'^listener_workers{phase="(\w+)"} 1.0$', text, re.M)
    return found


def test_while_draining_new_requests_are_refused_and_the_old_one_finishes(tmp_path: Path, slow_service: Path) -> None:
    metrics = free_port()
    with running(tmp_path / "log", service=slow_service, LISTENER_METRICS_PORT=str(metrics)) as stack:
        stack.until(200)
        assert phases(metrics) == ["ready"]
        answers = list[requests.Response]()
        request = threading.Thread(target=lambda: answers.append(stack.predict([[2.0]])))
        request.start()
        time.sleep(0.5)
        stack.process.send_signal(signal.SIGTERM)
        stack.until(503, 2)
        assert stack.health()[1]["status"] == "draining"
        assert phases(metrics) == ["draining"]
        assert "draining" in stack.output()
        refusal = stack.predict([[3.0]])
        assert (refusal.status_code, refusal.json()) == (503, {"error": "the listener is draining"})
        assert refusal.headers["Retry-After"]
        request.join()
        assert answers[0].json() == {"predictions": [[2.0]]}
        assert stack.process.wait(20) == 0


def test_what_outlives_the_drain_is_refused_with_the_one_error_body(tmp_path: Path, slow_service: Path) -> None:
    with running(tmp_path / "log", service=slow_service, LISTENER_DRAIN_TIMEOUT="0.5") as stack:
        stack.until(200)
        answers = list[requests.Response]()
        request = threading.Thread(target=lambda: answers.append(stack.predict([[2.0]])))
        request.start()
        time.sleep(0.5)
        assert stack.stop() == 0
        request.join()
        assert answers[0].status_code == 503
        assert answers[0].json() == {"error": "the listener stopped before the answer was there"}


def test_a_hook_that_never_returns_does_not_hold_the_stop(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    (tmp_path / "listener.yaml").write_text("routes:\n  s: {handler: 'stuck:Stuck', model: digits}\n")
    (tmp_path / "triton_repo").symlink_to(ROOT / "triton_repo")
    with running(tmp_path / "log", service=tmp_path, LISTENER_DRAIN_TIMEOUT="0.5") as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        threading.Thread(target=_ignore, args=[stack]).start()
        time.sleep(0.5)
        begin = time.monotonic()
        assert stack.stop() == 0
        assert time.monotonic() - begin < 16  # the drain, the closing and Triton's end: 8 s
        assert not [pid for pid in family if alive(pid)]


def test_a_second_signal_forces(tmp_path: Path, slow_service: Path) -> None:
    with running(tmp_path / "log", service=slow_service) as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        threading.Thread(target=_ignore, args=[stack]).start()
        time.sleep(0.5)
        stack.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert stack.stop(signal.SIGTERM, 5) == 1
        wait_for(lambda: not [pid for pid in family if alive(pid)], 5)


def _ignore(stack: Stack) -> None:
    """A request whose end does not matter."""
    with contextlib.suppress(requests.RequestException):
        stack.predict([[1.0]])


def test_children_die_with_a_killed_parent_and_the_next_start_clears_up(tmp_path: Path) -> None:
    with running(tmp_path / "first") as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        regions = stack.regions()
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: not [pid for pid in family if alive(pid)], 20)
    assert regions
    with running(tmp_path / "second") as stack:
        stack.until(200)
        assert not left(regions)


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path / "log") as stack:
        stack.until(200)
        worker = next(pid for pid in children(stack.process.pid) if "listener.worker" in command_line(pid))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not alive(worker), 5)
        stack.until(200)
        assert stack.predict([[0, 16] * 32]).status_code == 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("routes:\n  a: {}\nrepositori: x\n", "listener.yaml:3: unknown key 'repositori'"),
        ("repository: nowhere\nroutes:\n  a: {}\n", "nowhere: no such folder"),
        ("routes:\n  a: {handler: 'no.such:Thing'}\n", "'no.such' cannot be imported"),
    ],
    ids=["unknown key", "no repository", "no handler"],
)
def test_a_mistake_in_the_service_stops_the_start_with_the_reason(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "listener.yaml").write_text(text)
    (tmp_path / "triton_repo").mkdir()
    with running(tmp_path / "log", service=tmp_path) as stack:
        assert stack.process.wait(30) == 1
        assert sentence in stack.output()
        assert "Traceback" not in stack.output()


def test_a_bad_setting_stops_the_start_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path / "log", LISTENER_TIMEOUT="soon") as stack:
        assert stack.process.wait(10) == 1
        assert stack.output() == "listener: LISTENER_TIMEOUT: 'soon' is not a number of seconds\n"


HIDDEN = {
    "libpython": (
        "installation._library_folders = lambda: []",
        f"libpython3.{sys.version_info.minor}.so.1.0 is missing and Triton's Python backend needs it: "
        f"apt-get install libpython3.{sys.version_info.minor} ",
    ),
    "numpy 1": (
        "installation.importlib.metadata.version = lambda name: '2.3.4'",
        "the embedded Triton's Python stub cannot read arrays of numpy 2.3.4: pip install 'numpy<2'",
    ),
    "Python 3.12": (
        "version = types.SimpleNamespace(major=3, minor=19)\n"
        "installation.sys = types.SimpleNamespace(**{**vars(sys), 'version_info': version})",
        "the embedded Triton has no Python stub for Python 3.19: use Python 3.11 or 3.12",
    ),
    "wheel": (
        "installation.importlib.util.find_spec = lambda name: None",
        "no tritonserver found: put one on PATH, name it in LISTENER_TRITON_BIN, or install the embedded one with "
        "pip install 'triton-listener[local]'",
    ),
    "Linux": (
        "installation.platform = types.SimpleNamespace(machine=lambda: 'arm64', system=lambda: 'Darwin')",
        "no tritonserver found, and the embedded one exists for Linux x86-64 only, not for Darwin arm64: "
        "run it in the container instead: docker compose up cpu",
    ),
}


@pytest.mark.parametrize(("hide", "sentence"), HIDDEN.values(), ids=HIDDEN.keys())
def test_what_is_missing_is_one_sentence_before_anything_starts(hide: str, sentence: str) -> None:
    """Each thing that the embedded Triton needs, hidden from an otherwise real `listener up`."""
    script = f"import sys, types\nfrom listener.triton import installation\n{hide}\n"
    script += "from listener.cli import main\nsys.argv = ['listener', 'up', '--port', '0']\nmain()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"listener: {sentence}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_health_command(sample: Stack) -> None:
    def ask(port: int) -> int:
        env = {**os.environ, "AIP_HTTP_PORT": str(port)}
        return subprocess.run([sys.executable, "-m", "listener", "health"], env=env, capture_output=True).returncode

    assert ask(sample.port) == 0
    assert ask(free_port()) == 1


def test_predict_command(sample: Stack) -> None:
    command = [sys.executable, "-m", "listener", "predict", "--url", f"{sample.url}/predict"]
    picture = ROOT / "examples/digit-4.png"
    piped = subprocess.run([*command, "-"], input=picture.read_bytes(), capture_output=True, check=True).stdout
    assert b'{"predictions":[{"digit":4,' in piped
    numbers = base64.b64encode(b"nonsense").decode()
    wrong = subprocess.run([*command, "-"], input=f'{{"b64": "{numbers}"}}'.encode(), capture_output=True)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(b'{"error":"instances[0]: ')
