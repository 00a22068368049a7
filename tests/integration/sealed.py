"""A disk as a container with a read-only root sees it, without a container: mounts that nobody else sees.

Everything is mounted read-only but /proc, /sys and /dev, a /dev/shm of the size that Docker gives, and a tmpfs at /tmp.
What runs there is a user without name and home. The network is this machine's.

The programs are run from where they lie, by their own paths. Two kinds of them would be out of sight: what lies below
/tmp, under the tmpfs, and what lies below a folder that others may not enter, such as an interpreter in /root. These
folders are bound, at the same paths, into a tmpfs over what hides them; nobody gets a right to read more than others
have.

Root needs nothing else. Anybody else needs namespaces of users: there the nameless user is the one who runs the tests,
under another number. Where the system allows neither (a container without CAP_SYS_ADMIN, AppArmor), tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stack import ROOT

#: In no passwd.
USER = 12345
_SHM = "64m"
_TMP = Path("/tmp")
_NEEDED = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
_READ_ONLY = """
while read -r _ _ _ _ at _; do
  case "$at" in
    /proc|/proc/*|/sys|/sys/*|/dev|/dev/*{writable}) ;;
    *) [ ! -e "$at" ] || mount -o remount,bind,ro "$at" ;; # one that another mount covers is not there
  esac
done < /proc/self/mountinfo
"""


class Sealed:
    """The mounts, which last as long as the process that holds them.

    Attributes:
        words: to be put in front of a command, which then runs there.
        seen: paths in /tmp that have nothing to do with what runs.
    """

    def __init__(self, holder: int) -> None:
        self._root = Path(f"/proc/{holder}/root")
        enter = ["nsenter", f"--target={holder}", "--mount"]
        nobody = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        if os.getuid() != 0:
            enter += ["--user", "--preserve-credentials"]
            nobody = ["unshare", f"--map-user={USER}", f"--map-group={USER}"]
        plain = ["env", "--unset=HOME", "--unset=TMPDIR", "--chdir=/"]
        self.words = [*enter, "--", *nobody, "--", *plain, f"PYTHONPATH={ROOT}"]
        self.seen = self._paths()

    def left(self) -> set[str]:
        """What somebody has written into /tmp and not removed."""
        return self._paths() - self.seen

    def _paths(self) -> set[str]:
        return {path.name for path in (self._root / "tmp").iterdir()}


@contextlib.contextmanager
def sealed(tmpfs: str | None = "256m") -> Iterator[Sealed]:
    """Such a disk.

    Args:
        tmpfs: the size of that at /tmp, and further options of mount(8); None: there is none, and /tmp cannot be
            written either.
    """
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", "--propagation=private"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"no mounts of our own are allowed here: {shlex.join(command)}")
    holder = subprocess.Popen([*command, "sh", "-euc", _script(tmpfs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"sealed\n":
            raise RuntimeError(f"the mounts cannot be made: status {holder.wait()}")
        yield Sealed(holder.pid)
    finally:
        holder.kill()
        holder.communicate()


def _script(tmpfs: str | None) -> str:
    covered = {_TMP: tmpfs} if tmpfs else {}
    bound = list[tuple[int, Path]]()
    lines = ["umask 022", f"mount -t tmpfs -o size={_SHM},mode=1777 shm /dev/shm"]
    for number, folder in enumerate(_NEEDED, 3):
        hides = _hides(folder, tmpfs is not None)
        if hides:
            covered.setdefault(hides, "1m")
            bound.append((number, folder))
            lines.append(f"exec {number}< {shlex.quote(str(folder))}")
    for folder, size in covered.items():
        mode = 1777 if folder == _TMP else 755
        lines.append(f"mount -t tmpfs -o size={size},mode={mode} tmpfs {shlex.quote(str(folder))}")
    for number, folder in bound:
        path = shlex.quote(str(folder))
        lines.append(f"mkdir -p {path}; mount --no-canonicalize --bind /proc/self/fd/{number} {path}; exec {number}<&-")
    lines.append(_READ_ONLY.format(writable=f"|{_TMP}" if tmpfs else ""))
    return "\n".join([*lines, "echo sealed", "exec cat"])


def _hides(folder: Path, covers_tmp: bool) -> Path | None:
    """The uppermost folder on the way to another one that a nameless user cannot pass; None: there is none."""
    for above in [*reversed(folder.parents), folder]:
        if (covers_tmp and above == _TMP) or (os.getuid() == 0 and not above.stat().st_mode & 0o001):
            return above
    return None
