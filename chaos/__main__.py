"""`python -m chaos`: asks a real listener while faults are injected, and prints what became of the requests."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click

from benchmarks.__main__ import progress
from chaos.clock import Clock
from chaos.faults import FAULTS, Fault
from chaos.load import Load, Seen
from chaos.stack import Target, behind_proxy, mounting, target

#: Seconds of load before a fault, and of what has to be well after the time of its recovery.
_BEFORE = 0.5
#: Of the listener's log, where a fault cannot be tried.
_LAST_LINES = 20
#: Seconds within which all is well again.
RECOVERY = 2.0


@dataclass(frozen=True)
class Row:
    """What became of the requests under one fault.

    Attributes:
        fault: its name.
        seen: the requests.
        recovery: seconds from the end of the fault to the last refusal, the longest of all times that it was done.
    """

    fault: str
    seen: Seen
    recovery: float

    @property
    def is_good(self) -> bool:
        return not self.seen.wrong and not self.seen.hung and self.recovery <= RECOVERY

    def as_json(self) -> dict[str, object]:
        """The row for machines."""
        seen = self.seen
        return {
            "fault": self.fault,
            "requests": seen.requests,
            "right": seen.right,
            "refused": dict(sorted(seen.refused.items())),
            "wrong": len(seen.wrong),
            "hung": seen.hung,
            "recovery_s": round(self.recovery, 2),
        }


async def tried(fault: Fault, stack: Target, seconds: float) -> Row:
    """Does a fault again and again for some seconds, at least once."""
    async with Load(stack.url, fault.clients).running() as seen:
        await asyncio.sleep(_BEFORE)
        until, recovery = time.monotonic() + seconds, 0.0
        while True:
            over = await fault.do(stack)
            await asyncio.sleep(RECOVERY + _BEFORE)
            recovery = max(recovery, seen.last_refusal - over)
            if time.monotonic() > until:
                break
    return Row(fault.name, seen, recovery)


async def tried_on_one(faults: Sequence[Fault], seconds: float, log: Path, say: Callable[[str], None]) -> list[Row]:
    """Does faults that ask for the same stack, one after the other."""
    rows = []
    async with _stack(faults[0], log) as stack:
        for fault in faults:
            say(fault.name)
            await asyncio.to_thread(stack.stack.until, 200)
            rows.append(await tried(fault, stack, seconds))
    return rows


def _stack(fault: Fault, log: Path) -> AbstractAsyncContextManager[Target]:
    if fault.is_proxied:
        return behind_proxy(log, **fault.env)
    env = dict(fault.env)
    for name in fault.mounts:
        if not Path(name).is_absolute():
            (log.parent / name).mkdir()
            env["TMPDIR"] = str(log.parent / name)
    words = mounting({str(log.parent / name): "16m" for name in fault.mounts})
    return target(log, words, Clock(log.parent / "clock") if fault.has_clock else None, **env)


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = [f"{'fault':<38}{'requests':>9}{'right':>9}  {'refused':<32}{'wrong':>6}{'hung':>6}{'recovery':>10}"]
    for row in rows:
        refused = ", ".join(f"{count} x {how}" for how, count in sorted(row.seen.refused.items())) or "-"
        seen = row.seen
        lines.append(
            f"{row.fault:<38}{seen.requests:>9,}{seen.right:>9,}  {refused:<32}{len(seen.wrong):>6}{seen.hung:>6}"
            f"{row.recovery:>8.2f} s"
        )
    return "\n".join(lines)


@click.command()
@click.option("--seconds", default=0.0, show_default=True, help="For each fault; it is done at least once.")
@click.option("--only", multiple=True, metavar="WORDS", help="Faults whose names have these words.")
def main(seconds: float, only: tuple[str, ...]) -> None:
    """Wrong answers and hung requests have to be 0, and recovery at most two seconds; else the exit status is 1."""
    chosen = [fault for fault in FAULTS if not only or any(words in fault.name for words in only)]
    say, rows = progress(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for number, (_, alike) in enumerate(groupby(chosen, key=lambda fault: fault.stack)):
            log = Path(folder) / f"{number}.log"
            try:
                rows += asyncio.run(tried_on_one(list(alike), seconds, log, say))
            except (AssertionError, LookupError, TimeoutError) as error:
                click.echo("\n".join(log.read_text().splitlines()[-_LAST_LINES:]), err=True)
                reason = str(error) or type(error).__name__
                sys.exit(f"a fault could not be tried: {reason}; above is the end of the listener's log")
    print(table(rows))
    if path := os.environ.get("CHAOS_JSON"):
        Path(path).write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    for row in rows:
        for words in row.seen.wrong[:3]:
            print(f"wrong under '{row.fault}': {words}", file=sys.stderr)
    sys.exit(0 if all(row.is_good for row in rows) else 1)


if __name__ == "__main__":
    main()
