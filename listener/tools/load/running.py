"""A run: the process that asks, which rate it is told next, and what is looked at meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from listener import __version__
from listener.errors import ConfigError
from listener.tools.load import asked, orders, outcome, search
from listener.tools.load.bodies import Bodies
from listener.tools.load.figures import Figures
from listener.tools.load.observing import Observer, Seen
from listener.tools.load.orders import Order, Target
from listener.tools.load.outcome import Outcome, Step
from listener.tools.load.search import Objective
from listener.tools.load.shown import Shown

#: A search has so many steps; seconds of each; the part of it that does not count, and its bounds.
_STEPS, _SHORTEST, _LONGEST, _WARM_UP, _LEAST_WARM_UP, _MOST_WARM_UP = 13, 1.0, 15.0, 0.2, 0.2, 3.0
#: So many steps before the end the rate that was found is looked at for longer.
_SURE = 3.4
#: Seconds for what a step has beside its time, and for the process to start and to end.
_BETWEEN, _PATIENCE = 0.3, 20.0
#: The first rate of a search, as a part of what one connection could have, and at most.
_FIRST, _FASTEST_FIRST = 0.5, 500.0
#: Answers that are so much later than the objective end a step, but for half a second.
_LATE, _LEAST_LATE = 4.0, 0.5
#: Parts of a rate that is held: not shorter than half a second, and not more.
_SLICES = 60


@dataclass(frozen=True)
class Wanted:
    """What is to be measured.

    Attributes:
        url: of predictions.
        bodies: that are sent.
        objective: to be kept.
        rate: requests per second; None: look for the highest one.
        duration: seconds of the whole run.
        headers: of requests.
        connections: at most.
        timeout: seconds for a request.
    """

    url: str
    bodies: Bodies
    objective: Objective
    rate: float | None
    duration: float
    headers: Mapping[str, str]
    connections: int
    timeout: float


class Asker:
    """The process that asks (generator.py).

    Raises:
        ConfigError: it cannot be started.
    """

    def __init__(self, target: Target) -> None:
        argv = [sys.executable, "-m", "listener.tools.load.generator"]
        # in a session of its own: a terminal's Ctrl-C is for us, and the report is written after it
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._tell(json.dumps(asdict(target)))
        if self._hear()["says"] != orders.READY:
            raise ConfigError("the generator does not start")

    def events(self, order: Order) -> Iterator[dict[str, Any]]:
        """What it says of one step; the last event is DONE or FAILED."""
        self._tell(json.dumps(asdict(order)))
        said: dict[str, Any] = {"says": ""}
        while said["says"] not in (orders.DONE, orders.FAILED):
            said = self._hear()
            yield said

    def stop(self) -> dict[str, Any]:
        """Ends the step under way; its last event."""
        self._tell("stop")
        said = self._hear()
        while said["says"] not in (orders.DONE, orders.FAILED):
            said = self._hear()
        return said

    def close(self) -> None:
        """It ends with its stdin; a deaf one is killed."""
        try:
            self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # which hearing tells
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"says": orders.FAILED, "why": "the generator's process has ended"}


@dataclass
class _Found:
    """What there is so far."""

    steps: list[Step] = field(default_factory=list)
    slices: list[Figures] = field(default_factory=list)
    failed: str = ""
    interrupted: bool = False


class Run:
    """One run.

    Args:
        wanted: to be measured.
        observer: looks at the target meanwhile.
        token: headers that say who asks.
        shown: how far it is.
    """

    def __init__(self, wanted: Wanted, observer: Observer, token: asked.Token, shown: Shown) -> None:
        self._wanted, self._observer, self._token, self._shown = wanted, observer, token, shown
        self._found = _Found()
        self._under_way: tuple[float, Seen | None] | None = None

    def go(self, alone: float) -> Outcome:
        """Measures; Ctrl-C ends it with what there is.

        Args:
            alone: seconds of a request that is alone.

        Raises:
            ConfigError: the generator cannot be started.
        """
        wanted = self._wanted
        started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        asker = Asker(Target(wanted.url, wanted.bodies.texts, wanted.connections, wanted.timeout))
        self._end = time.monotonic() + wanted.duration
        try:
            self._measure(asker, alone)
        except KeyboardInterrupt:
            self._found.interrupted = True
            self._rest(asker)
        finally:
            asker.close()
            self._shown.close()
        return Outcome(
            url=outcome.without_query(wanted.url),
            bodies=wanted.bodies.words,
            started=started,
            objective=wanted.objective,
            held=wanted.rate is not None,
            steps=self._found.steps,
            slices=self._found.slices,
            where=_where(self._observer),
            cpu_of=self._observer.cpu_of,
            metrics=self._observer.metrics,
            is_here=self._observer.is_here,
            interrupted=self._found.interrupted,
            failed=self._found.failed,
        )

    def _measure(self, asker: Asker, alone: float) -> None:
        wanted = self._wanted
        if wanted.rate is not None:
            warm_up = min(_MOST_WARM_UP, wanted.duration * 0.1)
            seconds = max(0.1, wanted.duration - warm_up - _BETWEEN)
            slices = max(1, min(_SLICES, int(seconds / 0.5)))
            self._step(asker, Order(wanted.rate, seconds, warm_up, patience=wanted.timeout, slices=slices))
            return
        first = search.rounded(max(1.0, min(_FIRST / alone, _FASTEST_FIRST)))
        while order := plan(self._left, wanted.duration, wanted.objective, self._found.steps, first):
            if not self._step(asker, order):
                return

    @property
    def _left(self) -> float:
        return self._end - time.monotonic()

    def _step(self, asker: Asker, order: Order) -> bool:
        """Takes a step; False: it could not be."""
        number = len(self._found.steps) + 1
        self._shown.step(number, order.rate, self._left)
        try:
            sent = {**self._wanted.headers, **self._token.headers()}
        except ConfigError as error:
            self._found.failed = error.mistakes[0]
            return False
        self._under_way = (order.rate, None)
        for event in asker.events(replace(order, headers=sent, seed=number)):  # other arrivals at each step
            self._heard(event, order.rate)
        return not self._found.failed

    def _heard(self, event: Mapping[str, Any], rate: float) -> None:
        match event["says"]:
            case orders.BEGINS:
                self._observer.begin()
            case orders.NOW:
                self._shown.now(event["p50"], event["p99"], self._left)
            case orders.ENDS:
                self._under_way = (rate, self._observer.end())
            case orders.FAILED:
                self._found.failed = event["why"]
            case orders.DONE:
                self._done(rate, event)

    def _done(self, rate: float, event: Mapping[str, Any]) -> None:
        seen = self._under_way[1] if self._under_way and self._under_way[1] else Seen()
        self._under_way = None
        step = Step(rate, Figures(**event["figures"]), seen)
        if not step.figures.requests:
            return  # interrupted before anything was to leave
        self._found.steps.append(step)
        self._found.slices = [Figures(**one) for one in event["slices"]]
        self._shown.done(step, self._wanted.objective.misses(step.figures))

    def _rest(self, asker: Asker) -> None:
        """The step under way, as far as it came: a rate that is held is told, one of a search would say too little."""
        if self._under_way and self._wanted.rate is not None:
            self._heard(asker.stop(), self._under_way[0])


def plan(left: float, duration: float, objective: Objective, steps: Sequence[Step], first: float) -> Order | None:
    """The next step of a search; None: there is nothing more to find out, or no time for it.

    Args:
        left: seconds.
        duration: of the whole run.
        objective: to be kept.
        steps: so far.
        first: rate.
    """
    whole = max(_SHORTEST, min(_LONGEST, duration / _STEPS))
    tried = outcome.tried(steps, objective)
    rate, (low, _) = search.next_rate(tried, first), search.bracket(tried)
    again = [one.rate for place, one in enumerate(tried) if any(b.rate == one.rate and b.kept for b in tried[:place])]
    if steps and left < whole + _BETWEEN:
        return None
    if low and (left < _SURE * whole or rate is None):
        if again and again[-1] == low:
            return None
        if not again:  # a longer look at what was found, with time for another rate if it turns out to be too much
            rest = left - _BETWEEN
            rate, whole = low, max(rest - whole - _BETWEEN, whole) if rest > 2 * whole else rest
    if rate is None:
        return None
    warm_up = max(_LEAST_WARM_UP, min(_MOST_WARM_UP, whole * _WARM_UP))
    late = max(_LATE * objective.p99 / 1e3, _LEAST_LATE)
    return Order(rate, whole - warm_up, warm_up, late=late, patience=late)


def _where(observer: Observer) -> dict[str, str]:
    """What ran where, for the report."""
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, load average {os.getloadavg()[0]:.1f}"
    return {
        "Generator": f"listener {__version__}, Python {platform.python_version()}, one process, {machine}",
        "Target": "on the same machine" if observer.is_here else "elsewhere",
        "Metrics": observer.metrics or "none",
    }
