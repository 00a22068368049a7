"""Parts, what is noted of them, damage, packed objects, and deaths at any moment; with the real client and emulator."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.artifacts import bucket, fetch, parts
from listener.artifacts.bucket import Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.store import Store
from listener.errors import ConfigError
from tests.artifacts import dying, faults
from tests.artifacts.emulator import Emulator
from tests.artifacts.faults import Labelled, Proxy, Slow

MIB = 1 << 20


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a bucket of this test's own."""
    return f"transfers-{zlib.crc32(request.node.name.encode())}"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST", 4 * MIB)
    monkeypatch.setattr(parts, "MARK", MIB // 4)


@contextlib.contextmanager
def through_proxy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What this process fetches meanwhile goes through a proxy."""
    with faults.proxy(emulator.url) as proxy, monkeypatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def fetched(name: str, folder: Path) -> dict[str, bytes]:
    place = bucket.parse(f"gs://{name}")
    published = fetch.fetch(place, Store(str(folder), place.key), Cloud())
    return {
        file.relative_to(published).as_posix(): file.read_bytes() for file in published.rglob("*") if file.is_file()
    }


def partial(name: str, folder: Path) -> Path:
    (found,) = (folder / bucket.parse(f"gs://{name}").key).glob("*.partial")
    return found


def interrupted(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is fetched, but not published."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "publish", lambda self, digest: (_ for _ in ()).throw(KeyboardInterrupt))
        fetched(name, folder)


@pytest.mark.usefixtures("small_parts")
def test_a_large_object_comes_in_parts_and_a_small_one_whole(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: dict[str, bytes | str] = {"m/1/large": content(1, 10 * MIB + 7), "m/1/small": content(2, 1000)}
    emulator.put(name, objects)
    with through_proxy(emulator, monkeypatch) as proxy:
        assert fetched(name, tmp_path) == objects
    assert sorted(seen.span or () for seen in proxy.reads("m/1/large")) == [
        (0, 3495255),
        (3495255, 6990511),
        (6990511, 10485767),
    ]
    assert [seen.span for seen in proxy.reads("m/1/small")] == [None]
    assert (proxy.sent("m/1/large"), proxy.sent("m/1/small")) == (10 * MIB + 7, 1000)


def test_connections_are_kept(emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator.put(name, {f"m/1/{n}": str(n) for n in range(100)})
    with through_proxy(emulator, monkeypatch) as proxy:
        assert len(fetched(name, tmp_path)) == 100
    assert len(proxy.reads()) == 100
    assert proxy.connections <= parts.connections([1] * 100) + 1  # one is the listing's


def test_another_generation_in_the_answer_is_not_taken(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.put(name, {"m/1/x": "x"})
    with through_proxy(emulator, monkeypatch) as proxy:
        proxy.inject(Labelled("1"))
        with pytest.raises(ConfigError, match="changed each time while it was fetched"):
            fetched(name, tmp_path)


@pytest.mark.usefixtures("small_parts")
def test_what_is_whole_is_not_fetched_again_and_what_is_wrong_is(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never reached the disk, as after a loss of power, is told by its checksum, whatever the journal says."""
    objects: dict[str, bytes | str] = {
        "m/1/large": content(1, 10 * MIB),
        "m/1/whole": content(2, MIB),
        "m/1/small": content(3, 1000),
        "m/1/short": content(4, 1000),
    }
    emulator.put(name, objects)
    interrupted(name, tmp_path, monkeypatch)
    files = partial(name, tmp_path) / "m/1"
    with (files / "large").open("r+b") as stream:
        stream.seek(5 * MIB)
        stream.write(bytes(10))
    (files / "small").write_bytes(bytes(1000))
    (files / "short").write_bytes(content(4, 1000)[:500])
    with through_proxy(emulator, monkeypatch) as proxy:
        assert fetched(name, tmp_path) == objects
    assert {seen.name for seen in proxy.reads()} == {"m/1/large", "m/1/small", "m/1/short"}
    assert proxy.sent("m/1/large") <= parts.MARK + 256 * 1024


def test_a_journal_that_ends_in_half_a_line_or_lies(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: dict[str, bytes | str] = {"m/1/large": content(1, 10 * MIB)}
    emulator.put(name, objects)
    interrupted(name, tmp_path, monkeypatch)
    noted = partial(name, tmp_path).with_suffix(".parts")
    noted.write_bytes(noted.read_bytes()[:-5] + b'\n00000000 ["m/1/large",0,99999999,1]\nab')
    assert fetched(name, tmp_path) == objects


def test_an_object_that_is_packed_becomes_an_unpacked_file(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.put(name, {"m/1/plain": "plain"})
    for path, stored in (("m/1/packed", gzip.compress(bytes(3 * MIB))), ("m/1/only-says-so", b"text")):
        blob = emulator._client.bucket(name).blob(path)
        blob.content_encoding = "gzip"
        blob.upload_from_string(stored)
    wanted = {"m/1/plain": b"plain", "m/1/packed": bytes(3 * MIB), "m/1/only-says-so": b"text"}
    interrupted(name, tmp_path, monkeypatch)
    with through_proxy(emulator, monkeypatch) as proxy:
        assert fetched(name, tmp_path) == wanted
    assert proxy.reads() == []


def test_files_are_for_their_user_alone(emulator: Emulator, tmp_path: Path, name: str) -> None:
    emulator.put(name, {"m/1/x": "x"})
    fetched(name, tmp_path)
    (file,) = tmp_path.rglob("x")
    assert oct(file.stat().st_mode)[-3:] == "600"


def test_a_link_in_the_place_of_a_file_is_not_followed(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.put(name, {"m/1/x": "x"})
    interrupted(name, tmp_path / "artifacts", monkeypatch)
    file = partial(name, tmp_path / "artifacts") / "m/1/x"
    file.unlink()
    (tmp_path / "elsewhere").write_text("mine")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be stored in"):
        fetched(name, tmp_path / "artifacts")
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_twenty_deaths_at_random_moments(emulator: Emulator, tmp_path: Path, name: str) -> None:
    """The bytes are right in the end, and each death costs less than one part of each file."""
    objects: dict[str, bytes | str] = {
        "m/1/large": content(1, 24 * MIB),
        "m/2/large": content(2, 9 * MIB),
        "m/config.pbtxt": "name: 'm'",
        **{f"m/3/{n}": content(n, 50_000) for n in range(40)},
    }
    emulator.put(name, objects)
    chance = random.Random(6)
    seconds = [chance.uniform(0.02, 0.4) for _ in range(20)]
    with faults.proxy(emulator.url) as proxy:
        proxy.inject(Slow(0.6 * MIB))
        *deaths, folder = died(proxy, f"gs://{name}", str(tmp_path), *map(str, seconds))
    assert deaths == ["killed"] * 20
    published = Path(folder)
    assert {
        file.relative_to(published).as_posix(): file.read_bytes() for file in published.rglob("*") if file.is_file()
    } == {path: text.encode() if isinstance(text, str) else text for path, text in objects.items()}
    part = 4 * MIB
    for path, text in objects.items():
        again = proxy.sent(path) - len(text)
        assert again < 20 * min(part, len(text)), path
    assert proxy.sent() < 2 * sum(map(len, objects.values()))


def died(proxy: Proxy, *arguments: str) -> list[str]:
    """The lines of dying.py. After its last death the proxy is a fast one."""
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": proxy.url, "PYTHONPATH": ":".join(sys.path)}
    argv, lines = [sys.executable, dying.__file__, *arguments], list[str]()
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        clock = threading.Timer(120, process.kill)
        clock.start()
        for line in process.stdout or ():
            lines.append(line.rstrip("\n"))
            if len(lines) == len(arguments) - 2:
                proxy.heal()
        clock.cancel()
    assert process.returncode == 0
    return lines


def test_memory_stays_flat(emulator: Emulator, tmp_path: Path, name: str) -> None:
    """In a process of its own: 200 MB through eight connections, far less than that in memory."""
    emulator.put(name, {f"m/{n}/x": bytes(100 * MIB) for n in (1, 2)})
    script = "import sys; from tests.artifacts import dying; dying.attempt(*sys.argv[1:]); " + (
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"gs://{name}", str(tmp_path)],
        env={"STORAGE_EMULATOR_HOST": emulator.url, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1024 * int(done.stdout.split()[-1]) < 150 * MIB


def test_the_listing_gives_checksums(emulator: Emulator, name: str) -> None:
    emulator.put(name, {"x": ""})
    (item,) = Cloud().items(bucket.parse(f"gs://{name}"))
    assert item == Item("x", 0, item.generation, crc32c=0)
