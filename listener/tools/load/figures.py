"""What a step comes to: requests at one rate, for a while."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from listener.tools.load.arrivals import percentile

#: The code of a right answer; errors have the place of their name, plus 1.
_RIGHT = 0


@dataclass(frozen=True)
class Figures:
    """Times are in milliseconds, rates in requests per second.

    Attributes:
        seconds: that the window lasted, without the warm-up.
        requests: that were to leave in it.
        offered: the same per second.
        achieved: right answers that came in it, per second.
        mean, p50, p90, p99, p999, longest: of right answers to its requests, from when these were to leave.
        errors: its requests without a right answer, by kind: `status 503`, `timeout`, `connection closed`, ...
        lag_p99: by which requests left late.
        cpu: the generator's share of one CPU.
        waited: requests of the step that found no connection left.
        connections: at its end.
        sent, right: requests of the step, the warm-up included, and those with a right answer.
        cut: it ended early, as answers were much later than the objective.
        at: when it began, in seconds from the first step.
    """

    seconds: float
    requests: int
    offered: float
    achieved: float
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    longest: float
    errors: Mapping[str, int] = field(default_factory=dict)
    lag_p99: float = math.nan
    cpu: float = math.nan
    waited: int = 0
    connections: int = 0
    sent: int = 0
    right: int = 0
    cut: bool = False
    at: float = 0.0

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def error_rate(self) -> float:
        """Share of the requests without a right answer."""
        return self.failed / self.requests if self.requests else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Record:
    """The requests of one step, in arrays: a run may have millions. Times are seconds from its start."""

    def __init__(self) -> None:
        self._intended, self._answered, self._kinds = array("d"), array("d"), array("H")
        self._names: list[str] = []
        self.lags = array("f")

    def add(self, intended: float, answered: float, error: str = "") -> None:
        """One request has come to its end; `error` names what it got instead of a right answer."""
        if error and error not in self._names:
            self._names.append(error)
        self._intended.append(intended)
        self._answered.append(answered)
        self._kinds.append(self._names.index(error) + 1 if error else _RIGHT)

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def right(self) -> int:
        return self._kinds.count(_RIGHT)

    def latest(self, since: float, most: int = 1000) -> list[float]:
        """Sorted milliseconds of the last right answers that came after a moment."""
        ends = zip(self._intended[-most:], self._answered[-most:], self._kinds[-most:], strict=True)
        return sorted((end - begin) * 1e3 for begin, end, kind in ends if kind == _RIGHT and end >= since)

    def window(self, begin: float, end: float) -> Figures:
        """What the requests come to that were to leave from `begin` to `end`."""
        intended, answered = np.frombuffer(self._intended), np.frombuffer(self._answered)
        kinds = np.frombuffer(self._kinds, np.uint16)
        inside, right = (intended >= begin) & (intended < end), kinds == _RIGHT
        came = right & (answered >= begin) & (answered < end)
        took = np.sort((answered - intended)[inside & right]) * 1e3
        p50, p90, p99, p999, longest = (float(percentile(took, share)) for share in (0.5, 0.9, 0.99, 0.999, 1.0))
        return Figures(
            seconds=end - begin,
            requests=int(inside.sum()),
            offered=float(inside.sum()) / (end - begin),
            achieved=float(came.sum()) / (end - begin),
            mean=float(took.mean()) if len(took) else math.nan,
            p50=p50,
            p90=p90,
            p99=p99,
            p999=p999,
            longest=longest,
            errors=self._errors(kinds[inside]),
            lag_p99=self._lag(0.99),
            sent=len(kinds),
            right=int(right.sum()),
        )

    def _lag(self, share: float) -> float:
        """As `percentile`, in milliseconds; without sorting millions for each window."""
        if not self.lags:
            return math.nan
        place = max(0, math.ceil(share * len(self.lags)) - 1)
        return float(np.partition(np.frombuffer(self.lags, np.float32), place)[place]) * 1e3

    def _errors(self, kinds: np.ndarray[Any, Any]) -> dict[str, int]:
        counts = {name: int((kinds == code).sum()) for code, name in enumerate(self._names, 1)}
        return {name: count for name, count in sorted(counts.items()) if count}
