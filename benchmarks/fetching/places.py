"""What is fetched: objects in the emulator, or one object behind connections that are slow, as a network's are."""

from __future__ import annotations

import contextlib
import random
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from listener.artifacts import checksum
from tests.artifacts import emulator, generated

_MIB = 1 << 20
_BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """Something to fetch.

    Attributes:
        url: the value for STORAGE_EMULATOR_HOST.
        uri: gs://...
        files: size and CRC32C of each file, by its path below the URI.
    """

    url: str
    uri: str
    files: Mapping[str, tuple[int, int]]

    @property
    def nbytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    @property
    def objects(self) -> list[str]:
        """Addresses of the objects' bytes, in the order of the files."""
        _, _, prefix = self.uri.removeprefix("gs://").partition("/")
        quoted = [urllib.parse.quote(f"{prefix}/{path}", safe="") for path in self.files]
        return [f"{self.url}/download/storage/v1/b/{_BUCKET}/o/{name}?alt=media" for name in quoted]


@contextlib.contextmanager
def emulated() -> Iterator[emulator.Emulator]:
    """The emulator, without any object."""
    with emulator.running() as running:
        running.bucket(_BUCKET)
        yield running


def filled(cloud: emulator.Emulator, prefix: str, count: int, size: int) -> Place:
    """Random objects as the models of a repository have them."""
    files = {}
    for number in range(count):
        chance = random.Random(number)  # which gives less than 256 MiB at a time
        content = b"".join(chance.randbytes(min(_MIB, size - at)) for at in range(0, size, _MIB))
        path = f"m{number:04}/1/model.onnx"
        cloud.put(_BUCKET, {f"{prefix}/{path}": content})
        files[path] = (size, checksum.extend(0, content))
    return Place(cloud.url, f"gs://{_BUCKET}/{prefix}", files)


@contextlib.contextmanager
def paced(size: int, rate: float) -> Iterator[Place]:
    """One object, from a server of which each connection brings `rate` bytes a second at most."""
    prefix, _, path = generated.NAME.partition("/")
    with generated.generating(size, rate=rate) as url:
        yield Place(url, f"gs://{_BUCKET}/{prefix}", {path: (size, generated.checksum(size))})
