"""`listener graph`: the picture of a service, on a terminal or in a file whose ending says the form."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from listener import importing, loader
from listener.errors import ConfigError, one_line
from listener.service import Service
from listener.tools import repository
from listener.tools.drawing import mermaid, picture, svg, tree
from listener.tools.drawing.picture import Picture

_WRITERS: Mapping[str, Callable[[Picture], str]] = {
    ".svg": svg.text,
    ".mmd": mermaid.text,
    ".md": mermaid.fenced,
    ".txt": tree.text,
}
_NEXT = {
    ".svg": "open it in a browser, or put it on a page: ![The graph]({name})",
    ".mmd": "https://mermaid.live draws it, and so do the Mermaid plugins of editors",
    ".md": "GitHub and GitLab draw it; the block can be copied into any page of theirs",
    ".txt": "`listener graph` prints the same",
}


def drawn(service: Service, route: str = "") -> Picture:
    """The picture of a service; handlers are imported for the models that they name, as far as they can be.

    Args:
        service: what `service.py` read, or a model repository alone.
        route: of this route or node alone; "" = everything.

    Raises:
        ConfigError: there is nothing of that name, or nothing to draw.
    """
    with contextlib.redirect_stdout(sys.stderr):  # for what Python composes, which may print
        service = importing.expanded(service)
    if not service.choices:  # then requests can name every model
        models = repository.names(service.repository)
        if not models:
            raise ConfigError(f"{service.repository}: has no model, so there is nothing to draw")
        service = picture.bare(service, models)
    return picture.of(service, _models(service), route)


def _models(service: Service) -> dict[str, str]:
    """The models that handlers name themselves, by step."""
    found = {}
    for name, route in service.steps.items():
        if route.handler and not route.model:
            # a drawing needs no more of a handler than this; `check` says what is wrong with it
            with contextlib.suppress(ConfigError), contextlib.redirect_stdout(sys.stderr):
                found[name] = loader.model_name(route, importing.handler_class(service, route)) or ""
    return found


def writer(file: Path) -> Callable[[Picture], str]:
    """What writes the form that the ending of a file says.

    Raises:
        ConfigError: it says none.
    """
    if (found := _WRITERS.get(file.suffix.lower())) is None:
        raise ConfigError(one_line(f"--out {str(file)!r}: the ending says the form; known are {', '.join(_WRITERS)}"))
    return found


def write(text: str, file: Path) -> str:
    """Writes the whole file or nothing, and says what to do with it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError(0, "is a folder")
        _replace(file.resolve(), text)  # what a link leads to, not the link
    except OSError as error:
        reason = f"{file.parent}: no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(one_line(f"--out {str(file)!r}: cannot be written: {reason}")) from None
    except ValueError as error:  # NUL, or what no file system can say
        raise ConfigError(one_line(f"--out {str(file)!r}: is no path: {error}")) from None
    return f"Wrote {shlex.quote(str(file))}: {_NEXT[file.suffix.lower()].format(name=file.name)}"


def _replace(file: Path, text: str) -> None:
    """Puts a file in place of the one that is there, in a moment."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:100]}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.chmod(name, _mode(file))
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _mode(file: Path) -> int:
    """The permissions that the file has, or that a new one would get."""
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
