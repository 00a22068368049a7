"""Cloud Storage on this machine: the emulator as a process of its own, filled with Google's own client."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.integration.stack import free_port


class Emulator:
    """A running emulator.

    Attributes:
        url: the value for STORAGE_EMULATOR_HOST.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": url},
        )

    def bucket(self, name: str) -> None:
        """Makes an empty bucket."""
        self._client.create_bucket(name)

    def put(self, bucket: str, objects: Mapping[str, bytes | str]) -> None:
        """Writes objects by name; makes the bucket if need be."""
        if not self._client.bucket(bucket).exists():
            self.bucket(bucket)
        for name, content in objects.items():
            self._client.bucket(bucket).blob(name).upload_from_string(content)

    def upload(self, bucket: str, folder: Path, prefix: str = "") -> None:
        """Writes the files below a folder, as `gcloud storage cp -r` would."""
        files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        self.put(bucket, {f"{prefix}{name}": file.read_bytes() for name, file in files.items()})


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[Emulator]:
    """An empty emulator on a port, or on a free one; gone afterwards."""
    port = port or free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--quiet"]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)])
    try:
        _wait(f"http://127.0.0.1:{port}/storage/v1/b")
        yield Emulator(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _wait(url: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no emulator answers at {url}")
