"""Model repository or service: what a folder is, told by the names in it and in its folders."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from listener.errors import ConfigError, one_line

SERVICE_FILE = "listener.yaml"
CONFIG_FILE = "config.pbtxt"

_EXPECTED = (
    "expected is a Triton model repository (a folder for each model, with config.pbtxt or a version folder such as 1) "
    "or a service (a folder with listener.yaml)"
)
_SHOWN = 5


class Kind(enum.Enum):
    """What can be served."""

    REPOSITORY = "model repository"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Layout:
    """The upper two levels of a folder.

    Attributes:
        files: names of the files in it.
        folders: by the name of each folder in it, the names of what that holds.
    """

    files: frozenset[str]
    folders: Mapping[str, frozenset[str]]


def of_paths(paths: Iterable[str]) -> Layout:
    """The layout of a folder of which all files are known, by paths such as `digits/1/model.onnx`."""
    files, folders = set[str](), dict[str, set[str]]()
    for path in paths:
        first, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(first, set()).add(rest.partition("/")[0])
        else:
            files.add(first)
    return Layout(frozenset(files), {name: frozenset(inside) for name, inside in folders.items()})


def of_folder(folder: Path, named: str) -> Layout:
    """The layout of a folder on this machine.

    Args:
        folder: the folder.
        named: how the user named it, for messages.

    Raises:
        ConfigError: there is no such folder, or it cannot be read.
    """
    try:
        files, folders = set[str](), dict[str, frozenset[str]]()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders[entry.name] = frozenset(inside.name for inside in entry.iterdir())
            else:
                files.add(entry.name)
    except FileNotFoundError:
        raise ConfigError(f"{named}: no such folder; {_EXPECTED}") from None
    except NotADirectoryError:
        raise ConfigError(f"{named}: is a file; {_EXPECTED}") from None
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read: {error.strerror} ({error.filename})") from None
    return Layout(frozenset(files), folders)


def kind(layout: Layout, named: str) -> Kind:
    """Tells model repository and service apart. A folder with listener.yaml is a service, whatever else it holds.

    Raises:
        ConfigError: it is neither; the sentence says what was found, what was expected and what to do.
    """
    if SERVICE_FILE in layout.files:
        return Kind.SERVICE
    if any(_is_model(inside) for inside in layout.folders.values()):
        return Kind.REPOSITORY
    if not layout.files and not layout.folders:
        raise ConfigError(f"{named}: is empty; {_EXPECTED}")
    if _is_model(frozenset(layout.folders)) or CONFIG_FILE in layout.files:
        raise ConfigError(
            f"{named}: holds one model's {_found(layout)}; name the folder above it, in which each folder is a model"
        )
    raise ConfigError(
        f"{named}: is neither a model repository nor a service; found are {_found(layout)}; {_EXPECTED}; "
        "name the folder that holds the models"
    )


def _is_model(inside: Iterable[str]) -> bool:
    """By what Triton looks for in a folder: its configuration, or a version."""
    return any(name == CONFIG_FILE or (name.isascii() and name.isdigit()) for name in inside)


def _found(layout: Layout) -> str:
    names = [*(f"{name}/" for name in sorted(layout.folders)), *sorted(layout.files)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return one_line(", ".join(names[:_SHOWN])) + more
