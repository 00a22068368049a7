"""What is looked at beside the answers: the target's metrics, and this machine's CPUs where the target is on it."""

from __future__ import annotations

import math
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from listener import forms
from listener.errors import ConfigError
from listener.tools.load import exposition
from listener.tools.load.exposition import Between, Scrape

#: The image's port of /metrics, which is tried where none is named.
PORT = 8003
_PATIENCE = 2.0
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Seen:
    """What was seen during a step.

    Attributes:
        metrics: by the target's metrics.
        cpu: share of what `Observer.cpu_of` says; NaN: unknown.
    """

    metrics: Between = field(default_factory=Between)
    cpu: float = math.nan


class Observer:
    """Looks at the beginning and at the end of each step.

    Attributes:
        metrics: their URL; "" = there are none.
        is_here: whether the target is on this machine.
        cpu_of: whose CPU use `Seen.cpu` is, in words; "" = nobody's.

    Args:
        url: of predictions.
        metrics: of the metrics; "" = the usual place is tried.

    Raises:
        ConfigError: the metrics that were named do not answer.
    """

    def __init__(self, url: str, metrics: str) -> None:
        self.metrics = metrics or _usual(url)
        self.is_here, self.cpu_of = forms.is_here(url), ""
        self._before: tuple[float, Scrape, tuple[int, int]] = (0.0, {}, (0, 0))
        if metrics and not _scrape(metrics):
            raise ConfigError(f"--metrics {metrics}: no metrics there")

    def begin(self) -> None:
        self._before = self._look()

    def end(self) -> Seen:
        """What was since the beginning."""
        (at, scrape, (busy, whole)), now = self._before, self._look()
        found = exposition.between(scrape, now[1], now[0] - at) if self.metrics else Between()
        if not math.isnan(found.processes):
            self.cpu_of, cpu = "CPUs that the target's processes use", found.processes
        elif self.is_here and now[2][1] > whole:
            self.cpu_of, cpu = (
                "this machine, the generator and all else included",
                (now[2][0] - busy) / (now[2][1] - whole),
            )
        else:
            self.cpu_of, cpu = ("the target's machine, as Triton sees it" if self.metrics else ""), found.machine
        return Seen(found, cpu)

    def _look(self) -> tuple[float, Scrape, tuple[int, int]]:
        return time.monotonic(), _scrape(self.metrics) if self.metrics else {}, _jiffies()


def _usual(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    usual = f"http://{f'[{host}]' if ':' in host else host}:{PORT}/metrics"
    return usual if parts.scheme == "http" and _scrape(usual) else ""


def _scrape(url: str) -> Scrape:
    """Nothing where nobody answers in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if forms.is_here(url) else None))
    try:
        with opener.open(url, timeout=_PATIENCE) as response:
            return exposition.parse(response.read().decode("utf-8", "replace"))
    except (OSError, ValueError):
        return {}


def _jiffies() -> tuple[int, int]:
    """Of all CPUs, busy and in all (proc(5)); zeros where the system does not tell."""
    try:
        fields = [int(one) for one in _STAT.read_text().partition("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return sum(fields) - fields[3] - fields[4], sum(fields)


def as_json(seen: Seen) -> dict[str, Any]:
    """For the file of a run."""
    return {**seen.metrics.__dict__, "cpu": seen.cpu}


def of_json(document: dict[str, Any]) -> Seen:
    """The inverse of `as_json`.

    Raises:
        TypeError: it has other fields.
    """
    rest = {name: value for name, value in document.items() if name != "cpu"}
    return Seen(Between(**rest), document["cpu"])
