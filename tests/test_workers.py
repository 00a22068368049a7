"""The parent's port. Its processes are tested with real ones in tests/integration."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from listener import workers
from listener.errors import ConfigError


def test_a_taken_port_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            workers.bind("127.0.0.1", port)


def test_a_port_that_a_predecessor_leaves_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    leaving = threading.Timer(0.3, taken.close)
    leaving.start()
    try:
        workers.bind("127.0.0.1", port, 10).close()
    finally:
        leaving.join()


def test_a_port_that_nobody_leaves_is_refused_in_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        begin = time.monotonic()
        with pytest.raises(ConfigError, match="Address already in use"):
            workers.bind("127.0.0.1", taken.getsockname()[1], 0.3)
        assert time.monotonic() - begin >= 0.3


def test_what_waiting_does_not_help_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1"):  # an address of documentation
        workers.bind("192.0.2.1", 1, 60)
