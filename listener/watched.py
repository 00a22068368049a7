"""Which files of a service are watched under `--reload`, and what a change of each restarts."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from listener.service import FILE

#: Folders that tools fill; hidden ones (.git, .venv, .pytest_cache) are left out as well.
_FOLDERS = frozenset({"__pycache__", "site-packages", "venv", "node_modules"})
#: What is for people and for pytest, at the top of a service's folder. Further down `*.md` may be a handler's prompts;
#: other pictures than those of `listener graph`, and `*.txt`, may be its data wherever they lie.
_OUR_FOLDER, _OUR_FILES = "tests", ("*.md", "*.svg", "*.mmd", "pytest.ini", "conftest.py")
#: What editors, downloads and running programs write beside the real thing; hidden files are left out as well.
_FILES = (
    *("*~", "#*#", "*.swp", "*.swo", "*.swx", "*.bak", "*.orig", "*.tmp", "*.temp", "*.part", "4913", "*___jb_*___"),
    *("*.pyc", "*.log", "*.pid", "*.lock", "*.db", "*.sqlite", "*.sqlite3", "*-journal", "*-wal", "*-shm"),
)


class Kind(enum.Enum):
    """What a changed file restarts."""

    WORKERS = "workers"
    TRITON = "triton"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Watched:
    """The folders of one service.

    Attributes:
        folder: absolute path of the service's folder; where there is no listener.yaml it is the repository.
        repository: absolute path of the model repository, inside the folder or elsewhere.
    """

    folder: Path
    repository: Path

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders to look at, none of them inside another."""
        if self.repository.is_relative_to(self.folder):
            return (self.folder,)
        return (self.repository,) if self.folder.is_relative_to(self.repository) else (self.folder, self.repository)

    def kind(self, path: Path) -> Kind:
        """What a change of this absolute path restarts."""
        inner, outer = (self.repository, Kind.TRITON), (self.folder, Kind.WORKERS)
        if path == self.folder / FILE:
            return Kind.WORKERS
        if self.folder != self.repository and self.folder.is_relative_to(self.repository):
            inner, outer = outer, inner
        for root, kind in (inner, outer):
            if path.is_relative_to(root):
                within = path.relative_to(root)
                is_nothing = _is_left_out(within) or (kind is Kind.WORKERS and _is_beside(within))
                return Kind.NOTHING if is_nothing else kind
        return Kind.NOTHING

    def shown(self, paths: Iterable[Path]) -> str:
        """Changed files for a log line: `handlers/digits.py`, or `handlers/digits.py and 3 more`."""
        first, *others = sorted(self._relative(path) for path in paths)
        return f"{first} and {len(others)} more" if others else first

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)


def _is_left_out(path: Path) -> bool:
    if any(part.startswith(".") for part in path.parts) or _FOLDERS.intersection(path.parts):
        return True
    return any(fnmatch(path.name, pattern) for pattern in _FILES)


def _is_beside(path: Path) -> bool:
    """Whether it is a test, or something to read, at the top of the service's folder."""
    if len(path.parts) == 1:
        return path.name == _OUR_FOLDER or any(fnmatch(path.name, pattern) for pattern in _OUR_FILES)
    return path.parts[:1] == (_OUR_FOLDER,)
