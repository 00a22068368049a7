"""`python -m chaos.soak`: a listener under a steady load for a long time, and whether anything of it grows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.__main__ import progress
from chaos.stack import mounting, target
from chaos.steady import Steady
from chaos.trend import Trend, trend
from chaos.usage import usage

#: Seconds between two samples, and between two lines of progress, and before the first sample.
_EACH, _SAY, _FIRST = 5.0, 60.0, 2.0
#: What a quantity may rise by in a run, by the end of its name: a part of its mean, and so much in its own unit.
ALLOWED = {"MiB": (0.02, 2.0), "descriptors": (0.0, 4.0), "threads": (0.0, 2.0)}
_OTHERS = (0.0, 1.0)
#: Of regions in /dev/shm: the step in which workers take pages and give them back (listener/triton/pages.py).
_PAGES = 8.0

Sample = Mapping[str, float]


async def soaked(seconds: float, rate: float, folder: Path, keep: Callable[[Sequence[Sample]], None]) -> Steady:
    """Asks for so long, and hands on the samples so far once a minute and at the end."""
    (temporary := folder / "tmp").mkdir()
    words = mounting({"/dev/shm": "1g"})
    say = progress()
    async with target(folder / "log", words, TMPDIR=str(temporary)) as stack:
        steady, samples = Steady(stack.url, rate), list[Sample]()
        async with steady.running():
            begin = time.monotonic()
            await asyncio.sleep(_FIRST)
            said = 0.0
            while (now := time.monotonic() - begin) < seconds:
                sample = await asyncio.to_thread(usage, stack.stack.process.pid, temporary)
                samples.append({"seconds": round(now, 2), **sample})
                if now - said >= _SAY:
                    said = now
                    say(line(steady, sample, now / seconds))
                    keep(samples)
                await asyncio.sleep(min(_EACH, seconds / 20))
        keep(samples)
    return steady


def line(steady: Steady, sample: Sample, part: float) -> str:
    """How far it is."""
    seen, bar = steady.seen, "#" * round(20 * part)
    memory = sum(value for name, value in sample.items() if name.endswith("PSS, MiB"))
    return (
        f"[{bar:<20}] {seen.requests:,} answered, {seen.right:,} right, {seen.refused.total()} refused, "
        f"{len(seen.wrong)} wrong, {seen.hung} hung; {memory:.0f} MiB"
    )


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Of each quantity, 0 where a sample lacks it."""
    seconds = [sample["seconds"] for sample in samples]
    names = dict.fromkeys(name for sample in samples for name in sample if name != "seconds")
    return {name: trend(seconds, [sample.get(name, 0.0) for sample in samples]) for name in names}


def allowed(name: str, found: Trend) -> float:
    """What it may rise by."""
    if name == "/dev/shm: MiB":
        return _PAGES
    part, least = next((bounds for end, bounds in ALLOWED.items() if name.endswith(end)), _OTHERS)
    return max(part * (found.low + found.high) / 2, least)


def table(found: Mapping[str, Trend]) -> str:
    """The quantities for people."""
    lines = [f"{'quantity':<28}{'first':>9}{'last':>9}{'min':>9}{'max':>9}{'slope/h':>10}  verdict"]
    for name, each in found.items():
        numbers = "".join(f"{number:>9.1f}" for number in (each.first, each.last, each.low, each.high))
        lines.append(f"{name:<28}{numbers}{each.slope:>+10.2f}  {each.verdict(allowed(name, each))}")
    return "\n".join(lines)


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.2), default=60.0, show_default=True)
@click.option("--rate", type=click.FloatRange(min=1), default=280.0, show_default=True, help="Requests a second.")
def main(minutes: float, rate: float) -> None:
    """Wrong answers and hung requests have to be 0, and no quantity may grow; else the exit status is 1.

    Runs of less than seven minutes are too short to say what grows.
    """
    samples, path = list[Sample](), os.environ.get("SOAK_JSON")

    def keep(so_far: Sequence[Sample]) -> None:
        samples[:] = so_far
        if path:
            Path(path).write_text(json.dumps(samples) + "\n")

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        steady = asyncio.run(soaked(minutes * 60, rate, Path(folder), keep))
    seen, found = steady.seen, trends(samples)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in steady.sent.most_common())
    refused = ", ".join(f"{count} x {how}" for how, count in sorted(seen.refused.items())) or "none"
    print(table(found))
    print(f"\n{steady.sent.total():,} requests: {kinds}")
    print(f"{seen.right:,} right; refused: {refused}; {len(seen.wrong)} wrong, {seen.hung} hung")
    for words in seen.wrong[:3]:
        print(f"wrong: {words}", file=sys.stderr)
    grown = [name for name, each in found.items() if each.verdict(allowed(name, each)) == "grows"]
    sys.exit(1 if seen.wrong or seen.hung or grown else 0)


if __name__ == "__main__":
    main()
