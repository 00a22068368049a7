"""A repository around one model that has none: a folder of links, so that nothing is written where the model lies.

It lies in the store (store.py) under a key of its own: in LISTENER_ARTIFACTS, where it stays, or in the temporary
folder, where the last process that uses it removes it at its end. Every process makes the same one of the same model.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
from pathlib import Path

from listener import temporary
from listener.artifacts import layout
from listener.artifacts.layout import CONFIG_FILE, Kind, Single
from listener.artifacts.store import Store
from listener.errors import ConfigError

#: Beyond this a configuration is not looked at for a name.
_MOST_BYTES = 1 << 20

_in_use: dict[str, Store] = {}


def repository(kind: Kind, folder: Path, named: str, artifacts: str) -> Path:
    """The repository, which is there until this process ends.

    Args:
        kind: MODEL or VERSION.
        folder: where the model lies on this machine.
        named: how the user named the place, for the model's name and for messages.
        artifacts: LISTENER_ARTIFACTS.

    Raises:
        ConfigError: the model's name cannot be told, or the links cannot be written.
    """
    target = folder.absolute()
    model = layout.single(kind, named, _text(folder / CONFIG_FILE))
    store = _store(artifacts, _key(model, target))
    made = store.published("repository")
    try:
        _link(made, model, target)
    except OSError as error:
        raise ConfigError(
            f"{named}: is one model, and the folder of links around it cannot be made in {store.root}: "
            f"{error.strerror}; name another folder in LISTENER_ARTIFACTS"
        ) from None
    return made


def release() -> None:
    """Removes what nobody else uses. Called when the process ends."""
    while _in_use:
        _, store = _in_use.popitem()
        store.remove()
        store.release()


atexit.register(release)


def _store(artifacts: str, key: str) -> Store:
    store = Store(artifacts, key)
    kept = _in_use.setdefault(str(store.published(key)), store)
    kept.use()
    return kept


def _key(model: Single, target: Path) -> str:
    """Stands for one model at one place; a name alone may be that of many."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name)[:60].strip("-.")
    digest = hashlib.sha256(f"{model.name}\0{model.version}\0{target}".encode("utf-8", "surrogateescape"))
    return f"model-{readable}-{digest.hexdigest()[:12]}"


def _link(made: Path, model: Single, target: Path) -> None:
    temporary.private(made)
    if not model.version:
        _symlink(made / model.name, target)
        return
    temporary.private(made / model.name)
    _symlink(made / model.name / model.version, target)
    if (target / CONFIG_FILE).exists():
        _symlink(made / model.name / CONFIG_FILE, target / CONFIG_FILE)


def _symlink(link: Path, target: Path) -> None:
    """Another process may make the same one in this moment; the name of a link says where it leads (see `_key`)."""
    with contextlib.suppress(FileExistsError):
        os.symlink(target, link)


def _text(file: Path) -> str:
    with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(_MOST_BYTES)
    return ""
