"""Traces of a real stack, as a receiver of OTLP gets them: the listener's spans, and below them Triton's own."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from listener.metrics.times import PHASES
from tests.integration.stack import Stack, free_port, running, wait_for
from tests.otlp import Received, Span, receiving

pytestmark = pytest.mark.triton

PICTURE = {"instances": [[0, 16] * 32]}
CALLER = "b7ad6b7169203331"
#: So often spans leave.
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


def trace(number: int) -> str:
    return f"{number:032x}"


def traceparent(number: int, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace(number)}-{CALLER}-{flags}"}


@pytest.fixture(scope="module")
def received() -> Iterator[Received]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def stack(received: Received, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    own = ("mode=opentelemetry", f"opentelemetry,url={received.url}/triton", "rate=1000000", "level=TIMESTAMPS")
    arguments = " ".join(f"--trace-config={each}" for each in (*own, "opentelemetry,bsp_schedule_delay=100"))
    log = tmp_path_factory.mktemp("traces") / "log"
    more: dict[str, Any] = {"LISTENER_TRITON_ARGS": arguments, "OTEL_EXPORTER_OTLP_ENDPOINT": received.url, **OFTEN}
    with running(log, LISTENER_TRACES="otlp", **more) as stack:
        stack.until(200)
        yield stack


def asked(stack: Stack, headers: dict[str, str], document: object = None) -> int:
    return requests.post(f"{stack.url}/predict", json=document or PICTURE, headers=headers, timeout=30).status_code


def of(received: Received, number: int, service: str = "listener") -> dict[str, Span]:
    return {span.name: span for span in received.spans if (span.trace_id, span.service) == (trace(number), service)}


def test_a_sampled_request_arrives_with_its_phases_and_tritons_spans_below_it(stack: Stack, received: Received) -> None:
    before = time.time_ns()
    assert asked(stack, traceparent(1)) == 200
    after = time.time_ns()
    wait_for(lambda: "POST /predict" in of(received, 1), 10, stack.output)
    found = of(received, 1)
    server = found.pop("POST /predict")
    assert server.parent == CALLER
    assert before < server.start < server.end < after
    assert {"preprocess", "triton", "postprocess", "encode"} <= set(found) <= {*PHASES}
    assert {span.parent for span in found.values()} == {server.span_id}
    ends = sorted((span.start, span.end) for span in found.values())
    assert server.start <= ends[0][0]
    assert ends[-1][1] <= server.end
    assert all(first[1] <= second[0] + 1000 for first, second in itertools.pairwise(ends))  # ns of a double
    wait_for(lambda: "InferRequest" in of(received, 1, "triton-inference-server"), 10, stack.output)
    below = of(received, 1, "triton-inference-server")["InferRequest"]
    assert below.parent == server.span_id
    assert found["triton"].start <= below.start <= found["triton"].end  # it ends when Triton is done with sending


def test_what_the_caller_does_not_record_is_not_recorded(stack: Stack, received: Received) -> None:
    count = len([span for span in received.spans if span.name == "POST /predict"])
    assert asked(stack, traceparent(2, "00")) == 200
    assert asked(stack, {"X-Cloud-Trace-Context": f"{trace(3)}/5;o=0"}) == 200
    assert asked(stack, {}) == 200
    assert asked(stack, {"X-Cloud-Trace-Context": f"{trace(4)}/5;o=1"}) == 200
    # it came last, so what there is of the others would be here
    wait_for(lambda: "POST /predict" in of(received, 4), 10, stack.output)
    assert of(received, 4)["POST /predict"].parent == f"{5:016x}"
    assert len([span for span in received.spans if span.name == "POST /predict"]) == count + 1
    assert not of(received, 2, "triton-inference-server")


def test_a_refused_request_arrives_with_its_status(stack: Stack, received: Received) -> None:
    assert asked(stack, traceparent(6), {"instances": [["no numbers"]]}) == 400
    wait_for(lambda: "POST /predict" in of(received, 6), 10, stack.output)
    server = of(received, 6)["POST /predict"]
    assert (server.attributes["http.response.status_code"], server.status) == (400, 0)


def test_the_receiver_is_asked_where_the_standard_says(stack: Stack, received: Received) -> None:
    assert asked(stack, traceparent(7)) == 200
    wait_for(lambda: bool(of(received, 7)), 10, stack.output)
    assert received.paths - {"/triton"} == {"/v1/traces"}


def test_a_stop_delivers_what_waits(tmp_path: Path) -> None:
    with receiving() as received:
        more: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        with running(tmp_path / "log", LISTENER_TRACES="otlp", LISTENER_TRACE_SHARE="1", **more) as stack:
            stack.until(200)
            assert asked(stack, {}) == 200
            assert received.spans == []
            assert stack.stop() == 0
        assert "POST /predict" in {span.name for span in received.spans}


def test_a_collector_that_is_away_costs_a_line(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with running(tmp_path / "log", LISTENER_TRACES="otlp", **more) as stack:
        stack.until(200)
        begin = time.monotonic()
        number = 0
        while time.monotonic() < begin + 5:  # several tries
            number += 1
            assert asked(stack, traceparent(number)) == 200
            time.sleep(0.01)
        assert stack.stop() == 0
        lines = [json.loads(line) for line in stack.output().splitlines()]
    told = [line for line in lines if line["logger"].startswith(("listener.traces", "opentelemetry", "urllib3"))]
    assert [line["severity"] for line in told] == ["WARNING"]
    said, _, why = told[0]["message"].partition(": ")
    assert said == "traces are not delivered, and are lost until this is mended"
    assert "refused" in why or "timeout" in why, "the exporter's own words, which on a busy machine is done with trying"
