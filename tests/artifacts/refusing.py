"""A Cloud Storage that answers every request with one status, over a real port."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.http_server import Answering, serving


@contextlib.contextmanager
def refusing(status: int) -> Iterator[str]:
    """Gives its URL, for STORAGE_EMULATOR_HOST."""

    class Refuse(Answering):
        def do_GET(self) -> None:
            self.answer(status, json.dumps({"error": {"code": status, "message": "told to refuse"}}).encode())

    with serving(Refuse) as url:
        yield url
