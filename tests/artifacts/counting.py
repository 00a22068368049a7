"""A proxy in front of the emulator that keeps connections, sends at a given rate, and counts bytes by object."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_BLOCK = 64 * 1024


@dataclass
class Counting:
    """What was asked for through the proxy.

    Attributes:
        url: the value for STORAGE_EMULATOR_HOST.
        sent: bytes of bodies by object, as far as they left the proxy.
        asked: (object, Range header or '') of each request for bytes.
        connections: how many were made.
    """

    url: str = ""
    sent: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def counting(target: str, rate: float = float("inf"), headers: Mapping[str, str] | None = None) -> Iterator[Counting]:
    """A running proxy.

    Args:
        target: the emulator's URL.
        rate: bytes a second of each connection.
        headers: further ones for answers with bytes of objects.
    """
    counted = Counting()

    class Pass(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)
            super().setup()
            with counted.lock:
                counted.connections += 1

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # whoever asked was killed
                super().handle()

        def do_GET(self) -> None:
            wanted = {name: value for name in ("Range",) if (value := self.headers.get(name))}
            with contextlib.closing(http.client.HTTPConnection(urllib.parse.urlsplit(target).netloc)) as upstream:
                upstream.request("GET", self.path, headers=wanted)
                with upstream.getresponse() as response:
                    self._answer(response)

        def _answer(self, response: http.client.HTTPResponse) -> None:
            body = response.read()
            media = self.path.startswith("/download/")
            name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path.rpartition("/o/")[2]) if media else ""
            if media:
                with counted.lock:
                    counted.asked.append((name, self.headers.get("Range", "")))
            self.send_response(response.status)
            for key in ("Content-Type", "Content-Range"):
                if value := response.getheader(key):
                    self.send_header(key, value)
            for key, value in (headers or {}).items() if media else ():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self._send(body, name)

        def _send(self, body: bytes, name: str) -> None:
            begin = time.monotonic()
            try:
                for at in range(0, len(body), _BLOCK):
                    self.wfile.write(body[at : at + _BLOCK])
                    if name:
                        with counted.lock:
                            counted.sent[name] += len(body[at : at + _BLOCK])
                        time.sleep(max(at / rate - (time.monotonic() - begin), 0))
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pass) as server:
        server.daemon_threads = True
        server.block_on_close = False
        counted.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield counted
        finally:
            server.shutdown()
            thread.join()
