"""Spans of requests on every path, and what Triton is told of the trace."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from listener.spans import Delivery, Spans
from tests.endpoints.conftest import Serve, Served

TRACE = "0af7651916cd43dd8448eb211c80319c"
ONE = {"instances": [[1, 2]]}
INFER = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


def header(flags: str = "01", span: str = "b7ad6b7169203331") -> str:
    return f"00-{TRACE}-{span}-{flags}"


def recording(served: Served) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    delivery = Delivery(exporter)
    served.listener.gate.spans = Spans(SimpleSpanProcessor(delivery), delivery, Resource({}), 0.0)
    return exporter


@pytest.fixture
def memory(served: Served) -> InMemorySpanExporter:
    return recording(served)


def spans(memory: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in memory.get_finished_spans()}


def told(served: Served) -> list[str]:
    """What each call to Triton said of a trace."""
    return [asked.headers.get("traceparent", "") for asked in served.triton.asked if asked.method == "POST"]


def of_triton(memory: InMemorySpanExporter) -> set[str]:
    """What Triton is to be told of the spans there are."""
    found = [span.context for span in memory.get_finished_spans() if span.kind is SpanKind.SERVER]
    return {f"00-{each.trace_id:032x}-{each.span_id:016x}-01" for each in found if each}


async def test_triton_is_called_below_the_span_of_its_request(served: Served, memory: InMemorySpanExporter) -> None:
    status, _ = await served.predict(ONE, traceparent=header())
    assert status == 200
    found = spans(memory)
    assert {"POST /predict", "preprocess", "triton", "postprocess", "encode"} <= set(found)
    assert (found["POST /predict"].attributes or {})["listener.branch"] == "plain"
    assert {told(served)[-1]} == of_triton(memory)


async def test_without_a_sampled_trace_there_are_no_spans_and_no_header(
    served: Served, memory: InMemorySpanExporter
) -> None:
    """On one connection, so that what was said of the request before could be left."""
    for path in ("/predict", "/v1/models/plain:predict"):
        for sent in (header(), header("00"), ""):
            memory.clear()
            served.triton.asked.clear()
            status, _ = await served.predict(ONE, path, **({"traceparent": sent} if sent else {}))
            assert status == 200
            sampled = sent == header()
            assert [bool(each) for each in told(served)] == [sampled]
            assert bool(memory.get_finished_spans()) == sampled


async def test_a_call_of_several_requests_has_the_trace_of_one_that_is_recorded(
    served: Served, memory: InMemorySpanExporter
) -> None:
    async def asked(number: int) -> None:
        sent = header("01" if number % 4 == 3 else "00", f"{number + 1:016x}")
        assert (await served.predict({"instances": [[number, 2]]}, traceparent=sent))[0] == 200

    await asyncio.gather(*map(asked, range(32)))
    known, said = of_triton(memory), told(served)
    assert len(known) == 8
    assert len(said) < 32  # some travelled together
    assert {each for each in said if each} <= known
    assert len([each for each in said if each]) == len({each for each in said if each})
    served.triton.asked.clear()
    assert (await served.predict(ONE))[0] == 200
    assert told(served) == [""]


@pytest.mark.parametrize(
    ("path", "name", "document", "status", "calls"),
    [
        ("/v1/models/plain:predict", "POST /v1/models/{model}:predict", ONE, 200, 1),
        ("/v2/models/twice/infer", "POST /v2/models/{model}/infer", INFER, 200, 1),
        ("/v2/models/talk/generate", "POST /v2/models/{model}/generate", {"X": "a"}, 200, 1),
        ("/v2/models/talk/generate_stream", "POST /v2/models/{model}/generate_stream", {"X": "a b"}, 200, 1),
        ("/predict", "POST /predict", {"instances": "rubbish"}, 400, 0),
        ("/v1/models/nothing:predict", "POST /v1/models/{model}:predict", ONE, 404, 0),
    ],
)
async def test_every_path_has_its_span_by_few_names(
    served: Served, memory: InMemorySpanExporter, path: str, name: str, document: object, status: int, calls: int
) -> None:
    answered, _ = await served.predict(document, f"{path}?key=secret", traceparent=header())
    assert answered == status
    span = spans(memory)[name]
    assert span.attributes
    assert (span.attributes["url.path"], span.attributes["http.response.status_code"]) == (path, status)
    assert [each[:36] for each in told(served)] == [header()[:36]] * calls


async def test_a_path_that_is_no_text_is_delivered(served: Served, memory: InMemorySpanExporter) -> None:
    for name in (b"\xff", b"%FF", b"%ED%B3%BF", b"\xc3\xa4"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = b"POST /v1/models/%b:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n"
        writer.write(head % name + b"traceparent: %b\r\n\r\n{}" % header().encode())
        assert (await asyncio.wait_for(reader.read(), 5))[9:10] == b"4"
        writer.close()
        await writer.wait_closed()
    assert memory.get_finished_spans()
    assert encode_spans(memory.get_finished_spans()).SerializeToString()


async def test_the_id_is_that_of_the_log(served: Served, memory: InMemorySpanExporter) -> None:
    headers = {"traceparent": header(), "X-Request-Id": "mine"}
    assert (await served.ask("POST", "/predict", json=ONE, headers=headers))[0] == 200
    assert (spans(memory)["POST /predict"].attributes or {})["listener.request_id"] == "mine"


async def test_what_is_recorded_has_its_phases_where_nothing_else_is_measured(serve: Serve) -> None:
    async with serve(server_timing=False, access_log=0) as served:
        assert served.listener.meter is None
        memory = recording(served)
        status, headers, _ = await served.told("POST", "/predict", json=ONE, headers={"traceparent": header()})
        assert (status, "server-timing" in headers) == (200, False)
        assert {"POST /predict", "preprocess", "triton", "postprocess", "encode"} <= set(spans(memory))


async def test_without_the_setting_nothing_is_recorded_or_told(serve: Serve) -> None:
    async with serve() as served:
        assert served.listener.gate.spans is None
        assert (await served.predict(ONE, traceparent=header()))[0] == 200
        assert told(served) == [""]
