"""A line for some of the requests that were answered; those that were refused have one each (`middleware.py`)."""

from __future__ import annotations

import logging

log = logging.getLogger("listener.access")


class AccessLog:
    """Says of a request now and then that it was answered, and how long that took.

    Args:
        rate: lines a second at most; 0 = none.
    """

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate if rate else float("inf")
        self._next = 0.0 if rate else float("inf")

    def answered(self, path: str, route: str, status: int, sizes: tuple[int, int], seconds: float, now: float) -> None:
        """Logs a request, if it is time for one.

        Args:
            path: without its query, which may hold keys.
            route: that it was for.
            status: of the answer.
            sizes: bytes of the body and of the answer's.
            seconds: that it took.
            now: of `time.monotonic()`.
        """
        if now < self._next:
            return
        self._next = now + self._pause
        received, sent = sizes
        http = {
            "requestMethod": "POST",
            "requestUrl": path,
            "status": status,
            "requestSize": str(received),
            "responseSize": str(sent),
            "latency": f"{seconds:.6f}s",
            "protocol": "HTTP/1.1",
        }
        said = "POST %s %d in %.1f ms"
        log.info(
            said, path, status, seconds * 1e3, extra={"fields": {"route": route}, "figures": {"httpRequest": http}}
        )
