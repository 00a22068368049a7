"""A receiver of OTLP over HTTP for tests: a real port, and the spans that came to it."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http_server import Answering, serving


@dataclass(frozen=True)
class Span:
    """A span as it came, with its resource's `service` and `project`. Ids are hexadecimal, moments in ns since 1970."""

    service: str
    project: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    start: int
    end: int
    status: int
    attributes: dict[str, Any]


@dataclass
class Received:
    """What came to a receiver.

    Attributes:
        url: of the receiver, without the path.
        spans: in the order in which they came.
        paths: to which they were posted.
    """

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def take(self, body: bytes, media_type: str) -> None:
        """Reads what an exporter has posted."""
        request = ExportTraceServiceRequest()
        told = _in_hexadecimal
        if media_type.startswith("application/json"):  # as Triton's exporter does
            json_format.Parse(body, request)
            told = _told_in_json
        else:
            request.ParseFromString(body)
        for of_service in request.resource_spans:
            resource = _values(of_service.resource.attributes)
            for scope in of_service.scope_spans:
                self.spans += [_read(resource, span, told) for span in scope.spans]


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _in_hexadecimal(identifier: bytes) -> str:
    return identifier.hex()


def _told_in_json(identifier: bytes) -> str:
    """OTLP says ids in hexadecimal there, where all other JSON of protobuf's has base64."""
    return base64.b64encode(identifier).decode()


def _read(resource: dict[str, Any], span: Any, told: Callable[[bytes], str]) -> Span:
    return Span(
        resource.get("service.name", ""),
        resource.get("gcp.project_id", ""),
        span.name,
        told(span.trace_id),
        told(span.span_id),
        told(span.parent_span_id),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code,
        _values(span.attributes),
    )


@contextlib.contextmanager
def receiving(
    context: ssl.SSLContext | None = None, admits: Callable[[str], bool] = lambda authorization: True
) -> Iterator[Received]:
    """A receiver on a free loopback port, of HTTPS where there is a context for it.

    Args:
        context: as above.
        admits: says by a request's Authorization whether it is taken; others are answered 401.
    """
    received = Received()

    class Receiver(Answering):
        def do_POST(self) -> None:
            received.paths.add(self.path)
            allowed = admits(self.headers.get("Authorization", ""))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if allowed:
                received.take(body, self.headers["Content-Type"])
            self.answer(200 if allowed else 401, b"", "application/x-protobuf")

    with serving(Receiver, context) as url:
        received.url = url
        yield received
