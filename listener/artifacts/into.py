"""`listener fetch`: a place in Cloud Storage becomes a folder that a person names, complete or as it was.

    DIR                        the files, as they lie at the place; replaced as a whole by one rename
    .DIR.listener/             beside it: locks, and what is on its way (store.py)
    .DIR.listener/INODE.json   what was fetched into the folder that has this inode

A rename keeps a folder's inode. So at any moment, a crash included, DIR is one of two folders with a record each, or
it is not ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import orjson

from listener import forms, observe, settings, temporary
from listener.artifacts import bar, bucket
from listener.artifacts.bucket import Bucket, Contents, Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.fetch import leave, listed, of_one_listing, prepared, transfer
from listener.artifacts.progress import Progress, Shown, megabytes
from listener.artifacts.store import Store
from listener.errors import ConfigError

#: What running a service leaves in its folder.
_CACHE = "__pycache__"
#: Of renameat2(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fetch does.

    Attributes:
        contents: everything that lies at the place.
        fetched: what is not in the folder yet, by path.
        unchanged: what is.
        removed: paths in the folder that are not at the place any more.
    """

    contents: Contents
    fetched: Mapping[str, Item]
    unchanged: Mapping[str, Item]
    removed: tuple[str, ...]

    @property
    def is_nothing(self) -> bool:
        return not self.fetched and not self.removed


class Target:
    """The folder that a person names.

    Args:
        folder: its name.
        place: what is fetched into it.
    """

    def __init__(self, folder: Path, place: Bucket) -> None:
        self.named, self._place = folder, place
        self.folder = folder.resolve()  # a link that leads to it stays
        self.state = self.folder.with_name(f".{self.folder.name}.listener")
        self.store = Store(str(self.state), place.key)

    def held(self) -> dict[str, int]:
        """The generations of the files in it, by path; those that are missing are left out.

        Raises:
            ConfigError: there is something else in it, or it is no folder that can be replaced.
        """
        try:
            if not self.folder.exists() or not any(self._replaceable().iterdir()):
                return {}
            record = orjson.loads(self._record(self.folder).read_bytes())
            return self._unspoilt(record)
        except FileNotFoundError:
            raise ConfigError(
                f"{self.named}: is not empty, and nothing says that it was fetched; name another folder, or empty it"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.named}: cannot be read: {error}") from None

    def prepare(self) -> None:
        """Makes the folder for what is on its way.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            temporary.private(self.state)
        except OSError as error:
            raise ConfigError(f"{self.named}: cannot be written: {error.strerror} ({error.filename})") from None

    def sweep(self) -> None:
        """Removes what an interrupted fetch left beside its name, but for the part that goes on."""
        for left in self.store.published("").glob("*"):
            if left.is_dir() and left.suffix != ".partial":
                shutil.rmtree(left)

    def take(self, made: Path, items: Mapping[str, Item]) -> None:
        """Makes a complete folder the one of that name, and removes the one before."""
        files = {path: [item.generation, *_signs(made / path)] for path, item in items.items()}
        record = self._record(made)
        record.write_bytes(orjson.dumps({"place": str(self._place), "files": files}))
        if self.folder.exists() and any(self.folder.iterdir()):
            _exchange(made, self.folder)
            shutil.rmtree(made)
        else:
            os.rename(made, self.folder)  # over an empty folder, too
        for old in self.state.glob("*.json"):
            if old != record:
                old.unlink(missing_ok=True)

    def _replaceable(self) -> Path:
        if not self.folder.is_dir():
            raise ConfigError(f"{self.named}: is a file; name a folder")
        for reason, holds in (
            ("the current folder", self.folder == Path.cwd()),
            ("a mount point", self.folder.is_mount()),
        ):
            if holds:
                raise ConfigError(f"{self.named}: is {reason}, and is replaced as a whole; name a folder inside of it")
        return self.folder

    def _unspoilt(self, record: dict[str, Any]) -> dict[str, int]:
        if record["place"] != str(self._place):
            raise ConfigError(f"{self.named}: holds what was fetched from {record['place']}; name another folder")
        files, found = record["files"], dict[str, int]()
        for file in self.folder.rglob("*"):
            path = file.relative_to(self.folder).as_posix()
            if _CACHE in file.parts or (file.is_dir() and not file.is_symlink()):
                continue
            generation, *signs = files.get(path, [0])
            if signs != _signs(file):
                raise ConfigError(
                    f"{self.named}: {path} was changed or added after the fetch, and would be lost; remove it, or name "
                    "another folder"
                )
            found[path] = generation
        return found

    def _record(self, folder: Path) -> Path:
        return self.state / f"{folder.stat().st_ino}.json"


def _signs(file: Path) -> list[int]:
    """What another one as soon as somebody writes into a file."""
    found = file.lstat()
    return [found.st_size, found.st_mtime_ns]


def plan(place: Bucket, target: Target, cloud: Cloud) -> Plan:
    """What there is to do.

    Raises:
        ConfigError: the place cannot be listed, is nothing that `listener up` could serve, or the folder is not ours.
    """
    held = target.held()
    contents = listed(place, cloud)
    unchanged = {path: item for path, item in contents.files.items() if held.get(path) == item.generation}
    fetched = {path: item for path, item in contents.files.items() if path not in unchanged}
    return Plan(contents, fetched, unchanged, tuple(sorted(held.keys() - contents.files.keys())))


def fetch(place: Bucket, target: Target, cloud: Cloud, shown: Shown | None = None) -> Plan:
    """Makes the folder what lies at the place now, all of it at one moment.

    Returns:
        What was done.

    Raises:
        ConfigError: it cannot be; the folder is as it was then.
    """
    target.held()  # before anything is made beside it
    target.prepare()
    with target.store.fetching():
        return of_one_listing(place, lambda: _present(place, target, cloud, shown))


def _present(place: Bucket, target: Target, cloud: Cloud, shown: Shown | None) -> Plan:
    """The state of one listing; raises Replaced if it is not there any more, or as `fetch`."""
    found = plan(place, target, cloud)
    if found.is_nothing:
        return found
    try:
        target.sweep()
        _require_room(place, target, found)
        made = _made(place, target, cloud, found, shown)
        with _uninterrupted():
            target.take(made, found.contents.files)
    except OSError as error:
        raise ConfigError(f"{target.named}: cannot be written: {error.strerror} ({error.filename})") from None
    return found


def _made(place: Bucket, target: Target, cloud: Cloud, found: Plan, shown: Shown | None) -> Path:
    """The new state, in a folder beside; what has not changed is linked into it."""
    digest = found.contents.digest
    partial = prepared(place, target.store, found.contents)
    rest = Contents(found.fetched, found.contents.folders)
    with Progress(rest, shown=shown) as progress:
        transfer(place, rest, cloud, partial, target.store.journal(digest), progress)
    for path in found.unchanged:
        temporary.private((partial / path).parent)
        _link(target.folder / path, partial / path)
    return target.store.publish(digest)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C comes too late here: the folder is being replaced, which takes a moment."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _link(file: Path, to: Path) -> None:
    to.unlink(missing_ok=True)  # of an interrupted fetch
    try:
        os.link(file, to)
    except OSError:  # a file system without them
        shutil.copy2(file, to)


def _require_room(place: Bucket, target: Target, found: Plan) -> None:
    wanted = _sum(found.fetched)
    free = target.store.free + target.store.held(found.contents.digest)
    if free < wanted:
        raise ConfigError(
            f"{place}: {megabytes(wanted)} do not fit beside {target.named}, where {megabytes(free)} are free"
        )


def _exchange(one: Path, other: Path) -> None:
    """Two folders change their names, at one moment where the system can do that."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    if renameat2 and renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    aside = one.with_name(f"{one.name}.old")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _sum(items: Mapping[str, Item]) -> int:
    return sum(item.size for item in items.values())


def _files(items: Mapping[str, Item]) -> str:
    return f"{len(items)} file{'' if len(items) == 1 else 's'}, {megabytes(_sum(items))}"


def listing(found: Plan) -> str:
    """What would be done, a line a file."""
    lines = [f"{'fetch':<10}{megabytes(item.size):>14}  {path}" for path, item in sorted(found.fetched.items())]
    lines += [f"{'unchanged':<10}{megabytes(item.size):>14}  {path}" for path, item in sorted(found.unchanged.items())]
    lines += [f"{'remove':<10}{'':>14}  {path}" for path in found.removed]
    return "\n".join([*lines, f"to fetch: {_files(found.fetched)}; {_rest(found)}"])


def summary(found: Plan, target: Target, seconds: float) -> str:
    """What was done, in a line."""
    if found.is_nothing:
        return f"{target.named}: nothing has changed; {_rest(found)}"
    rate = _sum(found.fetched) / 1e6 / max(seconds, 1e-9)
    return f"{target.named}: fetched {_files(found.fetched)} in {seconds:.1f} s, {rate:.1f} MB/s; {_rest(found)}"


def _rest(found: Plan) -> str:
    removed = f"; no longer there: {len(found.removed)}" if found.removed else ""
    return f"unchanged: {_files(found.unchanged)}{removed}"


def main(uri: str, folder: str, is_dry: bool) -> int:
    """The command. Returns its exit status; what is wrong goes to stderr, a sentence a line."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for jobs in the background of a script
        signal.signal(signal.SIGINT, lambda *_: _stopped(folder))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `delivery.fetch_into`
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format, sys.stderr)
    try:
        place = bucket.parse(_place(uri))
        target, cloud, begin = Target(Path(folder), place), Cloud(), time.monotonic()
        if is_dry:
            print(listing(plan(place, target, cloud)))
            return 0
        shown = bar.at(sys.stderr) if observe.for_people(configured.log_format, sys.stderr) else None
        done = fetch(place, target, cloud, shown)
        print(summary(done, target, time.monotonic() - begin))
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"listener: {mistake}", file=sys.stderr)
        return 1
    return 0


def _stopped(folder: str) -> NoReturn:
    """Ctrl-C ends the process here and now, as any moment will do (store.py).

    Python's KeyboardInterrupt would be forgotten where it comes in a destructor or in the callback of a weak reference
    (https://docs.python.org/3/reference/datamodel.html#object.__del__), of which imports and Google's client have many.
    """
    undrawn = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""  # the bar's line, and the cursor that it hides
    os.write(sys.stderr.fileno(), f"{undrawn}listener: stopped; {folder} is as it was\n".encode())
    os._exit(130)


def _place(uri: str) -> str:
    try:
        checked = forms.place(uri)
    except ValueError as error:
        raise ConfigError(f"{uri!r} {error}") from None
    if not checked.startswith("gs://"):
        raise ConfigError(f"{uri!r} is no place in Cloud Storage; what is fetched is gs://BUCKET/PREFIX")
    return checked


if __name__ == "__main__":
    leave(main(sys.argv[1], sys.argv[2], sys.argv[3] == "dry"))
