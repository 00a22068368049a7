"""`python -m benchmarks.observing`: what metrics, Server-Timing and the access log cost of throughput.

Three listeners with the same model stand side by side: one with all of that as the image has it, and two with none of
it, of which the second says how unlike two listeners are that are alike. They are asked in turns, small requests, and
each round gives a ratio to the first one without. As a process may be a little faster than its twin for as long as it
lives, all are started anew several times.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks import loads, wrk
from benchmarks.overload.stack import listener
from benchmarks.processes import free_port

_OFF = {"LISTENER_METRICS_PORT": "0", "LISTENER_SERVER_TIMING": "false", "LISTENER_ACCESS_LOG": "0"}
#: Of throughput: what is wanted, and what there may be at most.
TARGET, CEILING = 0.97, 0.92
#: What is asked, with the settings of each; all are held against the second.
_ASKED = {"on": {}, "off": _OFF, "off again": _OFF}


@click.command()
@click.option("--starts", type=click.IntRange(1), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(3), default=8, show_default=True, help="Of each start.")
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Of each listener in a round.")
@click.option("--connections", type=click.IntRange(1), multiple=True, default=(1, 32, 128), show_default=True)
def main(starts: int, rounds: int, seconds: int, connections: tuple[int, ...]) -> None:
    """Prints the ratios of throughput: with everything on against off, and off against off."""
    rates: dict[int, list[list[float]]] = {count: [] for count in connections}
    for number in range(starts):
        print(f"start {number + 1} of {starts}", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            ask = _started(stack, seconds)
            for count in connections:
                rates[count] += [_round(ask, count, turn) for turn in range(rounds)]
    print(f"{'connections':>12}{'on, req/s':>12}{'off, req/s':>12}  on / off, and off again / off: median [quartiles]")
    for count in connections:
        on, off, again = (list(rate) for rate in zip(*rates[count], strict=True))
        middle = statistics.median(_ratios(on, off))
        verdict = "met" if middle >= TARGET else "missed" if middle >= CEILING else "beyond the ceiling"
        print(
            f"{count:>12}{statistics.median(on):>12,.0f}{statistics.median(off):>12,.0f}"
            f"  {_said(_ratios(on, off))}, {_said(_ratios(again, off))}; target {TARGET}: {verdict}"
        )
    print(f"{starts} starts with {rounds} rounds each; load average {os.getloadavg()[0]:.1f}")


def _started(stack: ExitStack, seconds: int) -> Callable[[int, int], float]:
    """Listeners that are up until the stack ends; gives what asks one of them: its place and connections, to req/s."""
    load = loads.by_name("W1")
    bodies = load.bodies("instances")
    work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    wrk.write_bodies(work / "bodies", bodies)
    ports = [
        stack.enter_context(
            listener(load.service, {"LISTENER_METRICS_PORT": str(free_port()), **given}, work, name.replace(" ", "-"))
        ).port
        for name, given in _ASKED.items()
    ]

    def ask(place: int, count: int) -> float:
        ran = wrk.run(f"http://127.0.0.1:{ports[place]}/predict", work / "bodies", len(bodies), count, seconds)
        return ran.requests / ran.seconds

    for place in range(len(ports)):
        ask(place, 8)  # warm
    return ask


def _round(ask: Callable[[int, int], float], count: int, number: int) -> list[float]:
    """The rates of all listeners, asked in an order that changes from round to round."""
    places = range(len(_ASKED))
    order = [(place + number) % len(places) for place in (places if number % 2 else reversed(places))]
    found = {place: ask(place, count) for place in order}
    return [found[place] for place in places]


def _ratios(these: list[float], those: list[float]) -> list[float]:
    return [this / that for this, that in zip(these, those, strict=True)]


def _said(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
