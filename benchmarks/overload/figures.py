"""The arithmetic of an overload: what an answer is, and what a window of requests comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from listener.tools.load.arrivals import percentile

#: Outcomes that are no status of HTTP.
RIGHT, WRONG, CLOSED, UNANSWERED = "right", "wrong", "closed", "unanswered"
#: A refusal has one of these; any other status, or a 200 with other numbers, is a wrong answer.
REFUSALS = frozenset({429, 503, 504})
#: Milliseconds by which the generator may be behind its plan in the slowest hundredth, and the part of a CPU that it
#: may take. Beyond, it was what was slow.
LAG, BUSY = 10.0, 0.95


def outcome(status: int, right: bool) -> str:
    """What came, for the counts.

    Args:
        status: of HTTP.
        right: whether the body is what the request has to get: its numbers, or the sentence of a refusal.
    """
    if not right:
        return WRONG
    if status == 200:
        return RIGHT
    return str(status) if status in REFUSALS else WRONG


class Try(NamedTuple):
    """One request: when it should have left, when its answer came, seconds from the start, and what that was.

    Attributes:
        first: when the first try of this question should have left; other than `intended` after a refusal.
    """

    intended: float
    answered: float
    outcome: str
    first: float


@dataclass(frozen=True)
class Figures:
    """What a window comes to: rates per second, times in milliseconds.

    Attributes:
        offered: requests that should have left.
        goodput: right answers that came.
        refused: refusals by status, of the requests that should have left.
        wrong: wrong answers, connections closed and requests without an answer; a number, of the whole run.
        p50, p99, longest: of the right answers, from the moment at which the request should have left.
        whole_p99: the same from the first try on, for clients that try again.
        refusal_p99: of refusals.
        lag_p99: by which the generator was late.
        generator_cpu: its share of one CPU.
        waited: requests for which the generator had no connection left.
        gone: connections that the listener closed while nothing was on them.
        right_in_all, refused_in_all: in the whole run, the warm-up included.
    """

    offered: float
    goodput: float
    refused: dict[str, float]
    wrong: dict[str, int]
    p50: float
    p99: float
    longest: float
    whole_p99: float
    refusal_p99: float
    lag_p99: float = math.nan
    generator_cpu: float = math.nan
    waited: int = 0
    gone: int = 0
    right_in_all: int = 0
    refused_in_all: int = 0

    @property
    def generator_was_slow(self) -> bool:
        """Whether the row says more of the generator than of the listener."""
        return self.lag_p99 > LAG or self.generator_cpu > BUSY or self.waited > 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "generator_was_slow": self.generator_was_slow}


@dataclass
class Window:
    """Collects the requests of a run and says what those of its window come to.

    Args:
        begin, end: seconds from the start.
    """

    begin: float
    end: float
    tries: list[Try] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # seconds

    def figures(self, generator_cpu: float = math.nan, waited: int = 0, gone: int = 0) -> Figures:
        seconds = self.end - self.begin
        inside = [one for one in self.tries if self.begin <= one.intended < self.end]
        right = [one for one in inside if one.outcome == RIGHT]
        refused = [one for one in inside if one.outcome.isdigit()]
        came = sum(one.outcome == RIGHT and self.begin <= one.answered < self.end for one in self.tries)
        took = _sorted(one.answered - one.intended for one in right)
        return Figures(
            offered=len(inside) / seconds,
            goodput=came / seconds,
            refused={status: count / seconds for status, count in _counts(refused).items()},
            wrong=_counts(one for one in self.tries if one.outcome in (WRONG, CLOSED, UNANSWERED)),
            p50=percentile(took, 0.5),
            p99=percentile(took, 0.99),
            longest=percentile(took, 1),
            whole_p99=percentile(_sorted(one.answered - one.first for one in right), 0.99),
            refusal_p99=percentile(_sorted(one.answered - one.intended for one in refused), 0.99),
            lag_p99=percentile(_sorted(self.lags), 0.99),
            generator_cpu=generator_cpu,
            waited=waited,
            gone=gone,
            right_in_all=sum(one.outcome == RIGHT for one in self.tries),
            refused_in_all=sum(one.outcome.isdigit() for one in self.tries),
        )


def permits(capacity: float, p99_ms: float, factor: float) -> int:
    """LISTENER_MAX_REQUESTS by Little's law: what is inside = rate x time.

    Args:
        capacity: right answers per second at most.
        p99_ms: of a load that the listener carries.
        factor: 0.8 where LISTENER_QUEUE puts a quarter on top.
    """
    return max(1, round(capacity * p99_ms / 1e3 * factor))


def _counts(tries: Iterable[Try]) -> dict[str, int]:
    return dict(sorted(Counter(one.outcome for one in tries).items()))


def _sorted(seconds: Iterable[float]) -> list[float]:
    """In milliseconds."""
    return sorted(one * 1e3 for one in seconds)
