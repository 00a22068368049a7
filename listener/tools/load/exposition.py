"""Prometheus' text, and what two scrapes say of the time between them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from listener.metrics.times import PHASES

#: A sample: name, labels, value (https://prometheus.io/docs/instrumenting/exposition_formats/). Not by the parser of
#: prometheus_client, which gives up a whole page for one odd line.
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? +(\S+)", re.M)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

#: Samples by name, then by their labels.
Scrape = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]

#: Parts of Triton's time.
TRITON = {
    "waits in Triton": "nv_inference_queue_duration_us",
    "input": "nv_inference_compute_input_duration_us",
    "model": "nv_inference_compute_infer_duration_us",
    "output": "nv_inference_compute_output_duration_us",
}


@dataclass(frozen=True)
class Between:
    """What was between two scrapes; what they do not tell is empty, or NaN.

    Attributes:
        phases: milliseconds of a request in each of the listener's phases, on average.
        triton: milliseconds of a call in each part of Triton, likewise.
        rows_per_call: instances that the listener put into one call.
        batch: rows that Triton put into one execution.
        requests: that the listener answered.
        processes: CPUs that the target's processes used.
        machine: share of the target's machine that was busy, as Triton sees it.
        gpus: share of time in which each GPU computed.
    """

    phases: Mapping[str, float] = field(default_factory=dict)
    triton: Mapping[str, float] = field(default_factory=dict)
    rows_per_call: float = math.nan
    batch: float = math.nan
    requests: float = math.nan
    processes: float = math.nan
    machine: float = math.nan
    gpus: Mapping[str, float] = field(default_factory=dict)


def parse(text: str) -> Scrape:
    """The samples of a scrape; lines that are none are passed over."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        try:
            found.setdefault(name, {})[frozenset(_LABEL.findall(labels))] = float(value)
        except ValueError:
            continue
    return found


def between(before: Scrape, after: Scrape, seconds: float) -> Between:
    """What happened between two scrapes, `seconds` apart."""

    def more(name: str, **labels: str) -> float:
        """By how much a counter has grown, all its samples with these labels together."""
        wanted = set(labels.items())
        return sum(
            max(0.0, value - before.get(name, {}).get(key, 0.0))
            for key, value in after.get(name, {}).items()
            if wanted <= key
        )

    answered = max((more("listener_phase_seconds_count", phase=phase) for phase in PHASES), default=0.0)
    calls = more("nv_inference_request_success")
    gauges = after.get("nv_cpu_utilization", {})
    return Between(
        phases={
            phase: more("listener_phase_seconds_sum", phase=phase) / answered * 1e3
            for phase in PHASES
            if answered and more("listener_phase_seconds_count", phase=phase)
        },
        triton={words: more(name) / calls / 1e3 for words, name in TRITON.items()} if calls else {},
        rows_per_call=_ratio(more("listener_call_rows_total"), more("listener_calls_total")),
        batch=_ratio(more("nv_inference_count"), more("nv_inference_exec_count")),
        requests=more("listener_requests_total") if "listener_requests_total" in after else math.nan,
        processes=more("process_cpu_seconds_total") / seconds if "process_cpu_seconds_total" in after else math.nan,
        machine=max(gauges.values(), default=math.nan),
        gpus=_gpus(before, after),
    )


def _gpus(before: Scrape, after: Scrape) -> dict[str, float]:
    """Gauges, so the mean of both looks."""
    name = "nv_gpu_utilization"
    found = {
        dict(labels).get("gpu_uuid", ""): (value + before.get(name, {}).get(labels, value)) / 2
        for labels, value in after.get(name, {}).items()
    }
    return {f"GPU {place}": share for place, (_, share) in enumerate(sorted(found.items()))}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
