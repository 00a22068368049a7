"""What the process that fetches says to its parent: a folder, or why there is none."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from listener.errors import ConfigError


def folder(path: Path) -> bytes:
    """The answer of a process that has published a folder."""
    return orjson.dumps({"folder": os.fsencode(path).hex()})


def refusal(error: ConfigError) -> bytes:
    """The answer of one that could not."""
    return orjson.dumps({"mistakes": [mistake.encode("utf-8", "replace").decode() for mistake in error.mistakes]})


def read(text: bytes, place: str, status: int) -> Path:
    """The folder.

    Args:
        text: the whole answer; empty where the process ended before it gave one.
        place: what was to be fetched, for messages.
        status: the process's exit status.

    Raises:
        ConfigError: there is none; with the process's own sentences.
    """
    if not text:
        raise ConfigError(f"{place}: the process that fetches it ended with status {status}; its log says why")
    given = orjson.loads(text)
    if "mistakes" in given:
        raise ConfigError(*given["mistakes"])
    return Path(os.fsdecode(bytes.fromhex(given["folder"])))
