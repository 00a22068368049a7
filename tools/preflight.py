"""What `make install` needs of this machine, checked before anything is installed. One sentence for each thing missing.

Runs on any Python 3, hence the plain style; nothing of the package can be imported yet.
"""

import importlib.util
import sys


def missing() -> "list[str]":
    """Sentences; empty = nothing is missing."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info < (3, 11):  # noqa: UP036 - it is this check that says so
        return [f"Python {version} is too old: install Python 3.11 or 3.12 and run make PYTHON=python3.12"]
    if sys.version_info >= (3, 13):
        return [f"the embedded Triton exists for Python 3.11 and 3.12, not {version}: run make PYTHON=python3.12"]
    if importlib.util.find_spec("ensurepip") is None:
        return [f"Python's venv module is incomplete: apt-get install python{version}-venv"]
    return []


if __name__ == "__main__":
    sentences = missing()
    for sentence in sentences:
        print(f"make install: {sentence}", file=sys.stderr)
    sys.exit(1 if sentences else 0)
