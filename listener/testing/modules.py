"""The modules of a service while a test runs it: each service has its own `handlers`, and a process has one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from listener import service as services
from listener.errors import ConfigError


class Modules:
    """Puts aside what has the name of a service's modules and comes from elsewhere, until `close`.

    What the service imports from its folder is forgotten then. A test module that lies in the folder, and what it
    imported itself before, stays.

    Args:
        folder: the service's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        packages = _packages(self._folder)
        self._aside = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] in packages and not _lies_in(module, self._folder)
        }
        for name in self._aside:
            del sys.modules[name]
        self._before = set(sys.modules)
        self._was_on_path = str(self._folder) in sys.path
        importlib.invalidate_caches()  # a test may have written the handlers a moment ago

    def close(self) -> None:
        """Forgets the service's modules and its place on sys.path; what was put aside is there again."""
        for name, module in list(sys.modules.items()):
            if name not in self._before and _lies_in(module, self._folder):
                del sys.modules[name]
        if not self._was_on_path and str(self._folder) in sys.path:
            sys.path.remove(str(self._folder))
        sys.modules.update(self._aside)


def _packages(folder: Path) -> set[str]:
    """The first names of the modules in listener.yaml; none where it cannot be read, which the listener will say."""
    try:
        sources = services.read(folder).sources
    except ConfigError:
        return set()
    return {source.partition(":")[0].partition(".")[0] for source in sources}


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether a module comes from a folder. A package without a file may come from several, and lies in each."""
    file = getattr(module, "__file__", None)
    try:
        places = [file] if file else list(getattr(module, "__path__", ()))
    except (KeyError, TypeError):  # a package whose parent has gone
        return False
    return any(Path(place).resolve().is_relative_to(folder) for place in places)
