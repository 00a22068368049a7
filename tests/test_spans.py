"""Which spans are made of a request, and when they are said to have been."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from listener import settings, spans
from listener.errors import ConfigError, Overloaded
from listener.gate import Gate, Limits, Phase
from listener.metrics.meter import Meter
from listener.metrics.segment import Segment
from listener.metrics.times import Times
from listener.spans import Delivery, Spans
from listener.tracing import End
from tests.artifacts.secure import Authority, token_endpoint, tunnelling
from tests.otlp import receiving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


def made(share: float = 0.0) -> tuple[Spans, InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    delivery = Delivery(memory)
    return Spans(SimpleSpanProcessor(delivery), delivery, Resource({"service.name": "s"}), share), memory


def by_name(memory: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    found = memory.get_finished_spans()
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time and span.end_time
    return (span.end_time - span.start_time) / 1e9


def recorded(times: Times, end: End, entered: float) -> dict[str, ReadableSpan]:
    recorder, memory = made()
    recording = recorder.recording(SAMPLED, "/v1/models/m:predict", "/v1/models/{model}:predict", "id")
    assert recording
    recording.entered = entered
    recording.ended(times, end)
    return by_name(memory)


# Spans


def test_a_request_is_a_span_below_its_callers_with_one_for_each_phase() -> None:
    times = Times()
    times.read, times.replied = 12.0, 18.5
    times.call(13.0, 14.0, 17.0)
    found = recorded(times, End(11.0, 19.0, 200, "r", "b", "m"), 10.0)
    server = found.pop("POST /v1/models/{model}:predict")
    assert server.kind is SpanKind.SERVER
    assert server.context and server.parent
    assert f"{server.context.trace_id:032x}" == TRACE
    assert (f"{server.parent.span_id:016x}", server.parent.is_remote) == (SPAN, True)
    assert dict(server.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:predict",
        "url.path": "/v1/models/m:predict",
        "http.response.status_code": 200,
        "listener.request_id": "id",
        "listener.route": "r",
        "listener.branch": "b",
        "listener.model": "m",
    }
    assert server.resource.attributes["service.name"] == "s"
    begin = server.start_time
    assert begin
    took = {name: ((span.start_time or 0) - begin, seconds(span)) for name, span in found.items()}
    assert {name: (round(start / 1e9, 6), round(length, 6)) for name, (start, length) in took.items()} == {
        "queue": (0.0, 1.0),
        "preprocess": (2.0, 1.0),
        "coalesce": (3.0, 1.0),
        "triton": (4.0, 3.0),
        "postprocess": (7.0, 1.5),
        "encode": (8.5, 0.5),
    }
    assert seconds(server) == pytest.approx(9.0)
    assert {span.parent.span_id for span in found.values() if span.parent} == {server.context.span_id}
    assert len({span.context.span_id for span in found.values() if span.context}) == len(found)


def test_names_that_are_no_text_do_not_cost_the_others_that_leave_with_them() -> None:
    recorder, memory = made()
    recording = recorder.recording(SAMPLED, "/\udcff", "/\udcff", "id")
    assert recording
    recording.ended(Times(), End(1.0, 1.0, 404, "\udcff", "\udcff", "\udcff"))
    sent = encode_spans(memory.get_finished_spans()).SerializeToString()
    assert sent.count(b"?") == 6


def test_moments_are_those_of_the_clock_of_the_day() -> None:
    now = time.monotonic()
    (server,) = recorded(Times(), End(now, now, 200), now).values()
    assert abs((server.start_time or 0) / 1e9 - time.time()) < 5


def test_phases_that_a_request_had_not_have_no_spans() -> None:
    times = Times()
    times.read, times.replied = 11.0, 12.0
    found = recorded(times, End(10.0, 13.0, 200), 10.0)
    assert set(found) == {"POST /v1/models/{model}:predict", "preprocess", "encode"}


def test_of_several_calls_the_sums_are_said_and_the_spans_stay_between_the_first_and_the_last() -> None:
    times = Times()
    times.read, times.replied = 10.0, 20.0
    for _ in range(8):  # side by side
        times.call(11.0, 13.0, 16.0)
    found = recorded(times, End(10.0, 21.0, 200), 10.0)
    begin = found["preprocess"].end_time
    for name, sum_of_them in (("coalesce", 16.0), ("triton", 24.0)):
        assert found[name].start_time == begin
        assert seconds(found[name]) == pytest.approx(5.0)
        assert (found[name].attributes or {})["listener.seconds"] == pytest.approx(sum_of_them)


@pytest.mark.parametrize(
    ("status", "code"), [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (503, StatusCode.ERROR)]
)
def test_a_failure_of_ours_is_an_error_and_has_the_phases_that_came_to_their_end(status: int, code: StatusCode) -> None:
    times = Times()
    times.read = 10.0
    times.call(11.0, 11.0, 12.0)
    found = recorded(times, End(10.0, 13.0, status), 10.0)
    server = found["POST /v1/models/{model}:predict"]
    assert (server.status.status_code, (server.attributes or {})["http.response.status_code"]) == (code, status)
    assert set(found) == {"POST /v1/models/{model}:predict", "preprocess", "triton"}


# Which requests


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        (SAMPLED, int(SPAN, 16)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, None),
        ({"x-cloud-trace-context": f"{TRACE}/7;o=1"}, 7),
        ({"x-cloud-trace-context": f"{TRACE};o=1"}, 0),
        ({"x-cloud-trace-context": f"{TRACE}/7"}, None),
        ({"traceparent": "rubbish"}, None),
        ({}, None),
    ],
)
def test_recorded_is_what_the_caller_records(headers: dict[str, str], parent: int | None) -> None:
    recorder, _ = made()
    recording = recorder.recording(headers, "/", "/", "")
    assert (recording and recording.parent) == parent
    if recording:
        assert f"{recording.trace_id:032x}" == TRACE
        assert recording.traceparent == f"00-{TRACE}-{recording.span_id:016x}-01"


def test_a_share_of_those_without_a_trace_begins_one() -> None:
    recorder, _ = made(0.25)
    found = [each for each in (recorder.recording({}, "/", "/", "") for _ in range(4000)) if each]
    assert 800 < len(found) < 1200  # six times the standard deviation
    assert len({each.trace_id for each in found}) == len(found)
    assert all(each.parent == 0 for each in found)
    unsampled = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    assert not any(recorder.recording(unsampled, "/", "/", "") for _ in range(1000))


# The gate


def gate(recorder: Spans, meter: Meter | None = None) -> Gate:
    found = Gate(Limits(1, waiting=1), 60.0, meter)
    found.phase, found.spans = Phase.READY, recorder
    return found


async def test_what_is_recorded_is_measured_and_counts_for_nothing_beside_the_sample() -> None:
    recorder, memory = made()
    meter = Meter(Segment().take() or pytest.fail("no seat"))
    entrance = gate(recorder, meter)
    meter.times()
    meter._gap = 10  # as at many requests a second
    async with entrance.enter(recording=recorder.recording(SAMPLED, "/p", "/p", "")) as permit:
        assert permit.times is not None
        assert (permit.times.weight, bool(permit.times.traceparent)) == (0.0, True)
        times = permit.times
    assert times.traceparent == ""  # what goes on does not belong to it
    assert set(by_name(memory)) == {"POST /p"}
    async with entrance.enter() as permit:
        assert permit.times is None


async def test_one_that_is_refused_has_a_span_and_one_that_waited_has_its_wait() -> None:
    recorder, memory = made()
    entrance = gate(recorder)

    def recording(path: str) -> spans.Recording | None:
        return recorder.recording(SAMPLED, path, path, "")

    async with entrance.enter():
        task = asyncio.create_task(entrance.enter(recording=recording("/waits")).__aenter__())
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded):
            async with entrance.enter(recording=recording("/refused")):
                pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    found = by_name(memory)
    assert {
        name: (span.attributes or {})["http.response.status_code"] for name, span in found.items() if "/" in name
    } == {
        "POST /refused": 429,
        "POST /waits": 499,
    }
    assert 0.02 <= seconds(found["queue"]) <= seconds(found["POST /waits"])


# Delivery


class Broken(SpanExporter):
    """Says what a collector that is away makes the SDK say."""

    def __init__(self) -> None:
        self.works, self.seen, self.ended = False, 0, threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.seen += len(spans)
        if self.works:
            return SpanExportResult.SUCCESS
        sdk = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk.warning("Transient error %s encountered while exporting span batch, retrying in 1.00s.", "refused")
        sdk.error("Failed to export spans batch due to timeout, max retries or shutdown.")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended.set()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("listener")]


def test_an_outage_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (span,) = recorded(Times(), End(1.0, 1.0, 200), 1.0).values()
    exporter = Broken()
    delivery = Delivery(exporter)
    for _ in range(3):
        assert delivery.export([span, span]) is SpanExportResult.FAILURE
    (line,) = lines(caplog)
    assert line.startswith("traces are not delivered, and are lost until this is mended: Transient error refused")
    exporter.works = True
    assert delivery.export([span]) is SpanExportResult.SUCCESS
    assert delivery.export([span]) is SpanExportResult.SUCCESS
    assert lines(caplog)[1:] == ["traces are delivered again; spans lost: 6"]


class Stuck(Broken):
    """Takes nothing until it is ended."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.ended.wait(60)
        return super().export(spans)


async def test_drops_are_one_line_and_a_stop_does_not_wait_for_long(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Stuck()
    delivery = Delivery(exporter)
    processor = BatchSpanProcessor(delivery, max_queue_size=4, max_export_batch_size=4)
    recorder = Spans(processor, delivery, Resource({}), 1.0)
    for _ in range(20):
        recording = recorder.recording({}, "/", "/", "")
        assert recording
        recording.ended(Times(), End(1.0, 1.0, 200))
        await asyncio.sleep(0.001)
    logging.getLogger("opentelemetry.sdk._shared_internal").warning("Queue full, dropping %s.", "Span")
    dropped = "more spans come than are delivered; those beyond OTEL_BSP_MAX_QUEUE_SIZE are dropped"
    assert lines(caplog).count(dropped) == 1
    begin = time.monotonic()
    await recorder.close()
    assert time.monotonic() - begin < 2 * spans.FLUSH
    assert exporter.ended.is_set()


async def test_a_stop_delivers_what_waits() -> None:
    exporter = Broken()
    exporter.works = True
    delivery = Delivery(exporter)
    recorder = Spans(BatchSpanProcessor(delivery), delivery, Resource({}), 1.0)
    recording = recorder.recording({}, "/", "/", "")
    assert recording
    recording.ended(Times(), End(1.0, 1.0, 200))
    assert exporter.seen == 0
    await recorder.close()
    assert exporter.seen == 1


# What is asked for


async def test_the_resource_says_which_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = spans.opened("otlp", 0.5)
    assert recorder._resource.attributes["service.name"] == "listener"
    await recorder.close()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    recorder = spans.opened("otlp", 0.5)
    assert recorder._resource.attributes["service.name"] == "mine"
    await recorder.close()


def test_the_cloud_without_credentials_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(ConfigError, match=r"^LISTENER_TRACES=cloud: File /nowhere\.json was not found\.$"):
        spans.opened("cloud", 0.0)


async def test_the_cloud_gets_spans_with_a_token_and_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Google's own name, to which a proxy leads here."""
    authority = Authority(tmp_path)
    with token_endpoint(authority.context("localhost")) as tokens:
        tokens.scope = "https://www.googleapis.com/auth/trace.append"
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tokens.service_account(tmp_path / "key.json")))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        with receiving(authority.context("telemetry.googleapis.com"), tokens.holds) as received:
            there = {"telemetry.googleapis.com:443": received.url.removeprefix("https://")}
            with tunnelling(there) as tunnels:
                monkeypatch.setenv("HTTPS_PROXY", tunnels.url)
                monkeypatch.setenv("NO_PROXY", "localhost")
                recorder = await asyncio.to_thread(spans.opened, "cloud", 1.0)
                recording = recorder.recording({}, "/", "/", "")
                assert recording
                recording.ended(Times(), End(1.0, 1.0, 200))
                await recorder.close()
        assert (tokens.asked, tunnels.made, received.paths) == (1, ["telemetry.googleapis.com:443"], {"/v1/traces"})
    (span,) = received.spans
    assert (span.name, span.service, span.project) == ("POST /", "listener", "my-project")


def test_settings_of_traces() -> None:
    assert (settings.read({}).traces, settings.read({}).trace_share) == ("", 0.0)
    found = settings.read({"LISTENER_TRACES": "otlp", "LISTENER_TRACE_SHARE": "0.1"})
    assert (found.traces, found.trace_share) == ("otlp", 0.1)
    with pytest.raises(ConfigError, match="is not one of otlp, cloud"):
        settings.read({"LISTENER_TRACES": "jaeger"})
