"""A port that takes connections at once and answers none until it is opened; then they go on to the emulator.

Or one that is open and slow.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator


class Gate:
    """A closed gate in front of an address.

    Args:
        target: the address, as a URL.
        pause: seconds between two pieces of 64 KiB of what comes back.

    Attributes:
        url: the value for STORAGE_EMULATOR_HOST.
    """

    def __init__(self, target: str, pause: float = 0) -> None:
        parts = urllib.parse.urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pause = pause
        self._opened = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._connections: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Lets everybody through who waits, and who comes later."""
        self._opened.set()

    def close(self) -> None:
        """Refuses everybody from now on."""
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._opened.set()
        for thread in [self._thread, *self._connections]:
            thread.join(10)
        self._server.close()

    def _serve(self) -> None:
        self._opened.wait()
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                thread = threading.Thread(target=self._pass_on, args=(client,), daemon=True)
                self._connections.append(thread)
                thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=_pump, args=(server, client, self._pause), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket, pause: float = 0) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
            time.sleep(pause)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def closed(target: str) -> Iterator[Gate]:
    """A gate that is closed at first."""
    gate = Gate(target)
    try:
        yield gate
    finally:
        gate.close()


@contextlib.contextmanager
def slow(target: str, pause: float) -> Iterator[Gate]:
    """An open gate through which little comes at a time."""
    gate = Gate(target, pause)
    gate.open()
    try:
        yield gate
    finally:
        gate.close()
