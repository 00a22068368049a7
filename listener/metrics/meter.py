"""What one worker counts and measures, as cheaply as it can.

A request costs an addition to its counter. The time of one among several becomes a row of numbers, and four times a
second the rows become histograms, all at once; so in a scrape another worker's phases may be a quarter of a second
behind. Counters never are.
"""

from __future__ import annotations

import asyncio
import math
import random
from array import array
from collections.abc import Callable
from time import monotonic

from listener.metrics.segment import Seat
from listener.metrics.times import PHASES, Times

#: Upper ends of the buckets, in seconds.
BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
#: Numbers of a histogram: its buckets, the one beyond them, and the sum.
HISTOGRAM = len(BUCKETS) + 2
#: Columns of a request's row before its weight. The last one is the time of all of it.
_COLUMNS = (*PHASES, "")
#: Seconds between two looks at gauges, lag and rows.
PERIOD = 0.25
#: Requests a second whose time is measured; it takes 20 us, and more of them would cost the others more than it tells.
TIMED = 200
#: Measured ones between two looks from which on the next ones are rarer: a load that has just begun is not known yet.
_MANY = round(TIMED * PERIOD)

REQUESTS, PHASE, TOTAL = "listener_requests_total", "listener_phase_seconds", "listener_request_seconds"
CALLS, CALL_REQUESTS, CALL_ROWS = "listener_calls_total", "listener_call_requests_total", "listener_call_rows_total"
MEMORY = "listener_shared_memory_calls_total"
LAG, LAG_MAX = "listener_loop_lag_seconds", "listener_loop_lag_max_seconds"


class Meter:
    """Counts for one worker. To be used on its loop.

    Args:
        seat: where the numbers are kept.
    """

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._numbers = seat.numbers
        self._requests: dict[tuple[str, str, int], int] = {}
        self._rows: dict[str, array[float]] = {}  # of each request its phases, -1 = it had none, and its weight
        self._untimed, self._gap, self._stride = 0, 1, 1  # since the last one, until the next one, on the average
        self._timed = 0  # since the last tick, or since the stride became longer
        self._chance = random.Random()
        self._came = 0  # up to the last timed one, since the last tick
        self._gauges: list[tuple[int, Callable[[], float]]] = []
        self._calls: dict[str, tuple[int, int, int]] = {}
        self._lag = seat.series(LAG, (), HISTOGRAM)
        self._lag_max = seat.series(LAG_MAX, ())
        self._worst = [0.0, 0.0]  # lag in the present minute and the one before
        self._minute = 0
        self._timer: asyncio.TimerHandle | None = None

    def times(self) -> Times | None:
        """What the next request's time is measured with; None = it is not.

        Below `TIMED` requests a second that is every one. Above, it is one among several, whose number is drawn anew
        each time so that it keeps step with nothing, and it stands for all since the one before.
        """
        self._untimed += 1
        if self._untimed < self._gap:
            return None
        made = Times(self._untimed)
        self._came += self._untimed
        self._timed += 1
        if self._timed >= _MANY:
            self._timed, self._stride = 0, max(2, 2 * self._stride)
        self._untimed, self._gap = 0, 1 if self._stride < 2 else self._chance.randrange(1, 2 * self._stride)
        return made

    def request(self, route: str, branch: str, model: str, status: int) -> None:
        """One more request that has left the gate.

        Args:
            route: chosen by it; "" = it did not come that far.
            branch: the step that answered; "" = none did, "several" = more than one.
            model: which that step calls; likewise.
            status: that it is answered with; 499 = its client left.
        """
        place = self._requests.get((route, branch, status))
        if place is None:
            place = self.seat.series(REQUESTS, (route, model, branch, str(status)))
            self._requests[route, branch, status] = place
        self._numbers[place] += 1.0

    def measured(self, times: Times, route: str, entered: float, begun: float) -> None:
        """Where the time of a request went that has been answered.

        Args:
            times: of it.
            route: chosen by it.
            entered: when it came.
            begun: when it got its permit.
        """
        if not times.replied:
            self._untimed += int(times.weight)  # the next one stands for it as well
            self._came -= int(times.weight)
            return
        now, row = monotonic(), self._rows.get(route)
        if row is None:
            row = self._rows[route] = array("d")
        row.extend((*times.phases(begun - entered, now), now - entered, times.weight))

    def call(self, model: str, requests: int, rows: int) -> None:
        """A call to Triton has been answered."""
        places = self._calls.get(model)
        if places is None:
            first, second, third = (self.seat.series(name, (model,)) for name in (CALLS, CALL_REQUESTS, CALL_ROWS))
            places = self._calls[model] = first, second, third
        numbers = self._numbers
        numbers[places[0]] += 1.0
        numbers[places[1]] += requests
        numbers[places[2]] += rows

    def count(self, family: str, *labels: str) -> None:
        """One more of something that is not done a thousand times a second."""
        self._numbers[self.seat.series(family, labels)] += 1.0

    def gauge(self, family: str, read: Callable[[], float], *labels: str) -> None:
        """Something that has a size; `read` is asked for it again and again."""
        self._gauges.append((self.seat.series(family, labels), read))

    def start(self) -> None:
        """Begins to look at gauges, and at how late the loop is."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PERIOD, self._tick, loop, loop.time() + PERIOD)

    def stop(self) -> None:
        """Ends that, with all that is left in its place."""
        if self._timer:
            self._timer.cancel()
        self.flush()
        for place, _ in self._gauges:
            self._numbers[place] = 0.0

    def look(self) -> None:
        """Brings everything up to now."""
        self.flush()
        for place, read in self._gauges:
            self._numbers[place] = read()

    def flush(self) -> None:
        """Makes histograms of the rows."""
        for route, row in self._rows.items():
            if row:
                self._add(route, row)
                del row[:]

    def _add(self, route: str, row: array[float]) -> None:
        import numpy as np  # which is there once there are rows

        *columns, weights = np.frombuffer(row).reshape(-1, len(_COLUMNS) + 1).T
        edges = np.array(BUCKETS)
        for phase, column in zip(_COLUMNS, columns, strict=True):
            there = column >= 0.0
            took, weight = column[there], weights[there]
            if not len(took):
                continue
            family, labels = (PHASE, (route, phase)) if phase else (TOTAL, (route,))
            place = self.seat.series(family, labels, HISTOGRAM)
            counts = np.bincount(np.searchsorted(edges, took), weight, len(BUCKETS) + 1)
            target = np.asarray(self._numbers[place : place + HISTOGRAM])  # the same memory
            target[:-1] += counts
            target[-1] += took @ weight

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._stride, self._came, self._timed = round(self._came / (now - due + PERIOD) / TIMED), 0, 0
        self._late(max(0.0, now - due), now)
        self.look()
        self._timer = loop.call_later(PERIOD, self._tick, loop, loop.time() + PERIOD)

    def _late(self, seconds: float, now: float) -> None:
        bucket = next((index for index, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))
        self._numbers[self._lag + bucket] += 1.0
        self._numbers[self._lag + HISTOGRAM - 1] += seconds
        minute = math.floor(now / 60)
        if minute != self._minute:
            self._minute, self._worst = minute, [0.0, self._worst[0]]
        self._worst[0] = max(self._worst[0], seconds)
        self._numbers[self._lag_max] = max(self._worst)
