"""The process that fetches: `python -m listener.artifacts.fetch DESCRIPTOR`, started by delivery.py.

A process of its own, because Google's client takes a second to import and memory that nobody needs afterwards, and
because a process can be stopped at any moment. Its answer goes through the inherited descriptor.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

from listener import observe, settings
from listener.artifacts import answer, bar, bucket, layout
from listener.artifacts.bucket import Bucket, Contents, Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.progress import Progress, Shown, megabytes
from listener.artifacts.store import Store
from listener.errors import ConfigError
from listener.process import EX_CONFIG

log = logging.getLogger("listener.artifacts")

#: Objects that are fetched side by side.
_SIDE_BY_SIDE = 8


def main() -> int:
    """Fetches what the settings name. Returns the exit status: 0, or EX_CONFIG with the reasons in the answer."""
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    place = bucket.parse(configured.place)
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        try:
            shown = bar.at(sys.stdout) if observe.for_people(configured.log_format, sys.stdout) else None
            folder = fetch(place, Store(configured.artifacts, place.key), Cloud(), shown)
        except ConfigError as error:
            pipe.write(answer.refusal(error))
            return EX_CONFIG
        pipe.write(answer.folder(folder))
    return 0


def fetch(place: Bucket, store: Store, cloud: Cloud, shown: Shown | None = None) -> Path:
    """Makes the present state of a place a folder, unless it is one already.

    Args:
        place: what is fetched.
        store: of its folders.
        cloud: the client.
        shown: shows people how far it is, in the place of the log.

    Returns:
        The published folder.

    Raises:
        ConfigError: it cannot be listed, read or stored, or is nothing that can be served. Nothing is published then.
    """
    log.info("fetching %s", place)
    with store.fetching():
        contents = bucket.contents(place, cloud.items(place))
        layout.kind(layout.of_paths([*contents.files, *contents.folders]), str(place))  # before a byte is fetched
        published = store.published(contents.digest)
        if published.is_dir():
            log.info("%s has not changed since it was fetched", place)
            return published
        try:
            _require_room(place, store, contents)
            partial = store.partial(contents.digest)
            with Progress(contents, store.progress, shown) as progress:
                transfer(place, contents, cloud, partial, progress)
            return store.publish(contents.digest)
        except OSError as error:
            raise ConfigError(f"{place}: cannot be stored in {store.root}: {error.strerror}") from None


def _require_room(place: Bucket, store: Store, contents: Contents) -> None:
    if store.free < contents.nbytes:
        raise ConfigError(
            f"{place}: {megabytes(contents.nbytes)} do not fit into {store.root}, which has {megabytes(store.free)} "
            "free; name another folder in LISTENER_ARTIFACTS"
        )


def transfer(place: Bucket, contents: Contents, cloud: Cloud, folder: Path, progress: Progress) -> None:
    """Fetches all files into an empty folder, several at a time.

    Raises:
        ConfigError: one of them cannot be read, or is not as it was listed.
        OSError: one of them cannot be written.
    """
    for path in contents.folders:
        (folder / path).mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(_SIDE_BY_SIDE)
    try:
        waiting = [
            pool.submit(_one, place, item, cloud, folder / path, progress) for path, item in contents.files.items()
        ]
        for done in as_completed(waiting):
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one(place: Bucket, item: Item, cloud: Cloud, file: Path, progress: Progress) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _Counted(FileIO(file, "xb"), progress.add) as stream:
        cloud.download(place, item, stream)
        size = stream.tell()
    if size != item.size and not item.packed:
        raise ConfigError(f"{place}: {item.name!r} came with {size} bytes and was listed with {item.size}; start again")
    progress.done(item)


class _Counted(BufferedWriter):
    """A file that tells how much is written into it."""

    def __init__(self, file: FileIO, add: Callable[[int], None]) -> None:
        super().__init__(file)
        self._add = add

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._add(written)
        return written


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # the interpreter would wait for objects that are still on their way when one of them failed
