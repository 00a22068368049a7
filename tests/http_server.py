"""Small HTTP and HTTPS servers for tests: real ports, answers of a few lines."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any


class Answering(http.server.BaseHTTPRequestHandler):
    """Base of what answers; override `do_GET`."""

    def handle(self) -> None:
        if isinstance(self.connection, ssl.SSLSocket):
            try:
                self.connection.do_handshake()  # in this connection's own thread
            except OSError:
                return  # whoever asked does not trust us
            self.shook_hands()
        super().handle()

    def shook_hands(self) -> None:
        """After each TLS handshake."""

    def answer(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # of those who connect at once, 5 would get through without a second's delay
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


@contextlib.contextmanager
def serving(handler: type[Answering], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Gives the URL of a server on a free loopback port; of HTTPS at `localhost`, where there is a context for it."""
    with _Server(("127.0.0.1", 0), handler) as server:
        server.context = context
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}" if context else f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
