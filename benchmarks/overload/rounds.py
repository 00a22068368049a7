"""The run: which loads, on which listeners, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.overload import figures
from benchmarks.overload.generator import Plan
from benchmarks.overload.stack import Listener, Row, listener
from benchmarks.processes import CellFailed

#: Loads, as the tables call them. BEST is a closed loop on a listener with its defaults; others are held against it.
BEST, AT_90 = "best (64 busy)", "90 %"
TWICE, AT_10 = "2 x", "10 x"
BUSY_LATER, BUSY_AT_ONCE = "2,000 idle, 500 busy", "the same, asking again at once"
#: Requests per second that the generator can send, beside a listener on the other core.
FASTEST = 8000
_CLOSED = Plan(0, "", busy=64)
#: Part of a load that has to be answered for it to be called carried, and how often a smaller one is tried.
_CARRIED, _TRIES = 0.97, 4


@dataclass(frozen=True)
class Case:
    """One listener and what it is asked.

    Attributes:
        service: a folder of services/.
        what: the same in words, for the tables.
        multiples: loads of an open loop, as multiples of the capacity.
        crowd: ask with 2,000 idle and 500 busy connections, too.
        judged: loads that have goals.
    """

    service: str
    what: str
    multiples: Mapping[str, float]
    crowd: bool
    judged: Sequence[str]


SLOW = Case(
    "slow",
    "the model is the bottleneck: 8 rows in 20 ms",
    {AT_90: 0.9, "100 %": 1.0, TWICE: 2.0, AT_10: 10.0},
    True,
    (AT_10, BUSY_LATER),
)
OWN = Case(
    "affine",
    "the listener is the bottleneck: 64 instances of 16 numbers",
    {AT_90: 0.9, TWICE: 2.0},  # the generator could not send ten times as much
    False,
    (TWICE,),
)


@dataclass(frozen=True)
class Known:
    """What was measured before the rounds, with the defaults.

    Attributes:
        capacity: right answers per second.
        p99_ms: at 90 % of it, or with 64 busy connections if that is less.
    """

    capacity: float
    p99_ms: float


@dataclass(frozen=True)
class Key:
    """A row of a table: service, LISTENER_MAX_REQUESTS (None: the default), load."""

    service: str
    permits: int | None
    load: str


@dataclass
class Results:
    """Rows by what they are of, one for each round.

    Attributes:
        known: by service.
        failed: why a service could not be measured.
    """

    rows: dict[Key, list[Row]] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, key: Key, row: Row) -> None:
        self.rows.setdefault(key, []).append(row)


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        rounds: how often each load has its turn.
        seconds: of a measurement; loads of 90 % get twice that.
        factors: of the permits; the first is that of the whole table, the others get two rows.
        settings: further variables of the listeners with permits.
        work: folder for logs.
    """

    rounds: int
    seconds: float
    factors: Sequence[float]
    settings: Mapping[str, str]
    work: Path


def run(options: Options, cases: Sequence[Case], say: Callable[[str], None]) -> Results:
    """Measures everything; a case that fails is noted, and the others go on."""
    results = Results()
    for case in cases:
        try:
            with ExitStack() as stack:
                _Turns(options, case, results, say, stack).go()
        except CellFailed as error:
            results.failed[case.service] = str(error)
            say(f"{case.service}: not measured: {error}")
    return results


class _Turns:
    """Listeners of one case side by side, taking turns within each round."""

    def __init__(
        self, options: Options, case: Case, results: Results, say: Callable[[str], None], stack: ExitStack
    ) -> None:
        self._options, self._case, self._results, self._say = options, case, results, say
        self._stack = stack

    def go(self) -> None:
        self._say(f"{self._case.service}: starting listeners")
        plain = self._start("default", {})
        known = self._results.known[self._case.service] = self._know(plain)
        limited = [self._limited(factor) for factor in self._options.factors]
        for turn in range(self._options.rounds):
            self._turn(plain, None, BEST, _CLOSED, turn)
            for place, (permits, one) in enumerate(limited):
                for load, plan in self._loads(known, place == 0):
                    self._turn(one, permits, load, plan, turn)
        if self._case.crowd:
            self._without_permits(plain, known)

    def _start(self, name: str, settings: Mapping[str, str]) -> Listener:
        name = f"{self._case.service}-{name}"
        return self._stack.enter_context(listener(self._case.service, settings, self._options.work, name))

    def _limited(self, factor: float) -> tuple[int, Listener]:
        known = self._results.known[self._case.service]
        permits = figures.permits(known.capacity, known.p99_ms, factor)
        settings = {"LISTENER_MAX_REQUESTS": str(permits), **self._options.settings}
        return permits, self._start(str(permits), settings)

    def _know(self, plain: Listener) -> Known:
        """Capacity, and what an answer takes at 90 % of it."""
        plain.measure(replace(_CLOSED, seconds=1.0))  # a first load imports and compiles
        best = plain.measure(replace(_CLOSED, seconds=self._options.seconds)).figures
        capacity = best.goodput
        for _ in range(_TRIES):
            plan = Plan(0, "", rate=capacity * 0.9, seconds=3 * self._options.seconds, seed=1000)
            at_90 = plain.measure(plan)
            if at_90.figures.goodput >= _CARRIED * at_90.figures.offered:
                break
            # the machine is another one than a moment ago, or the generator takes from the listener what it needs
            capacity = at_90.figures.goodput
        else:
            raise CellFailed("no load was carried; the machine has too much else to do")
        self._results.add(Key(self._case.service, None, AT_90), at_90)
        # with 64 at a time nothing waits for long, even where a busy machine made it wait at 90 %
        known = Known(capacity, min(at_90.figures.p99, best.p99))
        self._say(f"{self._case.service}: capacity {known.capacity:,.0f}/s, p99 {known.p99_ms:.0f} ms")
        return known

    def _loads(self, known: Known, everything: bool) -> list[tuple[str, Plan]]:
        loads = [
            (load, Plan(0, "", rate=min(times * known.capacity, FASTEST)))
            for load, times in self._case.multiples.items()
            if everything or load in (AT_90, AT_10)
        ]
        if everything and self._case.crowd:
            crowd = Plan(0, "", busy=500, idle=2000)
            loads += [(BUSY_LATER, crowd), (BUSY_AT_ONCE, replace(crowd, again="at once"))]
        return loads

    def _turn(self, one: Listener, permits: int | None, load: str, plan: Plan, turn: int) -> None:
        seconds = self._options.seconds * (2 if load == AT_90 else 1)  # its p99 differs more from time to time
        row = one.measure(replace(plan, seconds=seconds, seed=turn))
        self._results.add(Key(self._case.service, permits, load), row)
        found = row.figures
        self._say(
            f"{self._case.service}, permits {permits or 'default'}, {load}: {found.goodput:,.0f}/s of "
            f"{found.offered:,.0f}/s, p99 {found.p99:.0f} ms, load average {os.getloadavg()[0]:.1f}"
            f"{', the generator was slow' if found.generator_was_slow else ''}"
        )

    def _without_permits(self, plain: Listener, known: Known) -> None:
        """Once, as it takes long: what waits grows until all permits are taken, and is answered in the end."""
        full = 2048 / known.capacity
        plan = Plan(0, "", rate=min(10 * known.capacity, FASTEST), warm_up=full + 2, patience=2 * full + 5)
        self._turn(plain, None, AT_10, plan, 0)
