"""The run itself: servers take turns within a round, so that whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import alone, foreign, goals, loads, servers
from benchmarks.processes import CellFailed
from benchmarks.results import Key, Measured, Results
from benchmarks.servers import Server

#: Connections by load.
QUICK = {"W1": (1, 8, 32, 128), "W2": (8,), "W3": (1, 8), "W4": (8, 32)}
FULL = {"W1": (1, 8, 32, 64, 128, 1024), "W2": (1, 8, 32), "W3": (1, 8, 32), "W4": (1, 8, 32)}


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        cells: connections by load.
        servers: names, in the order of their first turns.
        rounds: how often each takes its turn.
        seconds, warm_up: length of a measurement, and of the load before it that does not count.
        alone: measure idle CPU, memory and start of the listener, too.
        work: folder for logs and bodies.
    """

    cells: Mapping[str, Sequence[int]]
    servers: Sequence[str]
    rounds: int
    seconds: float
    warm_up: float
    alone: bool
    work: Path

    def names(self, load: str) -> list[str]:
        """Those that serve a load: direct Triton with one instance per core is there for the pictures only."""
        return [
            name for name in self.servers if name != servers.PER_CORE or any(load == w for w, _ in goals.RATIO_PER_CORE)
        ]


def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Measures everything; whatever fails is noted and the rest goes on."""
    results = Results()
    try:
        if plan.alone:
            alone.start_up(results, plan.rounds, plan.work, say)
        for load in plan.cells:
            _load(plan, load, results, say)
    except KeyboardInterrupt:
        say("interrupted; what has been measured follows")
    return results


def _load(plan: Plan, load: str, results: Results, say: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        started = {}
        for name in plan.names(load):
            if name not in results.left_out and (server := _start(plan, name, load, stack, results, say)):
                started[name] = server
        listener = started.get(servers.LISTENER)
        if plan.alone and listener and load == "W1":
            alone.idle(results, listener, say)
        for connections in plan.cells[load]:
            for turn in range(plan.rounds):
                for name in turned(list(started), turn):
                    _turn(plan, started[name], Key(load, connections, name), results, say)
        if plan.alone and listener:
            alone.memory(results, listener, say)
        for server in started.values():
            server.ask_to_stop()


def turned(names: list[str], turn: int) -> list[str]:
    """Each round begins with another one: nobody is always the first after a pause."""
    start = turn % len(names) if names else 0
    return names[start:] + names[:start]


def _start(
    plan: Plan, name: str, load: str, stack: ExitStack, results: Results, say: Callable[[str], None]
) -> Server | None:
    say(f"{load}: starting {name}")
    try:
        return stack.enter_context(servers.start(name, loads.by_name(load), plan.work))
    except foreign.LeftOut as error:
        say(f"left out: {error}")
        results.left_out[name] = str(error)
    except CellFailed as error:
        say(f"{load} {name}: cell failed: {error}")
        for connections in plan.cells[load]:
            results.fail(Key(load, connections, name), str(error))
    return None


def _turn(plan: Plan, server: Server, key: Key, results: Results, say: Callable[[str], None]) -> None:
    if key in results.failed:
        return
    place = f"{key.load} at {key.connections}, {key.server}"
    try:
        measured = measure(server, key.connections, plan.seconds, plan.warm_up)
    except CellFailed as error:
        results.fail(key, str(error))
        say(f"{place}: cell failed: {error}")
        return
    results.add(key, measured)
    say(
        f"{place}: {measured.rps:.0f}/s, p50 {measured.p50_ms:.2f} ms, p99 {measured.p99_ms:.2f} ms, "
        f"CPU {measured.server_cpu_us:.0f} + {measured.triton_cpu_us:.0f} us"
    )


def measure(server: Server, connections: int, seconds: float, warm_up: float) -> Measured:
    """One turn: answers checked, warmed up, measured, answers checked again.

    Raises:
        CellFailed: anything was answered wrongly, before, during or after.
    """
    server.check()
    server.drive(connections, warm_up)
    before = server.cpu()
    run = server.drive(connections, seconds)
    used = server.cpu().since(before)
    if not run.requests:  # which a short warm-up may end with
        raise CellFailed("under load: no answer at all")
    server.check()
    return Measured(
        run.requests / run.seconds,
        run.p50_ms,
        run.p99_ms,
        used.server * 1e6 / run.requests,
        used.triton * 1e6 / run.requests,
    )
