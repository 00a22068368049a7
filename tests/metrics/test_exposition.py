"""The text that Prometheus gets."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from listener.metrics import exposition, meter, segment
from listener.metrics.exposition import FAMILIES
from listener.metrics.meter import Meter
from listener.metrics.segment import Segment
from tests.metrics.test_segment import end, worker

REFERENCE = Path(__file__).parents[2] / "docs/reference/metrics.md"


def test_every_family_is_there_with_its_kind_and_labels() -> None:
    found = Segment()
    seat = found.take()
    assert seat is not None
    for name, family in FAMILIES.items():
        seat.series(name, tuple(f"v{number}" for number in range(len(family.labels))), _length(family.kind))
    Meter(seat)
    families = {one.name: one for one in text_string_to_metric_families(exposition.text(found, 0).decode())}
    for name, family in FAMILIES.items():
        one = families[name.removesuffix("_total")]
        assert (one.type, one.documentation) == (family.kind, family.help)
        assert set(one.samples[0].labels) - {"le"} == set(family.labels), name


def _length(kind: str) -> int:
    return meter.HISTOGRAM if kind == "histogram" else 1


def test_workers_are_added_up_and_gauges_of_dead_ones_are_not() -> None:
    file = segment.new(3)
    try:
        (one, _), (two, _) = worker(file), worker(file)
        here = Segment(file)
        seat = here.take()
        assert seat is not None
        seat.numbers[seat.series("listener_in_flight", ())] = 2
        found = exposition._added(here, seat.number)
        assert found["listener_in_flight"] == {(): [2.0]}
        end(one)
        end(two)
    finally:
        os.close(file)


def test_the_reference_has_every_family() -> None:
    rows = [line.split("|") for line in REFERENCE.read_text().splitlines() if line.startswith("| `listener_")]
    documented = {
        cells[1].strip().strip("`"): (cells[2].strip(), tuple(cells[3].replace("`", "").replace(" ", "").split(",")))
        for cells in rows
    }
    ours = {name: (family.kind, family.labels or ("",)) for name, family in FAMILIES.items()}
    assert documented == ours | {
        "listener_build_info": ("gauge", ("version",)),
        "listener_triton_metrics_up": ("gauge", ("",)),
        "listener_fetch_bytes": ("gauge", ("state",)),
        "listener_fetch_files": ("gauge", ("state",)),
        "listener_fetch_seconds": ("gauge", ("",)),
    }
