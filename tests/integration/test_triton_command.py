"""`listener triton`: tritonserver as the only child, for a supervisor such as the image's."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import requests

from tests.integration.stack import ROOT, Stack, alive, command_line, descendants, free_port, left, running, wait_for

pytestmark = pytest.mark.triton


def start(log: Path, port: int) -> Stack:
    stack = Stack(
        log,
        "triton",
        LISTENER_TRITON_URL=f"http://127.0.0.1:{port}",
        LISTENER_TRITON_ARGS=f"--metrics-port={free_port()}",
        LISTENER_LOG_FORMAT="json",
        AIP_MODE="PREDICTION",
        AIP_HTTP_PORT=str(free_port()),
    )
    wait_for(lambda: answers(port), 60, stack.output)
    return stack


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def test_signals_go_through_and_the_exit_status_comes_back(tmp_path: Path) -> None:
    port = free_port()
    stack = start(tmp_path / "log", port)
    family = descendants(stack.process.pid)
    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(20) == 0
    assert not [pid for pid in family if alive(pid)]
    assert not answers(port)


def test_a_killed_triton_gives_137_and_leaves_nothing(tmp_path: Path) -> None:
    stack = start(tmp_path / "log", free_port())
    family, regions = descendants(stack.process.pid), stack.regions()
    os.kill(stack.triton_pid(), signal.SIGKILL)
    assert stack.process.wait(20) == 137
    wait_for(lambda: not [pid for pid in family if alive(pid)], 5)
    assert regions
    assert not left(regions)


def test_a_triton_that_hangs_is_killed_in_time(tmp_path: Path) -> None:
    """Its exit timeout of 5 s, and 3 s more."""
    stack = start(tmp_path / "log", free_port())
    family, regions = descendants(stack.process.pid), stack.regions()
    os.kill(stack.triton_pid(), signal.SIGSTOP)
    begin = time.monotonic()
    assert stack.stop() == 137
    assert time.monotonic() - begin < 16
    wait_for(lambda: not [pid for pid in family if alive(pid)], 5)
    assert not left(regions)


def test_each_log_line_is_one_of_ours(tmp_path: Path) -> None:
    stack = start(tmp_path / "log", free_port())
    stack.stop()
    lines = [json.loads(line) for line in stack.output().splitlines()]
    assert len(lines) > 10
    assert {line["logger"] for line in lines} == {"triton"}
    assert any("successfully loaded 'digits'" in line["message"] for line in lines)
    assert not [line for line in lines if line["severity"] == "ERROR"]


def test_listener_serve_in_front_of_it(tmp_path: Path) -> None:
    """The two commands of the image, side by side."""
    port = free_port()
    triton = start(tmp_path / "triton", port)
    try:
        with running(tmp_path / "serve", "serve", LISTENER_TRITON_URL=f"127.0.0.1:{port}") as listener:
            listener.until(200)
            assert listener.predict([[0, 16] * 32]).status_code == 200
            triton.stop()
            listener.until(503, 5)
            assert listener.predict([[0, 16] * 32]).status_code == 503
    finally:
        triton.stop()


def test_one_that_is_kept_waits_for_the_port_of_serve_and_comes_back(tmp_path: Path) -> None:
    port, listening = free_port(), free_port()
    env = {
        "LISTENER_TRITON_URL": f"http://127.0.0.1:{port}",
        "LISTENER_TRITON_METRICS_URL": f"http://127.0.0.1:{free_port()}",
        "AIP_HTTP_PORT": str(listening),
    }
    with running(tmp_path / "log", "triton --keep", ROOT, None, **env) as stack:
        wait_for(lambda: "listener triton" in command_line(stack.process.pid), 5)
        time.sleep(2.5)  # it is waiting since 2 s; 3 s are left
        assert not descendants(stack.process.pid)
        with socket.create_server(("127.0.0.1", listening)):
            wait_for(lambda: answers(port), 60, stack.output)
        first = stack.triton_pid()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not answers(port), 5)
        wait_for(lambda: answers(port), 60, stack.output)
        assert stack.triton_pid() != first
        assert stack.stop() == 0
        assert "triton ended with status 137; starting it again in 1 s" in stack.output()


def test_one_that_is_kept_is_stopped_while_it_waits(tmp_path: Path) -> None:
    env = {"LISTENER_TRITON_URL": f"127.0.0.1:{free_port()}", "AIP_HTTP_PORT": str(free_port())}
    with running(tmp_path / "log", "triton --keep", ROOT, None, **env) as stack:
        time.sleep(2)
        begin = time.monotonic()
        assert stack.stop() == 0
        assert time.monotonic() - begin < 2
        assert "listener.triton" not in stack.output()
