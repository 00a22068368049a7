"""A program that fetches again and again, and is killed on the way: `dying.py URI FOLDER SECONDS...`.

For each number of seconds a process of its own fetches, and is killed with SIGKILL after them. At last one more fetches
to the end, and the published folder is printed. They are forked: importing Google's client takes longer than all else.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from listener.artifacts import bucket, fetch, parts
from listener.artifacts.cloud import Cloud
from listener.artifacts.store import Store
from tests.artifacts import removals

MIB = 1 << 20


def attempt(uri: str, folder: str) -> None:
    removals.apply()
    parts.SMALLEST, parts.MARK = 4 * MIB, MIB // 4  # so that small objects have parts as large ones do
    place = bucket.parse(uri)
    print(fetch.fetch(place, Store(folder, place.key), Cloud()), flush=True)


def main() -> None:
    uri, folder, *seconds = sys.argv[1:]
    for delay in map(float, seconds):
        child = os.fork()
        if not child:
            attempt(uri, folder)
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)
    attempt(uri, folder)


if __name__ == "__main__":
    main()
