"""All workers' numbers as Prometheus' text.

Counters and histograms are sums over every seat, of workers that have ended as well; gauges are sums over those that
are there, but for `LAG_MAX`, which is the longest of any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from listener.metrics import meter
from listener.metrics.segment import Segment, Series


class Family(NamedTuple):
    """One metric.

    Attributes:
        kind: counter, gauge or histogram.
        help: a sentence.
        labels: their names.
    """

    kind: str
    help: str
    labels: tuple[str, ...] = ()


#: docs/reference/metrics.md has the same table; a test compares them.
FAMILIES: Mapping[str, Family] = {
    meter.REQUESTS: Family(
        "counter",
        "Predictions that were asked for, by what they were answered with; 499: the client left.",
        ("route", "model", "branch", "status"),
    ),
    meter.TOTAL: Family("histogram", "From a request's head to its encoded answer, if it was answered.", ("route",)),
    meter.PHASE: Family("histogram", "Parts of that time.", ("route", "phase")),
    meter.CALLS: Family("counter", "Calls to Triton that were answered.", ("model",)),
    meter.CALL_REQUESTS: Family("counter", "Requests, or parts of them, that travelled in these calls.", ("model",)),
    meter.CALL_ROWS: Family("counter", "Rows that travelled in these calls.", ("model",)),
    meter.MEMORY: Family(
        "counter", "Calls with large tensors: those through shared memory, and those without room in it.", ("way",)
    ),
    "listener_workers": Family("gauge", "Workers, by their phase.", ("phase",)),
    "listener_in_flight": Family("gauge", "Requests that hold a permit."),
    "listener_waiting": Family("gauge", "Requests that wait for a permit."),
    "listener_permits": Family("gauge", "Permits there are, LISTENER_MAX_REQUESTS of each worker."),
    "listener_body_bytes": Family("gauge", "Bytes of the bodies of requests that hold a permit."),
    "listener_connections": Family("gauge", "Open connections."),
    "listener_pool_threads": Family("gauge", "Threads for hooks.", ("state",)),
    "listener_pool_waiting": Family("gauge", "Hooks that wait for a thread."),
    "listener_shared_memory_bytes": Family("gauge", "Shared memory with Triton.", ("state",)),
    meter.LAG: Family("histogram", "How late the event loop was, looked at four times a second."),
    meter.LAG_MAX: Family("gauge", "The same, the longest of the last one to two minutes."),
}


class _Collector:
    """For one answer."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        yield from self._families


def text(segment: Segment, own: int, more: Iterable[Metric] = ()) -> bytes:
    """Format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/).

    Args:
        segment: of all workers.
        own: the seat of this worker.
        more: further families.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector([*more, *_families(segment, own)]))
    return generate_latest(registry)


def gauge(name: str, help: str, *values: tuple[Mapping[str, str], float]) -> Metric:
    """One that is not in the segment; each value with its labels."""
    family = GaugeMetricFamily(name, help, labels=list(values[0][0]))
    for labels, value in values:
        family.add_metric(list(labels.values()), value)
    return family


def _families(segment: Segment, own: int) -> Iterator[Metric]:
    added = _added(segment, own)
    for name, (kind, help, labels) in FAMILIES.items():
        family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
        match kind:
            case "counter":
                family = CounterMetricFamily(name.removesuffix("_total"), help, labels=labels)
            case "gauge":
                family = GaugeMetricFamily(name, help, labels=labels)
            case _:
                family = HistogramMetricFamily(name, help, labels=labels)
        for values, numbers in sorted(added.get(name, {}).items()):
            if isinstance(family, HistogramMetricFamily):
                family.add_metric(list(values), *_buckets(numbers))
            else:
                family.add_metric(list(values), numbers[0])
        yield family


def _added(segment: Segment, own: int) -> dict[str, dict[tuple[str, ...], list[float]]]:
    """The numbers of each metric by its labels, of all seats together."""
    found: dict[str, dict[tuple[str, ...], list[float]]] = {}
    alive: dict[int, bool] = {own: True}
    for one in segment.series():
        known = FAMILIES.get(one.family)
        if known is None or (known.kind == "gauge" and not _is_alive(segment, one.seat, alive)):
            continue
        by_labels = found.setdefault(one.family, {})
        before = by_labels.get(one.labels)
        by_labels[one.labels] = list(one.numbers) if before is None else _together(one, before)
    return found


def _together(one: Series, before: Sequence[float]) -> list[float]:
    if one.family == meter.LAG_MAX:
        return [max(before[0], one.numbers[0])]
    return [mine + other for mine, other in zip(one.numbers, before, strict=True)]


def _is_alive(segment: Segment, seat: int, known: dict[int, bool]) -> bool:
    if seat not in known:
        known[seat] = segment.alive(seat)
    return known[seat]


def _buckets(numbers: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
    ends = [*(f"{end:g}" for end in meter.BUCKETS), "+Inf"]
    return list(zip(ends, accumulate(numbers[:-1]), strict=True)), numbers[-1]
