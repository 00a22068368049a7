"""The number of calls under way settles where a simulated model works best."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from listener.triton.flight import Flight

SECONDS = 20.0  # of simulated time


@dataclass
class Server:
    """Works on as many calls side by side as it has instances; a call also spends `latency` on the way."""

    instances: int = 1
    overhead: float = 0.005
    per_row: float = 0.0005
    latency: float = 0.0
    noise: float = 0.0
    free: list[float] = field(default_factory=list)

    def call(self, now: float, rows: int, rng: random.Random) -> float:
        """When a call that leaves now comes back."""
        self.free = self.free or [0.0] * self.instances
        work = (self.overhead + self.per_row * rows) * (1 + rng.uniform(-self.noise, self.noise))
        done = max(now + self.latency / 2, heapq.heappop(self.free)) + work
        heapq.heappush(self.free, done)
        return done + self.latency / 2


@dataclass
class Run:
    """What came of a simulation; seconds are those of its second half."""

    last: int
    seconds: dict[int, float]
    rows: int

    def share(self, limit: int) -> float:
        return self.seconds.get(limit, 0.0) / sum(self.seconds.values())


def simulate(
    server_at: Callable[[float], Server], flight: Flight, clients: int, max_rows: int = 32, seed: int = 0
) -> Run:
    """Clients that send their next row about a millisecond after each answer; all that waits leaves together."""
    rng, order = random.Random(seed), itertools.count()
    events = [(rng.uniform(0, 0.002), next(order), 0) for _ in range(clients)]  # rows that return; 0: one row comes
    heapq.heapify(events)
    queued = under_way = total = 0
    spent: defaultdict[int, float] = defaultdict(float)
    now = 0.0
    while now < SECONDS:
        before, limit = now, flight.limit
        now, _, rows = heapq.heappop(events)
        if now > SECONDS / 2:
            spent[limit] += now - before
            total += rows
        if rows:
            flight.returned(now, rows, under_way, queued > 0)
            under_way -= 1
        else:
            queued += 1
        for _ in range(rows):
            heapq.heappush(events, (now + rng.expovariate(1000), next(order), 0))
        while queued and under_way < flight.limit:
            leaving = min(queued, max_rows)
            queued, under_way = queued - leaving, under_way + 1
            heapq.heappush(events, (server_at(now).call(now, leaving, rng), next(order), leaving))
    return Run(flight.limit, spent, total)


def settled(server: Server, clients: int = 64, max_rows: int = 32, seed: int = 0, most: int = 8) -> Run:
    fresh = replace(server, free=[])
    return simulate(lambda now: fresh, Flight(most), clients, max_rows, seed)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize(
    ("instances", "latency", "clients", "max_rows", "expected"),
    [
        (1, 0.0, 32, 32, 1),
        (1, 0.0, 64, 8, 1),
        (2, 0.0, 64, 32, 2),
        (4, 0.0, 64, 8, 4),
        (3, 0.0, 96, 8, 4),  # the next power of two
        (8, 0.0, 96, 8, 8),
        (64, 0.0, 96, 8, 8),  # no more than the most
        (64, 0.02, 64, 4, 8),  # far away, and calls are small
    ],
)
def test_it_settles_at_what_the_model_can_do_at_a_time(
    instances: int, latency: float, clients: int, max_rows: int, expected: int, noise: float
) -> None:
    for seed in range(2):
        run = settled(Server(instances, latency=latency, noise=noise), clients, max_rows, seed)
        assert run.share(expected) > 0.9


@pytest.mark.parametrize("server", [Server(1), Server(1, noise=0.2), Server(1, 0.001, 0.001, noise=0.2)])
def test_trials_cost_little(server: Server) -> None:
    assert settled(server, 32).rows > 0.98 * settled(server, 32, most=1).rows


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1), (2, 8), (8, 1)])
def test_it_follows_a_model_that_becomes_another(first: int, then: int) -> None:
    servers = [Server(first, noise=0.1), Server(then, noise=0.1)]
    flight = Flight()
    seen: Counter[int] = Counter()

    def server_at(now: float) -> Server:
        if 2 < now < 4:
            seen[flight.limit] += 1
        return servers[now >= 4]

    run = simulate(server_at, flight, 96, 8)
    assert seen.most_common(1)[0][0] == first
    assert max(run.seconds, key=run.share) == then


def test_one_client_changes_nothing() -> None:
    assert settled(Server(4), clients=1).seconds.keys() == {1}


def fed(flight: Flight, calls: Sequence[tuple[float, int, int, bool]]) -> list[int]:
    """The limits after each call that came back so many seconds after the one before."""
    now, limits = 0.0, []
    for seconds, rows, under_way, waiting in calls:
        now += seconds
        flight.returned(now, rows, under_way, waiting)
        limits.append(flight.limit)
    return limits


def test_it_begins_with_one_call_at_a_time() -> None:
    assert Flight().limit == 1


@pytest.mark.parametrize(
    ("under_way", "waiting", "moves"),
    [
        (1, True, True),  # something waits: another place may help
        (1, False, False),  # nothing does
    ],
)
def test_the_limit_moves_only_while_something_waits(under_way: int, waiting: bool, moves: bool) -> None:
    limits = fed(Flight(), [(0.01, 4, under_way, waiting)] * 1000)
    assert (max(limits) > 1) == moves


def test_time_with_nothing_to_do_does_not_count() -> None:
    busy: list[tuple[float, int, int, bool]] = [(0.01, 4, 1, True)] * 9 + [(0.01, 4, 1, False)]
    idle: list[tuple[float, int, int, bool]] = [(3600.0, 4, 1, True), *busy[1:]]
    assert fed(Flight(), busy * 30) == fed(Flight(), idle * 30)


def test_it_stays_within_its_bounds() -> None:
    rng = random.Random(1)
    calls = [(rng.expovariate(100), rng.randint(0, 32), rng.randint(1, 8), rng.random() < 0.8) for _ in range(20_000)]
    assert set(fed(Flight(most=6), calls)) <= set(range(1, 7))
    assert set(fed(Flight(most=1), calls)) == {1}


def test_calls_that_all_fail_do_no_harm() -> None:
    assert fed(Flight(), [(0.001, 0, 1, True)] * 2000)[-1] in (1, 2)


def test_a_clock_that_stands_still_does_no_harm() -> None:
    assert fed(Flight(), [(0.0, 1, 1, True)] * 500)[-1] == 1
