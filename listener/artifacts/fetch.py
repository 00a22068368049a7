"""The process that fetches: `python -m listener.artifacts.fetch DESCRIPTOR`, started by delivery.py.

A process of its own, because Google's client takes a second to import and memory that nobody needs afterwards, and
because a process can be stopped at any moment. Its answer goes through the inherited descriptor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

from listener import observe, settings
from listener.artifacts import answer, bucket, layout, transfers
from listener.artifacts.bucket import Bucket, Contents, Item
from listener.artifacts.cloud import Cloud
from listener.artifacts.journal import Journal
from listener.artifacts.reading import Replaced
from listener.artifacts.store import Store
from listener.artifacts.transfers import Target
from listener.errors import ConfigError
from listener.process import EX_CONFIG

log = logging.getLogger("listener.artifacts")

#: How often a place is listed that changes while it is fetched.
_LISTINGS = 3
#: Seconds between two lines that say how far it is.
_PERIOD = 5.0


def main() -> int:
    """Fetches what the settings name. Returns the exit status: 0, or EX_CONFIG with the reasons in the answer."""
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    place = bucket.parse(configured.place)
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        try:
            folder = fetch(place, Store(configured.artifacts, place.key), Cloud())
        except ConfigError as error:
            pipe.write(answer.refusal(error))
            return EX_CONFIG
        pipe.write(answer.folder(folder))
    return 0


def fetch(place: Bucket, store: Store, cloud: Cloud) -> Path:
    """Makes the present state of a place a folder, unless it is one already.

    Returns:
        The published folder.

    Raises:
        ConfigError: it cannot be listed, read or stored, or is nothing that can be served. Nothing is published then.
    """
    log.info("fetching %s", place)
    with store.fetching():
        for _ in range(_LISTINGS):
            with contextlib.suppress(Replaced):
                return _present(place, store, cloud)
            log.warning("%s changed while it was fetched; starting over with what lies there now", place)
        raise ConfigError(f"{place}: changed each time while it was fetched; start again when the upload is complete")


def _present(place: Bucket, store: Store, cloud: Cloud) -> Path:
    """The state of one listing.

    Raises:
        Replaced: it is not there any more.
        ConfigError: as of `fetch`.
    """
    contents = bucket.contents(place, cloud.items(place))
    layout.kind(layout.of_paths([*contents.files, *contents.folders]), str(place))  # before a byte is fetched
    published = store.published(contents.digest)
    if published.is_dir():
        log.info("%s has not changed since it was fetched", place)
        return published
    try:
        partial = store.partial(contents.digest)
        if not store.tells_case_apart(contents.digest):
            bucket.refuse_twins(contents, place)
        _require_room(place, store, contents)
        transfer(place, contents, cloud, partial, store.journal(contents.digest))
        return store.publish(contents.digest)
    except OSError as error:
        raise ConfigError(f"{place}: cannot be stored in {store.root}: {error.strerror}") from None


def _require_room(place: Bucket, store: Store, contents: Contents) -> None:
    if store.free + store.held(contents.digest) < contents.nbytes:
        raise ConfigError(
            f"{place}: {megabytes(contents.nbytes)} do not fit into {store.root}, which has {megabytes(store.free)} "
            "free; name another folder in LISTENER_ARTIFACTS"
        )


def transfer(place: Bucket, contents: Contents, cloud: Cloud, folder: Path, journal: Path) -> None:
    """Fetches all files into a folder, which may hold some of them.

    Raises:
        ConfigError: one of them cannot be read, or is not as it was listed.
        Replaced: one of them was replaced meanwhile.
        OSError: one of them cannot be written.
    """
    progress = Progress(contents)
    with Journal(journal) as noted:
        transfers.run(Target(place, contents, cloud, folder, noted, progress))
    progress.end()


class Progress:
    """Says in the log how far it is, every few seconds."""

    def __init__(self, contents: Contents) -> None:
        self._files, self._bytes = len(contents.files), contents.nbytes
        self._files_done = self._bytes_done = 0
        self._begin = self._told = time.monotonic()
        self._lock = threading.Lock()

    def add(self, nbytes: int) -> None:
        """So many more bytes are there."""
        with self._lock:
            self._bytes_done += nbytes
            if time.monotonic() - self._told >= _PERIOD:
                self._told = time.monotonic()
                self._tell("so far")

    def done(self, item: Item) -> None:
        """One more file is whole."""
        with self._lock:
            self._files_done += 1

    def end(self) -> None:
        """All of them are."""
        self._tell("fetched")

    def _tell(self, word: str) -> None:
        log.info(
            "%s: %d of %d files, %s of %s in %.1f s",
            word,
            self._files_done,
            self._files,
            megabytes(self._bytes_done),
            megabytes(self._bytes),
            time.monotonic() - self._begin,
        )


def megabytes(nbytes: int) -> str:
    """A size for people."""
    return f"{nbytes / 1e6:.1f} MB" if nbytes >= 50_000 else f"{nbytes} bytes"


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # the interpreter would wait for objects that are still on their way when one of them failed
