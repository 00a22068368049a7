"""Objects that are not like others: their names, how they are stored, and what cannot be had of them."""

from __future__ import annotations

import base64
import gzip
import json
import random
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest

from listener.artifacts import bucket, fetch
from listener.artifacts.cloud import Cloud
from listener.artifacts.store import Store
from listener.errors import ConfigError
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Flip, Proxy
from tests.http_server import Answering, serving


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a bucket of this test's own."""
    return f"odd-{zlib.crc32(request.node.name.encode())}"


def fetched(uri: str, folder: Path) -> dict[str, bytes]:
    place = bucket.parse(uri)
    published = fetch.fetch(place, Store(str(folder), place.key), Cloud())
    files = [file for file in published.rglob("*") if file.is_file()]
    return {file.relative_to(published).as_posix(): file.read_bytes() for file in files}


def refusal(uri: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        fetched(uri, folder)
    (sentence,) = caught.value.mistakes
    return sentence


# Names

NAMES = (
    "a b",
    " ",
    "100%",
    "%2F",
    "%00",
    "a+b",
    "a?b=c&d",
    "a#b",
    "a;b,c:d@e!$'()*=~[]{}|^`<>",
    'quoted "so"',
    "ä ö ü",
    "e\u0301",
    "模型",
    "\U0001f9e0",
    ".hidden",
    "..dots",
    "-rf",
    "x" * 255,
    "ä" * 127,
)


@pytest.mark.parametrize("prefix", ["models", "a b/100%/c+d?e#f/ä", "%2F"])
def test_names_of_all_kinds(
    proxy: Proxy, emulator: Emulator, tmp_path: Path, name: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    objects = {f"m/1/{odd}": odd.encode() for odd in NAMES} | {f"m/{odd}/x": odd.encode() for odd in NAMES}
    emulator.put(name, {f"{prefix}/{path}": content for path, content in objects.items()})
    assert fetched(f"gs://{name}/{prefix}", tmp_path) == objects


def test_a_place_that_is_an_object(
    emulator: Emulator, proxy: Proxy, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    emulator.put(name, {"models/m/1/model.onnx": "x", "models/m/1/model.onnx.txt": "x"})
    assert refusal(f"gs://{name}/models/m/1/model.onnx", tmp_path) == (
        f"gs://{name}/models/m/1/model.onnx: is an object; name the folder that it lies in"
    )
    assert refusal(f"gs://{name}/models/m/1/model", tmp_path).startswith(
        f"gs://{name}/models/m/1/model/: nothing lies "
    )


# How they are stored


def test_an_object_that_was_composed_of_others(emulator: Emulator, tmp_path: Path, name: str) -> None:
    emulator.put(name, {"parts/1": "one", "parts/2": "two"})
    there = emulator._client.bucket(name)
    there.blob("models/m/1/model.onnx").compose([there.blob("parts/1"), there.blob("parts/2")])
    assert fetched(f"gs://{name}/models", tmp_path) == {"m/1/model.onnx": b"onetwo"}


def packed(emulator: Emulator, name: str, stored: bytes) -> None:
    emulator.put(name, {"models/m/config.pbtxt": ""})
    blob = emulator._client.bucket(name).blob("models/m/1/model.onnx")
    blob.content_encoding = "gzip"
    blob.upload_from_string(stored)


def test_an_object_packed_in_several_pieces(emulator: Emulator, tmp_path: Path, name: str) -> None:
    pieces = [random.Random(n).randbytes(700_000) for n in range(3)]
    packed(emulator, name, b"".join(map(gzip.compress, [*pieces, b"", b"end"])))
    assert fetched(f"gs://{name}/models", tmp_path)["m/1/model.onnx"] == b"".join([*pieces, b"end"])


WHOLE = gzip.compress(random.Random(0).randbytes(700_000), mtime=0)  # the same for each of the workers that collect it


@pytest.mark.parametrize(
    "stored",
    [WHOLE[:-1], WHOLE[:300_000], WHOLE[:5], WHOLE[:9] + b"\xff" * 1000, WHOLE + b"more", WHOLE[:-8] + bytes(8)],
)
def test_an_object_that_was_packed_wrongly(emulator: Emulator, tmp_path: Path, name: str, stored: bytes) -> None:
    packed(emulator, name, stored)
    assert refusal(f"gs://{name}/models", tmp_path) == (
        f"gs://{name}/models/: 'models/m/1/model.onnx' is stored with Content-Encoding gzip and cannot be unpacked; "
        "upload it again"
    )


def test_a_packed_object_that_is_damaged_on_its_way(
    emulator: Emulator, proxy: Proxy, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(emulator, name, WHOLE)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    proxy.inject(Flip(0.3), "*.onnx", nth={1})
    assert fetched(f"gs://{name}/models", tmp_path)["m/1/model.onnx"] == gzip.decompress(WHOLE)


# What only a server of its own has


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, bytes, str]]]:
    """Status, body and media type of what is answered to a path."""
    answers = dict[str, tuple[int, bytes, str]]()

    class Serve(Answering):
        def do_GET(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            self.answer(*answers.get(path, (404, b"{}", "application/json")))

    with serving(Serve) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield answers


def listing(**more: str) -> tuple[int, bytes, str]:
    item = {"name": "models/m/1/model.onnx", "size": "3", "generation": "1", **more}
    return 200, json.dumps({"items": [item]}).encode(), "application/json"


LISTED, READ = "/storage/v1/b/bucket/o", "/download/storage/v1/b/bucket/o/models/m/1/model.onnx"
ENCRYPTED = "The target object is encrypted by a customer-supplied encryption key."


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (json.dumps({"error": {"code": 400, "message": ENCRYPTED}}), "application/json; charset=UTF-8"),
        (f"{ENCRYPTED}\n", "text/html; charset=UTF-8"),
    ],
)
def test_an_object_that_is_encrypted_by_its_owner(
    served: dict[str, tuple[int, bytes, str]], tmp_path: Path, body: str, media_type: str
) -> None:
    """Its checksum is not listed."""
    served[LISTED], served[READ] = listing(), (400, body.encode(), media_type)
    assert refusal("gs://bucket/models", tmp_path) == (
        f"gs://bucket/models/: 'models/m/1/model.onnx' cannot be fetched: 400 Bad Request: {ENCRYPTED}"
    )


def test_a_page_instead_of_an_object(served: dict[str, tuple[int, bytes, str]], tmp_path: Path) -> None:
    served[LISTED], served[READ] = listing(), (400, b"<html>Go away</html>", "text/html")
    assert refusal("gs://bucket/models", tmp_path) == (
        "gs://bucket/models/: 'models/m/1/model.onnx' cannot be fetched: 400 Bad Request"
    )


def test_an_object_without_a_checksum_has_to_have_its_size(
    served: dict[str, tuple[int, bytes, str]], tmp_path: Path
) -> None:
    served[LISTED], served[READ] = listing(), (200, b"one", "application/octet-stream")
    assert fetched("gs://bucket/models", tmp_path / "a") == {"m/1/model.onnx": b"one"}
    served[READ] = (200, b"four", "application/octet-stream")
    assert "changed each time while it was fetched" in refusal("gs://bucket/models", tmp_path / "b")


def test_an_object_with_a_checksum(served: dict[str, tuple[int, bytes, str]], tmp_path: Path) -> None:
    crc = base64.b64encode(google_crc32c.value(b"one").to_bytes(4, "big")).decode()
    served[LISTED], served[READ] = listing(crc32c=crc), (200, b"two", "application/octet-stream")
    assert "arrived damaged 3 times" in refusal("gs://bucket/models", tmp_path)
