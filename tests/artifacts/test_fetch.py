"""The whole of a place, verified, or one sentence and nothing; from the emulator, through Google's own client."""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.artifacts import bucket, fetch
from listener.artifacts.bucket import Bucket, Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.parts import Span
from listener.artifacts.reading import Replaced
from listener.artifacts.store import Store
from listener.errors import ConfigError
from tests.artifacts.emulator import Emulator

REPOSITORY: dict[str, bytes | str] = {
    "models/digits/config.pbtxt": "name: 'digits'",
    "models/digits/1/model.onnx": bytes(range(256)) * 4_000,
    "models/digits/2/model.onnx": b"",
    "models/both/config.pbtxt": "platform: 'ensemble'",
    "models/both/1/": "",
    "models/": "",
    "models-old/digits/1/model.onnx": "another",
}


class Place:
    """A place in a bucket of its own, and the store that it is fetched into."""

    def __init__(self, emulator: Emulator, folder: Path, name: str) -> None:
        self.emulator, self.name = emulator, name
        self.place = bucket.parse(f"gs://{name}/models")
        self.store = Store(str(folder), self.place.key)
        self.root = folder

    def fetch(self, cloud: Cloud | None = None) -> Path:
        return fetch.fetch(self.place, self.store, cloud or Cloud())

    def refusal(self, cloud: Cloud | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            self.fetch(cloud)
        (sentence,) = caught.value.mistakes
        return sentence

    def published(self) -> list[Path]:
        return [path for path in self.root.glob("*/*") if path.is_dir() and path.suffix != ".partial"]


@pytest.fixture
def place(emulator: Emulator, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(emulator, tmp_path / "artifacts", f"fetch-{zlib.crc32(request.node.name.encode())}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected() -> dict[str, bytes]:
    texts = {name: text.encode() if isinstance(text, str) else text for name, text in REPOSITORY.items()}
    files = {name: text for name, text in texts.items() if name.startswith("models/") and not name.endswith("/")}
    return {name.removeprefix("models/"): text for name, text in files.items()}


def test_all_files_with_their_bytes_and_no_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.artifacts")
    place.emulator.put(place.name, REPOSITORY)
    folder = place.fetch()
    assert contents(folder) == expected()
    assert (folder / "both/1").is_dir()
    assert place.published() == [folder]
    first, last = [record.getMessage() for record in caplog.records]
    assert first == f"fetching gs://{place.name}/models/"
    assert last.startswith("fetched: 4 of 4 files, 1.0 MB of 1.0 MB in ")


def test_what_has_not_changed_is_not_fetched_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "listener.artifacts")
    place.emulator.put(place.name, REPOSITORY)
    folder = place.fetch()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert place.fetch() == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert caplog.messages[-1] == f"gs://{place.name}/models/ has not changed since it was fetched"


def test_what_has_changed_becomes_another_folder_beside_the_first(place: Place) -> None:
    place.emulator.put(place.name, REPOSITORY)
    first = place.fetch()
    place.emulator.put(place.name, {"models/digits/config.pbtxt": "name: 'Digits'"})
    second = place.fetch()
    assert first != second
    assert contents(first)["digits/config.pbtxt"] == b"name: 'digits'"
    assert contents(second)["digits/config.pbtxt"] == b"name: 'Digits'"


REFUSED = {
    "nothing": ({"other/x": "1"}, "nothing lies there; check bucket and prefix, and that the upload is complete"),
    "neither": ({"models/notes.txt": "1"}, "is nothing that can be served; found are notes.txt; "),
    "an odd name": (
        {"models/a/1/x": "1", "models/a\x1b[31m": "1"},
        r"the object 'models/a\x1b[31m' holds a backslash or ",
    ),
}


@pytest.mark.parametrize(("objects", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_not_even_fetched(
    place: Place, objects: dict[str, bytes | str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cloud, "read", None)
    place.emulator.put(place.name, objects)
    assert place.refusal().startswith(f"gs://{place.name}/models/: {sentence}")
    assert place.published() == []


def test_what_does_not_fit_is_not_even_begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free", 1_000_000)
    place.emulator.put(place.name, REPOSITORY)
    assert place.refusal() == (
        f"gs://{place.name}/models/: 1.0 MB do not fit into {place.root}, which has 1.0 MB free; name another folder "
        "in LISTENER_ARTIFACTS"
    )
    assert place.published() == []


class Odd(Cloud):
    """A client that goes wrong on one object, a number of times, after its first two bytes."""

    def __init__(self, name: str, error: Exception | None, times: int = 1) -> None:
        super().__init__()
        self._name, self._error, self._left = name, error, times

    def read(self, bucket: Bucket, item: Item, span: Span, stopped: threading.Event) -> Iterator[Any]:
        blocks = super().read(bucket, item, span, stopped)
        if item.name != self._name or not self._left:
            yield from blocks
            return
        self._left -= 1
        content = b"".join(map(bytes, blocks))
        yield content[:2]
        if self._error:
            raise self._error
        yield bytes(len(content) - 2)


WRONG: dict[str, tuple[Exception | None, str]] = {
    "refused": (ConfigError("no"), "no"),
    "no space": (
        OSError(28, "No space left on device"),
        "PLACE: cannot be stored in ROOT: No space left on device; name another folder in LISTENER_ARTIFACTS",
    ),
    "damaged": (
        None,
        "PLACE: 'models/digits/1/model.onnx' arrived damaged 3 times (its checksum is wrong); start again",
    ),
    "replaced": (Replaced(), "PLACE: changed each time while it was fetched; start again when the upload is complete"),
}


@pytest.mark.parametrize(("error", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_one_object_that_fails_fails_everything_and_the_next_start_mends_it(
    place: Place, error: Exception | None, sentence: str
) -> None:
    place.emulator.put(place.name, REPOSITORY)
    wanted = sentence.replace("PLACE", str(place.place)).replace("ROOT", str(place.root))
    assert place.refusal(Odd("models/digits/1/model.onnx", error, 3)) == wanted
    assert place.published() == []
    assert contents(place.fetch()) == expected()


@pytest.mark.parametrize("error", [None, Replaced()], ids=["damaged", "replaced"])
def test_what_goes_wrong_twice_is_mended(place: Place, error: Exception | None) -> None:
    place.emulator.put(place.name, REPOSITORY)
    assert contents(place.fetch(Odd("models/digits/1/model.onnx", error, 2))) == expected()


def test_a_new_version_in_between_is_fetched_as_a_whole(place: Place) -> None:
    place.emulator.put(place.name, REPOSITORY)

    class Uploading(Odd):
        def read(self, *args: Any) -> Iterator[Any]:
            if self._left:
                place.emulator.put(place.name, {"models/digits/config.pbtxt": "name: 'Digits'"})
            return super().read(*args)

    folder = place.fetch(Uploading("models/digits/1/model.onnx", Replaced()))
    assert contents(folder) == {**expected(), "digits/config.pbtxt": b"name: 'Digits'"}
    assert place.published() == [folder]


def test_names_that_differ_in_case_where_that_does_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.emulator.put(place.name, {**REPOSITORY, "models/Digits/config.pbtxt": "x"})
    monkeypatch.setattr(Store, "tells_case_apart", lambda self, digest: False)
    monkeypatch.setattr(Cloud, "read", None)
    assert place.refusal().startswith(f"{place.place}: 'Digits' and 'digits' differ only in case, ")


def test_one_that_fails_does_not_wait_for_the_others(place: Place) -> None:
    place.emulator.put(place.name, REPOSITORY)
    waited = list[bool]()

    class Slow(Odd):
        def read(self, bucket: Bucket, item: Item, span: Span, stopped: threading.Event) -> Iterator[Any]:
            if item.name == "models/digits/1/model.onnx":
                waited.append(stopped.wait(20))
            return super().read(bucket, item, span, stopped)

    assert place.refusal(Slow("models/both/config.pbtxt", ConfigError("no"))) == "no"
    assert waited == [True]


def test_what_is_there_already_needs_no_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.emulator.put(place.name, REPOSITORY)
    assert place.refusal(Odd("models/both/config.pbtxt", ConfigError("no"))) == "no"
    monkeypatch.setattr(Store, "free", 0)
    monkeypatch.setattr(Store, "held", lambda self, digest: 1_100_000)
    assert contents(place.fetch()) == expected()


def test_several_that_start_at_once_fetch_it_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.emulator.put(place.name, REPOSITORY)
    fetched, folders = list[str](), list[Path]()
    read = Cloud.read

    def count(self: Cloud, bucket: Bucket, item: Item, span: Span, stopped: threading.Event) -> Iterator[Any]:
        fetched.append(item.name)
        return read(self, bucket, item, span, stopped)

    monkeypatch.setattr(Cloud, "read", count)
    threads = [
        threading.Thread(
            target=lambda: folders.append(fetch.fetch(place.place, Store(str(place.root), place.place.key), Cloud()))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(folders) == 4 and len(set(folders)) == 1
    assert len(fetched) == 3  # the repository has four files, one of them empty
    assert contents(folders[0]) == expected()
