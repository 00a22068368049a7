"""Which Python `make install` takes: the first on this machine that will do and was built with optimisations.

One that was compiled without, as pyenv does it unless told otherwise, costs up to half as much again for each request
(benchmarks/profile.md). If there is no such one, the first that will do; if there is none at all, `python3`, of which
`preflight.py` says what is missing. Runs on any Python 3, hence the plain style.
"""

import os
import shutil
import subprocess
import sys
import sysconfig

_NAMES = ("python3", "python3.12", "python3.11")
_FOLDERS = ("/usr/bin", "/usr/local/bin")
_SUITS, _OPTIMISED = "suits", "optimised"
_PATIENCE = 20  # seconds


def choose() -> str:
    """A path, or just `python3`."""
    judged = [(path, _judgement(path)) for path in candidates()]
    for wanted in (_OPTIMISED, _SUITS):
        for path, judgement in judged:
            if judgement == wanted:
                return path
    return "python3"


def candidates() -> "list[str]":
    """What there is, the one that a shell would take first."""
    found = [shutil.which(name) for name in _NAMES]
    found += [shutil.which(name, path=folder) for folder in _FOLDERS for name in _NAMES]
    return list(dict.fromkeys(filter(None, found)))


def _judgement(path: str) -> str:
    """What that Python says of itself."""
    try:
        done = subprocess.run([path, __file__, "--judge"], capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def judge() -> str:
    """Of the Python that runs this."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from tools.preflight import missing

    if missing():
        return ""
    return _OPTIMISED if optimised() else _SUITS


def optimised() -> bool:
    """Whether it was: as its configuration says, or because it is the distribution's, which all are."""
    said = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return said or os.path.dirname(os.path.realpath(sys.executable)) == "/usr/bin"


if __name__ == "__main__":
    print(judge() if "--judge" in sys.argv else choose())
