"""`listener init` with the image's supervisord.conf, as the image runs it, in the folder of the sample service."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.process import children
from tests.artifacts import emulator as emulators
from tests.integration.stack import (
    ROOT,
    Stack,
    alive,
    command_line,
    descendants,
    end,
    free_port,
    running,
    topmost,
    wait_for,
)
from tests.integration.test_lifecycle import slow_service as slow_service
from tests.integration.test_workers import Load, six_running

pytestmark = pytest.mark.triton

CONF = ROOT / "supervisord.conf"
PICTURE = [[0, 16] * 32]


@pytest.fixture
def fetched() -> Iterator[dict[str, str]]:
    """The sample's models in Cloud Storage, where the platform says that they are."""
    with emulators.running() as emulator:
        emulator.upload("artefacts", ROOT / "triton_repo", "models/")
        yield {"AIP_STORAGE_URI": "gs://artefacts/models", "STORAGE_EMULATOR_HOST": emulator.url}


@contextlib.contextmanager
def container(tmp_path: Path, service: Path = ROOT, /, **env: str) -> Iterator[Stack]:
    """What the image's entry point runs, with ports that nobody else has; every line that it wrote is looked at."""
    (tmp_path / "tmp").mkdir()
    stack = Stack(
        tmp_path / "log",
        f"init --config {CONF}",
        None,
        service,
        AIP_MODE="PREDICTION",
        TMPDIR=str(tmp_path / "tmp"),
        LISTENER_TRITON_URL=f"127.0.0.1:{free_port()}",
        LISTENER_TRITON_METRICS_URL=f"127.0.0.1:{free_port()}",
        **env,
    )
    try:
        yield stack
        lines = [json.loads(line) for line in stack.output().splitlines()]
        assert lines
        assert not [line for line in lines if not line["severity"]]
    finally:
        end(stack.process)


def below(stack: Stack, text: str) -> int:
    """The one process of the container that has this text in its command line and nobody with it above."""
    return topmost(stack.process.pid, text)


def tritonserver(stack: Stack) -> int:
    return children(below(stack, "listener triton"))[0]


def test_both_programs_run_and_stop_in_order(tmp_path: Path) -> None:
    with container(tmp_path) as stack:
        stack.until(200)
        environ = Path(f"/proc/{tritonserver(stack)}/environ").read_bytes().split(b"\0")
        assert not [entry for entry in environ if entry.startswith(b"AIP_")]
        assert b"SUPERVISOR_PROCESS_NAME=triton" in environ  # the check above looked at a real environment
        family = descendants(stack.process.pid)
        assert stack.stop() == 0
        assert len(family) >= 7
        assert not [pid for pid in family if alive(pid)]
        text = stack.output()
        assert text.index("draining") < text.rindex('"logger":"triton"')
        assert '"severity":"ERROR"' not in text
        assert not list((tmp_path / "tmp").iterdir())


def test_models_are_fetched_once_though_triton_dies(tmp_path: Path, fetched: dict[str, str]) -> None:
    """One of the two programs fetches them, also when it is killed itself; nothing stays."""
    with container(tmp_path, ROOT, **fetched) as stack:
        stack.until(200)
        os.kill(tritonserver(stack), signal.SIGKILL)
        stack.until(503, 5)
        stack.until(200)
        first = tritonserver(stack)
        os.kill(below(stack, "listener triton"), signal.SIGKILL)
        wait_for(lambda: not alive(first), 15)  # which finishes what it has to do
        stack.until(503, 5)
        stack.until(200)
        # the one that was killed by itself; that of the new parent found its ports free
        assert stack.output().count("starting it again") == 1
        assert stack.predict(PICTURE).status_code == 200
        assert stack.stop() == 0
        text = stack.output()
        assert text.count('"message":"fetched: 2 of 2 files') == 1
        assert text.count("gs://artefacts/models/ has not changed since it was fetched") == 1
        # what the killed one had for its Triton may have been swept by another stack, whose temporary folder is another
        assert not [path for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("listener-py-")]


def test_what_is_killed_comes_back(tmp_path: Path) -> None:
    """Each of the processes in turn, but for supervisord."""
    with container(tmp_path) as stack:
        stack.until(200)
        os.kill(tritonserver(stack), signal.SIGKILL)
        stack.until(503, 5)
        stack.until(200)
        for victim in ("listener triton", "listener.starts", "listener.worker", "listener serve"):
            pid = below(stack, victim)
            family = descendants(pid) | {pid}
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda family=family: not [pid for pid in family if alive(pid)], 15, stack.output)  # type: ignore[misc]
            wait_for(lambda: stack.health()[0] == 200, 60, stack.output)
            assert stack.predict(PICTURE).status_code == 200, victim
        assert stack.process.poll() is None
        zombies = [pid for pid in children(stack.process.pid) if not alive(pid)]
        assert zombies == []
        assert stack.stop() == 0


def test_a_killed_serve_leaves_the_port_to_its_successor_and_answers_what_it_has(
    tmp_path: Path, slow_service: Path
) -> None:
    """The worker that lost its parent goes on for those requests alone."""
    with container(tmp_path, slow_service) as stack:
        stack.until(200)
        with six_running(stack) as answers:
            os.kill(below(stack, "listener serve"), signal.SIGKILL)
            seen = list[str]()
            wait_for(lambda: health_word(stack, seen) == "ready", 60, stack.output)
        assert answers == [200] * 6
        assert "draining" not in seen[1:]  # the first may have come before the worker knew


def test_a_port_that_is_taken_for_a_moment_is_waited_for_below_init(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running(
            tmp_path / "log",
            "serve",
            AIP_HTTP_PORT=str(taken.getsockname()[1]),
            LISTENER_INIT_FOLDER=str(tmp_path),
            LISTENER_TRITON_URL=f"127.0.0.1:{free_port()}",
        ) as stack,
    ):
        time.sleep(2.5)
        taken.close()
        stack.until(503, 10)


def health_word(stack: Stack, seen: list[str]) -> str:
    body = stack.health()[1]
    seen.append(body["status"] if body else "nobody")
    return seen[-1]


def test_the_death_of_supervisord_ends_everything(tmp_path: Path) -> None:
    with container(tmp_path) as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        assert len(family) >= 7
        os.kill(below(stack, "listener.supervised"), signal.SIGKILL)
        assert stack.process.wait(30) == 1
        assert not [pid for pid in family if alive(pid)]


def test_the_death_of_init_ends_everything(tmp_path: Path) -> None:
    """As PID 1 it takes all with it anyway."""
    with container(tmp_path) as stack:
        stack.until(200)
        family = descendants(stack.process.pid)
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: not [pid for pid in family if alive(pid)], 30)


def test_a_stop_under_load_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    with container(tmp_path) as stack:
        stack.until(200)
        with Load(stack, 8) as load:
            wait_for(lambda: load.statuses[200] > 50, 20)
            begin = time.monotonic()
            stack.process.send_signal(signal.SIGTERM)
            assert stack.process.wait(35) == 0
            assert time.monotonic() - begin < 30
        assert set(load.statuses) <= {200, 503}


def test_a_stop_waits_for_slow_requests(tmp_path: Path, slow_service: Path) -> None:
    with container(tmp_path, slow_service) as stack:
        stack.until(200)
        with six_running(stack) as answers:
            assert stack.stop() == 0
        assert answers == [200] * 6


def test_a_long_drain_is_waited_for(tmp_path: Path) -> None:
    """supervisord gives each program the time that the settings say."""
    with container(tmp_path, LISTENER_DRAIN_TIMEOUT="70.5", LISTENER_TRITON_EXIT_TIMEOUT="9") as stack:
        stack.until(503)
        environ = Path(f"/proc/{below(stack, 'listener serve')}/environ").read_bytes().split(b"\0")
        assert b"LISTENER_INIT_SERVE_STOP=77" in environ
        assert b"LISTENER_INIT_TRITON_STOP=13" in environ


def test_a_triton_beyond_help_ends_the_container(tmp_path: Path) -> None:
    """Five starts with 1 + 2 + 4 + 8 s between them; the port answers meanwhile."""
    with container(tmp_path, LISTENER_TRITON_ARGS="--nonsense") as stack:
        stack.until(503)
        assert stack.process.wait(55) == 1
        text = stack.output()
        assert "unrecognized option '--nonsense'" in text
        assert "at each of its last 5 starts, never ready" in text
        assert text.count("starting it again in") == 4
        assert "triton has given up; its own message says why; the container ends" in text


def test_a_program_that_is_killed_again_and_again_ends_the_container(tmp_path: Path) -> None:
    with container(tmp_path) as stack:
        stack.until(503)
        for _ in range(5):
            wait_for(lambda: any("listener triton" in command_line(pid) for pid in descendants(stack.process.pid)), 10)
            victim = below(stack, "listener triton")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda victim=victim: not alive(victim), 5)  # type: ignore[misc]
        assert stack.process.wait(40) == 1
        assert "triton ended at each of its last 5 starts" in stack.output()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("routes: [\n", "listener.yaml:2: "),
        ("routes:\n  a: {handler: handlers.nowhere:A}\n", "'handlers.nowhere' cannot be imported: ModuleNotFoundError"),
    ],
    ids=["no YAML", "no handler"],
)
def test_a_service_that_is_set_up_wrongly_ends_the_container_at_once(tmp_path: Path, text: str, sentence: str) -> None:
    service = tmp_path / "service"
    (service / "triton_repo").mkdir(parents=True)
    (service / "listener.yaml").write_text(text)
    with container(tmp_path, service) as stack:
        assert stack.process.wait(20) == 1
        wrong = [json.loads(line) for line in stack.output().splitlines() if sentence in line]
        assert {line["severity"] for line in wrong} == {"ERROR"}
        assert "listener has given up" in stack.output() or "triton has given up" in stack.output()


def test_a_port_for_two_is_a_sentence(tmp_path: Path) -> None:
    port = str(free_port())
    (tmp_path / "tmp").mkdir()
    env = {"AIP_HTTP_PORT": port, "LISTENER_TRITON_URL": f"127.0.0.1:{port}", "TMPDIR": str(tmp_path / "tmp")}
    stack = Stack(tmp_path / "log", f"init --config {CONF}", None, ROOT, **env)
    assert stack.process.wait(20) == 1
    assert f"LISTENER_TRITON_URL: port {port} is that of AIP_HTTP_PORT as well" in stack.output()
