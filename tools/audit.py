"""`make audit`: known vulnerabilities of the packages that the images are locked to, and bills of materials.

pip-audit calls a run in which it could look up nothing a success. Here that is a failure, as nobody would notice.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: One file for each lock, in CycloneDX's JSON (https://cyclonedx.org).
MATERIALS = ROOT / "build/sbom"
_AUDIT = ("-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off")


@dataclass(frozen=True)
class Found:
    """What is known of one lock.

    Attributes:
        lock: its name.
        audited: packages that were looked up.
        skipped: the reasons for those that could not be.
        vulnerable: a line for each vulnerability.
    """

    lock: str
    audited: int
    skipped: tuple[str, ...]
    vulnerable: tuple[str, ...]

    @property
    def fault(self) -> str:
        """Why the audit fails; '' = it does not."""
        if not self.audited:
            return f"{self.lock}: nothing could be audited: {(*self.skipped, 'it has no packages')[0]}"
        if self.skipped:
            return f"{self.lock}: {len(self.skipped)} packages could not be audited: {self.skipped[0]}"
        return "\n".join(f"{self.lock}: {line}" for line in self.vulnerable)


def read(lock: str, told: Any) -> Found:
    """From pip-audit's JSON."""
    packages = told["dependencies"]
    skipped = tuple(str(package["skip_reason"]) for package in packages if "skip_reason" in package)
    vulnerable = tuple(
        f"{package['name']} {package['version']}: {known['id']}, mended in {_versions(known)}"
        for package in packages
        for known in package.get("vulns", ())
    )
    return Found(lock, len(packages) - len(skipped), skipped, vulnerable)


def _versions(known: Any) -> str:
    return ", ".join(known["fix_versions"]) or "no version"


def audited(lock: Path) -> Found:
    """Asks pip-audit, and writes the bill of materials.

    Raises:
        RuntimeError: it cannot say anything; the text is its last line.
    """
    told = _run(lock, "json")
    MATERIALS.mkdir(parents=True, exist_ok=True)
    (MATERIALS / f"{lock.stem}.cdx.json").write_text(_run(lock, "cyclonedx-json"))
    return read(lock.stem, json.loads(told))


def _run(lock: Path, form: str) -> str:
    done = subprocess.run(
        [sys.executable, *_AUDIT, f"--format={form}", "-r", str(lock)], capture_output=True, text=True, timeout=600
    )
    if not done.stdout.strip():  # with vulnerabilities the status is 1 as well
        raise RuntimeError((done.stderr.strip() or "pip-audit says nothing").splitlines()[-1])
    return done.stdout


def main(locks: Sequence[Path]) -> int:
    """Prints a line for each lock and the faults; the exit status."""
    faults = []
    for lock in locks:
        try:
            found = audited(lock)
        except RuntimeError as error:
            faults.append(f"{lock.stem}: nothing could be audited: {error}")
            continue
        print(
            f"{found.lock:<12}{found.audited:>4} audited{len(found.skipped):>4} skipped"
            f"{len(found.vulnerable):>4} vulnerabilities   {MATERIALS.relative_to(ROOT)}/{found.lock}.cdx.json",
            flush=True,
        )
        faults += [found.fault] if found.fault else []
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sorted((ROOT / "requirements").glob("*.lock"))))
