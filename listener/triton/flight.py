"""How many calls to a model are under way at a time: as few as keep it busy, found by trying. Pure.

With one call at a time the most requests travel together, which is best where the model works on one call after the
other. Where it works on several, or where much of a call's time is spent on the way, two or more must overlap. Nothing
tells which it is, so the limit is doubled or halved for a while, and kept if that was better.

A trial is three windows: the limit as it is, the limit to try, and the first limit again. The try is held against the
mean of its neighbours, so that a load that grows or shrinks meanwhile favours neither.
"""

from __future__ import annotations

import enum

_UP_GAIN = 1.10  # a higher limit must give this much more: it means smaller batches, and more waiting inside Triton
_DOWN_GAIN = 0.95  # a lower one may give this much less
#: Calls of a window, for each call at a time and one more. Calls whose times vary by 20 % make 3 % of noise of it.
_CALLS = 8
_WINDOW = 0.05  # seconds that a window has at least, for very short calls
#: Windows between two trials; doubled after each that changed nothing. With the longest, trials are 3 % of the windows
#: and cost half their rate at worst.
_SHORTEST, _LONGEST = 1, 64
#: The rate of two windows in a row that says that load or model are others than at the last trial, and how long the
#: next trial waits then: shorter would let a load that is never the same cost too much.
_OTHER = 1.3
_AFTER_OTHER = 4


class _Phase(enum.Enum):
    """What a window is for."""

    PAUSE = "pause"
    BEFORE = "before"
    TRY = "try"
    AFTER = "after"


class _Window:
    """What some calls in a row did under one limit.

    Args:
        limit: in force.
        skip: calls that come back first and do not count, as they left under another limit.
    """

    def __init__(self, limit: int, skip: int) -> None:
        self._limit, self._skip = limit, skip
        self._rows, self._seconds = 0, 0.0
        self._calls = self._waiting = self._overlapping = 0

    def add(self, seconds: float, rows: int, under_way: int, waiting: bool) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._rows += rows
        self._seconds += seconds
        self._calls += 1
        self._waiting += waiting
        self._overlapping += under_way > self._limit // 2

    @property
    def full(self) -> bool:
        return self._calls >= _CALLS * (self._limit + 1) and self._seconds >= _WINDOW

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self._rows / self._seconds

    @property
    def wants_more(self) -> bool:
        """Whether a higher limit could have made a difference: something was mostly waiting."""
        return self._waiting * 2 > self._calls

    @property
    def needs_it(self) -> bool:
        """Whether half the limit would have made a difference: more were mostly under way."""
        return self._overlapping * 2 > self._calls


class Flight:
    """The limit of one model's calls under way, from 1 up to `most`.

    Attributes:
        limit: how many may be under way now.
    """

    def __init__(self, most: int = 8) -> None:
        self.limit = 1
        self._most = most
        self._base = 1  # the limit when no other is tried
        self._tried = 1  # the other one
        self._phase, self._window = _Phase.PAUSE, _Window(1, 0)
        self._rates = [0.0, 0.0]  # of the windows before and during the try
        self._up = True  # where the next trial goes
        self._pause, self._left = _SHORTEST, 0  # in windows: of this pause, and what is left of it
        self._usual, self._others = 0.0, 0  # the rate at the last trial, and windows since that were unlike it
        self._since: float | None = None  # when the call before came back; none if nothing was left to do then

    def returned(self, now: float, rows: int, under_way: int, waiting: bool) -> None:
        """Learns from a call that came back. Time in which there was nothing to do does not count.

        Args:
            now: seconds on a monotonic clock.
            rows: that the call brought; 0 for one that failed.
            under_way: calls that were, this one included.
            waiting: whether something waits to leave.
        """
        since, self._since = self._since, now if waiting or under_way > 1 else None
        if since is None:
            return
        self._window.add(now - since, rows, under_way, waiting)
        if self._window.full:
            self._next(self._window)

    def _next(self, window: _Window) -> None:
        """Takes the step that a full window allows."""
        match self._phase:
            case _Phase.PAUSE:
                self._watch(window.rate)
                self._left -= 1
                self._enter(_Phase.PAUSE if self._left > 0 else _Phase.BEFORE, self._base)
            case _Phase.BEFORE:
                self._rates[0] = window.rate
                self._begin_trial(window)
            case _Phase.TRY:
                self._rates[1] = window.rate
                if self._up and not window.needs_it:
                    self._end_trial(False)  # there was not enough to do for that many
                else:
                    self._enter(_Phase.AFTER, self._base)
            case _Phase.AFTER:
                self._judge(window)

    def _begin_trial(self, window: _Window) -> None:
        up, down = window.wants_more and self._base < self._most, window.needs_it and self._base > 1
        if not (up or down):
            self._enter(_Phase.BEFORE, self._base)  # the limit does not matter now
            return
        self._up = up and (self._up or not down)
        self._tried = min(self._base * 2, self._most) if self._up else self._base // 2
        self._enter(_Phase.TRY, self._tried)

    def _judge(self, after: _Window) -> None:
        before, tried = self._rates
        self._usual = after.rate
        neighbours = (before + after.rate) / 2
        if self._up:
            self._end_trial(after.wants_more and tried > neighbours * _UP_GAIN)
        else:
            self._end_trial(tried >= neighbours * _DOWN_GAIN)

    def _end_trial(self, better: bool) -> None:
        if better:
            self._base, self._pause, self._left = self._tried, _SHORTEST, 0
            self._usual = 0.0
        else:
            self._up = not self._up
            self._left = self._pause
            self._pause = min(self._pause * 2, _LONGEST)
        self._others = 0
        self._enter(_Phase.PAUSE if self._left else _Phase.BEFORE, self._base)

    def _watch(self, rate: float) -> None:
        """Cuts the pause short when load or model are not what they were."""
        if not self._usual:
            self._usual = rate
        unlike = not self._usual / _OTHER < rate < self._usual * _OTHER
        self._others = self._others + 1 if unlike else 0
        if self._others >= 2:
            self._usual, self._others = rate, 0
            self._pause = min(self._pause, _AFTER_OTHER)
            self._left = min(self._left, _AFTER_OTHER)

    def _enter(self, phase: _Phase, limit: int) -> None:
        skip = 2 * max(limit, self.limit) if limit != self.limit else 0
        self.limit, self._phase, self._window = limit, phase, _Window(limit, skip)
