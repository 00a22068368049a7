"""`python -m benchmarks.fetching`: how long models take out of Cloud Storage; writes its section of RESULTS.md."""

from __future__ import annotations

import datetime
import os
import random
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks import machine, plot
from benchmarks.__main__ import PAGE, progress
from benchmarks.fetching import fetchers, places, report
from benchmarks.fetching.fetchers import Failed, Fetcher, curl, listener, listener_in_parts, manager
from benchmarks.fetching.report import Load
from benchmarks.report import FETCHING, with_fetching

HERE = Path(__file__).parent
WORK, PICTURE = HERE.parent / ".work/fetching", HERE.parent / "fetching.svg"
_MIB = 1 << 20
#: Bytes a second of each connection of the slow server.
_RATE = 60e6

BIG: Sequence[Fetcher] = (
    listener(),
    listener_in_parts(0),
    listener_in_parts(64),
    listener_in_parts(16),
    manager("threads", 4),
    manager("threads", 8),
    manager("processes", 4),
    manager("chunks", 8, 32),
    manager("chunks", 8, 128),
    manager("chunks", 4, 512),
    curl(4),
)
SMALL: Sequence[Fetcher] = (
    listener(),
    manager("threads", 4),
    manager("threads", 8),
    manager("threads", 16),
    manager("processes", 4),
    manager("processes", 8),
    curl(16),
)
SLOW: Sequence[Fetcher] = (
    listener(),
    listener_in_parts(0),
    listener_in_parts(64),
    listener_in_parts(16),
    manager("threads", 8),
    manager("chunks", 8, 32),
    manager("chunks", 8, 128),
    curl(1),
)


@click.command()
@click.option("--rounds", "times", type=click.IntRange(1), default=3, show_default=True)
@click.option("--share", type=click.FloatRange(0.001, 1), default=1.0, help="Of the bytes and files, to try it out.")
@click.option("--only", type=click.Choice(["big", "small", "slow"]), multiple=True, help="These loads alone.")
@click.option("--print", "prints_only", is_flag=True, help="Write no page.")
def main(times: int, share: float, only: tuple[str, ...], prints_only: bool) -> None:
    """Fetches the same objects with everybody in turns, each a command of its own on an otherwise quiet machine."""
    say = progress()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            loads = _loads(stack, share, only or ("big", "small", "slow"))
            for load in loads:
                _run(load, times, say)
    except Failed as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    for load in loads:
        click.echo(f"\n{load.title}\n\n{report.tables(load)}")
    if not prints_only:
        _write(loads)


def _loads(stack: ExitStack, share: float, only: Sequence[str]) -> list[Load]:
    found, size, count = list[Load](), int(512 * share) * _MIB, int(3000 * share)
    if {"big", "small"} & set(only):
        cloud = stack.enter_context(places.emulated())
        if "big" in only:
            title = f"4 objects of {size >> 20} MiB, through the emulator"
            found.append(Load(title, places.filled(cloud, "big", 4, size), BIG))
        if "small" in only:
            title = f"{count:,} objects of 2 KB, through the emulator"
            found.append(Load(title, places.filled(cloud, "small", count, 2000), SMALL))
    if "slow" in only:
        title = f"one object of {size >> 19} MiB, {_RATE / 1e6:g} MB/s on each connection"
        found.append(Load(title, stack.enter_context(places.paced(2 * size, _RATE)), SLOW, judged=False))
    return found


def _run(load: Load, times: int, say: Callable[[str], None]) -> None:
    for turn in range(times):
        # by chance, as who comes next inherits the state in which memory and disk were left
        for name in random.Random(turn).sample([one.name for one in load.fetchers], len(load.fetchers)):
            taken = fetchers.run(load.fetcher(name), load.place, WORK / "turn" / "models")
            load.taken.setdefault(name, []).append(taken)
            say(f"{load.title}: {name}: {taken.seconds:.2f} s, CPU {taken.cpu:.1f} s, {taken.peak_mb:.0f} MB")


def _write(loads: Sequence[Load]) -> None:
    drawn = plot.can_draw()
    if drawn:
        report.draw(loads, PICTURE)
    described = {
        "processor": f"{os.cpu_count()} cores",
        "commit": machine.commit(),
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.fetching', *sys.argv[1:]])}`",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    FETCHING.write_text(report.section(loads, described, PICTURE.name if drawn else None) + "\n")
    PAGE.write_text(with_fetching(PAGE.read_text()))
    click.echo(f"\nwritten: {PAGE}")


if __name__ == "__main__":
    main()
