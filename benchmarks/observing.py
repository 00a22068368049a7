"""`python -m benchmarks.observing`: what metrics, Server-Timing and the access log cost of throughput.

Two listeners with the same model stand side by side, one with all of that as the image has it and one with none of it.
They are asked in turns, small requests, and each pair gives a ratio.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks import loads, wrk
from benchmarks.overload.stack import listener
from benchmarks.processes import free_port

_OFF = {"LISTENER_METRICS_PORT": "0", "LISTENER_SERVER_TIMING": "false", "LISTENER_ACCESS_LOG": "0"}
#: Of throughput: what is wanted, and what there may be at most.
TARGET, CEILING = 0.97, 0.92


@click.command()
@click.option("--rounds", type=click.IntRange(3), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=2, show_default=True, help="Of each of the two, each time.")
@click.option("--connections", type=click.IntRange(1), multiple=True, default=(1, 32, 128), show_default=True)
def main(rounds: int, seconds: int, connections: tuple[int, ...]) -> None:
    """Prints the ratios: throughput with everything on, against off."""
    load = loads.by_name("W1")
    bodies = load.bodies("instances")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wrk.write_bodies(work / "bodies", bodies)
        on = {"LISTENER_METRICS_PORT": str(free_port())}
        asked = [
            stack.enter_context(listener(load.service, given, work, name))
            for name, given in (("on", on), ("off", _OFF))
        ]
        print(f"{'connections':>12}{'on, req/s':>12}{'off, req/s':>12}{'ratio':>8}  of {rounds} pairs")
        for count in connections:
            rates: list[list[float]] = [[], []]
            for number in range(rounds):
                for place in (0, 1) if number % 2 else (1, 0):
                    ran = wrk.run(
                        f"http://127.0.0.1:{asked[place].port}/predict", work / "bodies", len(bodies), count, seconds
                    )
                    rates[place].append(ran.requests / ran.seconds)
            ratios = [with_it / without for with_it, without in zip(*rates, strict=True)]
            middle = statistics.median(ratios)
            verdict = "met" if middle >= TARGET else "missed" if middle >= CEILING else "beyond the ceiling"
            print(
                f"{count:>12}{statistics.median(rates[0]):>12,.0f}{statistics.median(rates[1]):>12,.0f}{middle:>8.3f}"
                f"  [{min(ratios):.3f}, {max(ratios):.3f}], target {TARGET}: {verdict}"
            )
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
