"""Model repository, service or one model alone: what a folder is, told by the names in it and in its folders."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from listener.errors import ConfigError, one_line

SERVICE_FILE = "listener.yaml"
CONFIG_FILE = "config.pbtxt"

_EXPECTED = (
    "expected is a Triton model repository (a folder for each model, with config.pbtxt or a version folder such as 1), "
    "a service (a folder with listener.yaml), or one model's folder or version folder"
)
_SHOWN = 5
#: What backends look for in a version folder, unless a configuration names another file.
_MODEL_FILES = frozenset(
    f"model.{suffix}" for suffix in ("onnx", "py", "pt", "pt2", "plan", "savedmodel", "graphdef", "xml", "dali", "so")
)
#: Triton passes over folders that begin with 0.
_VERSION = re.compile(r"[1-9][0-9]*")
#: In config.pbtxt: what opens or closes a block, a text, a remark, a name.
_CONFIG_WORDS = re.compile(r"""#.*|\bname\s*:\s*(?:"([^"\n]*)"|'([^'\n]*)')|"[^"\n]*"|'[^'\n]*'|[{}]|\[|\]""")


class Kind(enum.Enum):
    """What can be served."""

    REPOSITORY = "model repository"
    SERVICE = "service"
    MODEL = "one model's folder"
    VERSION = "one version's folder"


@dataclass(frozen=True, slots=True)
class Single:
    """How the one model that lies at a place is called in a repository of its own.

    Attributes:
        name: the model's.
        version: which of its versions the folder is; '' = it holds them.
    """

    name: str
    version: str


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
    """Tells what can be served apart. A folder with listener.yaml is a service, whatever else it holds.

    Raises:
        ConfigError: it is nothing of that, or one model whose name cannot be told; the sentence says what was found,
            what was expected and what to do.
    """
    if SERVICE_FILE in layout.files:
        return Kind.SERVICE
    if any(_is_model(inside) for inside in layout.folders.values()):
        return Kind.REPOSITORY
    if not layout.files and not layout.folders:
        raise ConfigError(f"{named}: is empty; {_EXPECTED}")
    found = _kind_of_one(layout)
    if found is None:
        raise ConfigError(
            f"{named}: is nothing that can be served; found are {_found(layout)}; {_EXPECTED}; "
            "name the folder that holds the models"
        )
    if CONFIG_FILE not in layout.files:  # else that may say the name, once it can be read
        single(found, named)
    return found


def _kind_of_one(layout: Layout) -> Kind | None:
    """Of a folder of one model; None = it is none."""
    if any(_VERSION.fullmatch(name) for name in layout.folders):
        return Kind.MODEL
    if _MODEL_FILES & {*layout.files, *layout.folders}:
        return Kind.VERSION
    return Kind.MODEL if CONFIG_FILE in layout.files else None


def single(kind: Kind, named: str, config: str = "") -> Single:
    """What the one model at a place is called: as its configuration says, else as its folder.

    Args:
        kind: MODEL or VERSION.
        named: the place as the user named it.
        config: the text of its config.pbtxt.

    Raises:
        ConfigError: nothing says a name that a folder can have.
    """
    parts = _parts(named)
    version = ""
    if kind is Kind.VERSION:
        version = parts.pop() if parts and _VERSION.fullmatch(parts[-1]) else "1"
    name = configured_name(config) or (parts[-1] if parts else "")
    if not name:
        raise ConfigError(
            f"{named}: holds {kind.value}, and no folder there says the model's name; put it into a folder of that "
            "name, such as digits/1 for version 1 of digits"
        )
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise ConfigError(f"{named}: the model's name would be {one_line(repr(name))}, which no folder can have")
    return Single(name, version)


def _parts(named: str) -> list[str]:
    """The folders on the way to a place, without the bucket."""
    below = named.removeprefix("gs://").partition("/")[2] if named.startswith("gs://") else os.path.abspath(named)
    return [part for part in below.split("/") if part]


def configured_name(config: str) -> str:
    """The `name` at the top of a config.pbtxt; '' where it has none. Those of inputs stand inside of braces."""
    depth = 0
    for word in _CONFIG_WORDS.finditer(config):
        if word[0] in ("{", "["):
            depth += 1
        elif word[0] in ("}", "]"):
            depth -= 1
        elif depth == 0 and (name := word[1] or word[2]):
            return name
    return ""


def _is_model(inside: Iterable[str]) -> bool:
    """By what Triton looks for in a folder: its configuration, or a version."""
    return any(name == CONFIG_FILE or (name.isascii() and name.isdigit()) for name in inside)


def _found(layout: Layout) -> str:
    names = [*(f"{name}/" for name in sorted(layout.folders)), *sorted(layout.files)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return one_line(", ".join(names[:_SHOWN])) + more
