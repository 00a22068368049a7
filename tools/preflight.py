"""What `make install` needs of this machine, checked before anything is installed. One sentence for each thing missing.

Runs on any Python 3, hence the plain style; only once its version is known to do, one module of the package is asked.
"""

import importlib.util
import os
import platform
import shutil
import sys

_PACKAGES = "apt-get install python3.11 python3.11-venv libpython3.11 (Ubuntu 24.04: 3.12 instead of 3.11)"


def missing() -> "list[str]":
    """Sentences; empty = nothing is missing."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info < (3, 11):  # noqa: UP036 - it is this check that says so
        return [f"Python {version} is too old: {_PACKAGES}, then make PYTHON=python3.11"]
    if sys.version_info >= (3, 13):
        reason = f"the embedded Triton exists for Python 3.11 and 3.12, not {version}"
        return [f"{reason}: {_PACKAGES}, then make PYTHON=python3.11"]
    sentences = []
    if importlib.util.find_spec("ensurepip") is None:
        sentences.append(f"Python's venv module is incomplete: apt-get install python{version}-venv")
    if _will_embed():
        sentences += _library()
    return sentences


def _will_embed() -> bool:
    """Whether `listener up` would start the embedded Triton here."""
    other = shutil.which(os.environ.get("LISTENER_TRITON_BIN") or "tritonserver")
    return other is None and sys.platform == "linux" and platform.machine() == "x86_64"


def _library() -> "list[str]":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from listener.errors import ConfigError
    from listener.triton.installation import libpython_folder

    try:
        libpython_folder()
    except ConfigError as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    found = missing()
    for sentence in found:
        print(f"make install: {sentence}", file=sys.stderr)
    sys.exit(1 if found else 0)
