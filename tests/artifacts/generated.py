"""A Cloud Storage whose one object is made as it is sent: as large as one likes, and nothing of it lies on a disk.

As fast as it can be made, or as slow on each connection as a network is.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import random
import re
import time
import urllib.parse
from collections.abc import Iterator

import google_crc32c

from tests.http_server import Answering, serving

NAME = "models/large/1/model.onnx"
BLOCK = 1 << 20
_NOISE = random.Random(0).randbytes(BLOCK - 8)


def block(number: int) -> bytes:
    """One MiB, each another one."""
    return number.to_bytes(8, "big") + _NOISE


@functools.cache
def checksum(size: int) -> int:
    """CRC-32C of an object of so many blocks."""
    crc = 0
    for number in range(size // BLOCK):
        crc = google_crc32c.extend(crc, block(number))
    return int(crc)


def span(begin: int, end: int) -> Iterator[bytes]:
    """Some of the bytes, in pieces."""
    for number in range(begin // BLOCK, -(-end // BLOCK)):
        first = number * BLOCK
        yield block(number)[max(begin - first, 0) : min(end - first, BLOCK)]


@contextlib.contextmanager
def generating(size: int, crc: int | None = None, rate: float = float("inf")) -> Iterator[str]:
    """Gives its URL, for STORAGE_EMULATOR_HOST.

    Args:
        size: of the object, a multiple of a MiB.
        crc: what the listing says of its checksum; None: what is right.
        rate: bytes a second that each connection brings at most.
    """
    told = base64.b64encode((checksum(size) if crc is None else crc).to_bytes(4, "big")).decode()
    described = {"name": NAME, "size": str(size), "generation": "1", "crc32c": told}

    class Generate(Answering):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            path = urllib.parse.unquote(url.path)
            if path.endswith("/o"):
                self.answer(200, json.dumps({"items": [described]}).encode())
            elif path.endswith(f"/o/{NAME}") and "alt=media" in url.query:
                self._send()
            elif path.endswith(f"/o/{NAME}"):
                self.answer(200, json.dumps(described).encode())
            else:
                self.answer(404, b"{}")

        def _send(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            begin, end = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(end - begin))
            self.send_header("x-goog-generation", "1")
            self.send_header("x-goog-hash", f"crc32c={told}")
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # whoever asked has had enough
                self._pace(span(begin, end))

        def _pace(self, pieces: Iterator[bytes]) -> None:
            since, sent = time.monotonic(), 0
            for piece in pieces:
                self.wfile.write(piece)
                sent += len(piece)
                time.sleep(max(sent / rate - (time.monotonic() - since), 0))

    with serving(Generate) as url:
        yield url
