"""The process that fetches: `python -m listener.artifacts.fetch DESCRIPTOR`, started by delivery.py.

A process of its own, because Google's client takes a second to import and memory that nobody needs afterwards, and
because a process can be stopped at any moment. Its answer goes through the inherited descriptor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from listener import observe, settings
from listener.artifacts import answer, bar, bucket, layout, transfers
from listener.artifacts.bucket import Bucket, Contents
from listener.artifacts.cloud import Cloud
from listener.artifacts.journal import Journal
from listener.artifacts.progress import Progress, Shown, megabytes
from listener.artifacts.reading import Replaced
from listener.artifacts.store import Store
from listener.artifacts.transfers import Target
from listener.errors import ConfigError
from listener.process import EX_CONFIG

log = logging.getLogger("listener.artifacts")
T = TypeVar("T")

#: How often a place is listed that changes while it is fetched.
_LISTINGS = 3


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
        store: where it is kept.
        cloud: reads it.
        shown: shows how far it is.

    Returns:
        The published folder.

    Raises:
        ConfigError: it cannot be listed, read or stored, or is nothing that can be served. Nothing is published then.
    """
    log.info("fetching %s", place)
    with store.fetching():
        return of_one_listing(place, lambda: _present(place, store, cloud, shown))


def of_one_listing(place: Bucket, fetched: Callable[[], T]) -> T:
    """Fetches anew where an object was replaced after the listing, so that two states are never mixed.

    Raises:
        ConfigError: that happens each time; or as what is called has it.
    """
    for _ in range(_LISTINGS):
        with contextlib.suppress(Replaced):
            return fetched()
        log.warning("%s changed while it was fetched; starting over with what lies there now", place)
    raise ConfigError(f"{place}: changed each time while it was fetched; start again when the upload is complete")


def _present(place: Bucket, store: Store, cloud: Cloud, shown: Shown | None) -> Path:
    """The state of one listing.

    Raises:
        Replaced: it is not there any more.
        ConfigError: as of `fetch`.
    """
    contents = listed(place, cloud)
    published = store.published(contents.digest)
    if published.is_dir():
        log.info("%s has not changed since it was fetched", place)
        return published
    try:
        partial = prepared(place, store, contents)
        _require_room(place, store, contents)
        with Progress(contents, store.progress, shown) as progress:
            transfer(place, contents, cloud, partial, store.journal(contents.digest), progress)
        return store.publish(contents.digest)
    except OSError as error:
        raise ConfigError(
            f"{place}: cannot be stored in {store.root}: {error.strerror}; name another folder in LISTENER_ARTIFACTS"
        ) from None


def listed(place: Bucket, cloud: Cloud) -> Contents:
    """What lies at a place; raises ConfigError where that cannot be listed or served, before a byte is fetched."""
    contents = bucket.contents(place, cloud.items(place))
    layout.kind(layout.of_paths([*contents.files, *contents.folders]), str(place))
    return contents


def prepared(place: Bucket, store: Store, contents: Contents) -> Path:
    """The folder for a state that is on its way; raises ConfigError where its names are too much alike for the disk."""
    partial = store.partial(contents.digest)
    if not store.tells_case_apart(contents.digest):
        bucket.refuse_twins(contents, place)
    return partial


def _require_room(place: Bucket, store: Store, contents: Contents) -> None:
    if store.free + store.held(contents.digest) < contents.nbytes:
        raise ConfigError(
            f"{place}: {megabytes(contents.nbytes)} do not fit into {store.root}, which has {megabytes(store.free)} "
            "free; name another folder in LISTENER_ARTIFACTS"
        )


def transfer(place: Bucket, contents: Contents, cloud: Cloud, folder: Path, journal: Path, progress: Progress) -> None:
    """Fetches all files into a folder, which may hold some of them.

    Raises:
        ConfigError: one of them cannot be read, or is not as it was listed.
        Replaced: one of them was replaced meanwhile.
        OSError: one of them cannot be written.
    """
    with Journal(journal) as noted:
        transfers.run(Target(place, contents, cloud, folder, noted, progress))


def leave(status: int) -> NoReturn:
    """Ends the process. The interpreter would wait for objects that are still on their way when one of them failed."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
