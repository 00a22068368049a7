"""What two scrapes say of the time between them."""

from __future__ import annotations

import math

import pytest

from listener.tools.load.exposition import between, parse

BEFORE = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="a",version="1"} 100
nv_inference_count{model="b",version="1"} 7
nv_inference_exec_count{model="a",version="1"} 50
nv_inference_request_success{model="a",version="1"} 60
nv_inference_queue_duration_us{model="a",version="1"} 1000
nv_inference_compute_infer_duration_us{model="a",version="1"} 4000
nv_cpu_utilization 0.2
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.4
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.1
listener_phase_seconds_sum{phase="queue"} 1.0
listener_phase_seconds_count{phase="queue"} 10
listener_calls_total{model="a"} 50
listener_call_rows_total{model="a"} 100
listener_requests_total{route="a",model="a",branch="",status="200"} 10
process_cpu_seconds_total 3
"""
AFTER = """\
nv_inference_count{model="a",version="1"} 180
nv_inference_count{model="b",version="1"} 7
nv_inference_exec_count{model="a",version="1"} 70
nv_inference_request_success{model="a",version="1"} 80
nv_inference_queue_duration_us{model="a",version="1"} 21000
nv_inference_compute_infer_duration_us{model="a",version="1"} 44000
nv_cpu_utilization 0.6
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.8
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.3
listener_phase_seconds_sum{phase="queue"} 1.5
listener_phase_seconds_count{phase="queue"} 110
listener_phase_seconds_bucket{phase="queue",le="+Inf"} 110
listener_phase_seconds_sum{phase="triton"} 0.4
listener_phase_seconds_count{phase="triton"} 50
listener_calls_total{model="a"} 70
listener_call_rows_total{model="a"} 180
listener_requests_total{route="a",model="a",branch="",status="200"} 100
listener_requests_total{route="a",model="a",branch="",status="503"} 10
process_cpu_seconds_total 6
"""


def test_counters_become_means_and_gauges_stay() -> None:
    found = between(parse(BEFORE), parse(AFTER), 2.0)
    assert found.batch == 4
    assert found.rows_per_call == 4
    assert found.triton == {"waits in Triton": 1.0, "input": 0.0, "model": 2.0, "output": 0.0}
    assert found.phases == pytest.approx({"queue": 5.0, "triton": 4.0})  # of each of the hundred requests
    assert found.requests == 100
    assert found.processes == 1.5
    assert found.machine == 0.6
    assert found.gpus == pytest.approx({"GPU 0": 0.2, "GPU 1": 0.6})


def test_what_is_not_told_is_unknown() -> None:
    found = between({}, {}, 1.0)
    assert (found.phases, found.triton, found.gpus) == ({}, {}, {})
    values = (found.batch, found.rows_per_call, found.requests, found.processes, found.machine)
    assert all(math.isnan(value) for value in values)


def test_a_process_that_was_started_anew_counts_from_nothing() -> None:
    assert (
        between(parse("nv_inference_request_success 900\n"), parse("nv_inference_request_success 5\n"), 1).triton == {}
    )


def test_lines_that_are_no_samples_are_passed_over() -> None:
    text = 'a{x="1",y="a \\"b\\""} 2 1700000000\n# b 3\nnonsense\nc x\nd NaN\n'
    found = parse(text)
    assert found["a"] == {frozenset({("x", "1"), ("y", 'a \\"b\\"')}): 2.0}
    assert set(found) == {"a", "d"}
