"""Spans of requests, for OpenTelemetry. Needs the extra `otel`, and is imported only where LISTENER_TRACES asks for it.

A span is made when its request is over, out of the moments that were measured anyway, and goes to a queue that a thread
of OpenTelemetry's SDK empties. docs/adr/0017-traces.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from listener import settings
from listener._version import __version__
from listener.errors import ConfigError, one_line
from listener.metrics.times import Times
from listener.tracing import End, trace_of, traceparent

log = logging.getLogger("listener.traces")

#: Google's own OTLP receiver: https://cloud.google.com/stackdriver/docs/reference/telemetry/v1.traces
_CLOUD = "https://telemetry.googleapis.com/v1/traces"
_SCOPES = ("https://www.googleapis.com/auth/trace.append",)
#: Seconds of a stop in which spans that wait are delivered.
FLUSH = 1.0
#: Where the SDK says why spans were not delivered, and that its queue is full: again and again.
_SDK = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
#: Seconds by which the waits and calls of a request may miss the time between the first and the last moment of them,
#: before they are taken for those of several calls.
_EXACT = 1e-6

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("listener", __version__)
_UNSET, _ERROR = Status(), Status(StatusCode.ERROR)


class Phase(NamedTuple):
    """A part of a request's time.

    Attributes:
        name: as in `listener_phase_seconds`.
        start, end: of `time.monotonic()`.
        seconds: that it took; of several calls to models the sum, which may be more or less than what lies between.
    """

    name: str
    start: float
    end: float
    seconds: float


def phases(times: Times, entered: float, end: End) -> Iterator[Phase]:
    """The phases of a request that there were; of one that failed, those that came to their end."""
    yield from _phase("queue", entered, end.begun)
    if times.called:
        if times.read:
            yield from _phase("preprocess", times.read, times.called)
        yield from _calls(times)
        if times.replied:
            yield from _phase("postprocess", times.answered, times.replied)
    elif times.replied:
        yield from _phase("preprocess", times.read, times.replied)
    if times.replied:
        yield from _phase("encode", times.replied, end.ended)


def _phase(name: str, start: float, end: float) -> Iterator[Phase]:
    if start < end:
        yield Phase(name, start, end, end - start)


def _calls(times: Times) -> Iterator[Phase]:
    """Of several calls only sums are known, and the moments between which they lay."""
    first, last = times.called, times.answered
    left = min(first + times.waited, last)
    single = abs(last - first - times.waited - times.triton) < _EXACT
    if times.waited > 0:
        yield Phase("coalesce", first, left, times.waited)
    yield Phase("triton", left if single else first, last, times.triton)


class Recording:
    """One request whose spans are recorded.

    Args:
        spans: which records it.
        trace_id: of its trace.
        parent: the caller's span; 0 = there is none, or it is not said.
        said: attributes that are known from the beginning.
        name: of its span.

    Attributes:
        entered: when it came, of `time.monotonic()`.
        traceparent: with which Triton is called. Below the request's span, as that of a phase is made only of what
            came to its end.
    """

    __slots__ = ("_name", "_said", "_spans", "entered", "parent", "span_id", "trace_id", "traceparent")

    def __init__(self, spans: Spans, trace_id: int, parent: int, said: dict[str, str], name: str) -> None:
        self.entered = time.monotonic()
        self._spans, self._said, self._name = spans, said, name
        self.trace_id, self.parent = trace_id, parent
        self.span_id = spans.new_id()
        self.traceparent = traceparent(trace_id, self.span_id)

    def ended(self, times: Times, end: End) -> None:
        """Makes its spans and hands them on; to be called once."""
        now = time.time_ns() - time.monotonic_ns()  # anew, as the clock of the day may be set

        def at(moment: float) -> int:
            return now + int(moment * 1e9)

        own = self._context(self.span_id)
        for phase in phases(times, self.entered, end):
            start, over, said = at(phase.start), at(phase.end), {"listener.seconds": phase.seconds}
            self._spans.emit(phase.name, self._context(self._spans.new_id()), own, said, SpanKind.INTERNAL, start, over)
        parent = SpanContext(self.trace_id, self.parent, True, _SAMPLED) if self.parent else None
        status = _ERROR if end.status >= 500 else _UNSET
        start, over = at(self.entered), at(end.ended)
        self._spans.emit(self._name, own, parent, self._attributes(end), SpanKind.SERVER, start, over, status)

    def _context(self, span_id: int) -> SpanContext:
        return SpanContext(self.trace_id, span_id, False, _SAMPLED)

    def _attributes(self, end: End) -> dict[str, str | int | float]:
        found: dict[str, str | int | float] = {**self._said, "http.response.status_code": end.status}
        named = {"listener.route": end.route, "listener.branch": end.branch, "listener.model": end.model}
        return found | {name: one_line(value) for name, value in named.items() if value}


class Spans:
    """Says which requests are recorded, and takes their spans.

    Args:
        processor: gets each span when it is over.
        delivery: tells of what becomes of them.
        resource: whose spans they are.
        share: of the requests that come without a trace, how many begin one; 0 to 1.
    """

    def __init__(self, processor: SpanProcessor, delivery: Delivery, resource: Resource, share: float) -> None:
        self._processor, self._delivery, self._resource, self._share = processor, delivery, resource, share
        self._chance = random.Random()  # of its own: a handler may seed that of the module

    def recording(self, headers: Mapping[str, str], path: str, route: str, request_id: str) -> Recording | None:
        """Of a request that has come; None = it is not recorded, as its caller does not record it either.

        Args:
            headers: names in lower case, or to be found by those.
            path: that it came to, without its query.
            route: the same with names in braces, of which there are few.
            request_id: of the log.
        """
        trace = trace_of(headers)
        if trace is None:
            if self._chance.random() >= self._share:
                return None
            trace_id, parent = self._chance.getrandbits(128) or 1, 0
        elif trace.sampled:
            trace_id, parent = int(trace.trace_id, 16), int(trace.span_id or "0", 16)
        else:
            return None
        # a lone surrogate in an attribute would be a traceback in the log, and in a name the end of all spans beside it
        path, route = one_line(path), one_line(route)
        said = {"http.request.method": "POST", "http.route": route, "url.path": path, "listener.request_id": request_id}
        return Recording(self, trace_id, parent, said, f"POST {route}")

    def new_id(self) -> int:
        """Of a span."""
        return self._chance.getrandbits(64) or 1

    def emit(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Mapping[str, str | int | float],
        kind: SpanKind,
        start: int,
        end: int,
        status: Status = _UNSET,
    ) -> None:
        """A span that is over; moments in nanoseconds since 1970."""
        span = ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status,
            start_time=start,
            end_time=end,
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)

    async def close(self) -> None:
        """Delivers what waits, for at most `FLUSH` seconds."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def shut_down() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_set, done)

        # a daemon, which nobody waits for at the end
        threading.Thread(target=shut_down, daemon=True, name="traces").start()
        with suppress(TimeoutError):
            await asyncio.wait_for(done, FLUSH)
        self._delivery.end()


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


class Delivery(SpanExporter):
    """An exporter that says once that nothing arrives, and once that it does again.

    Args:
        exporter: delivers; runs in the SDK's thread.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter, self._reasons = exporter, _Reasons()
        self._lost, self._ended = 0, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the exporter does."""
        self._reasons.first = ""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces are delivered again; spans lost: %d", self._lost)
            self._lost = 0
            return result
        if not self._lost:
            log.warning("traces are not delivered, and are lost until this is mended: %s", self._reasons.first)
        self._lost += len(spans)
        return result

    def end(self) -> None:
        """No more tries."""
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()

    def shutdown(self) -> None:
        """The processor's word for `end`."""
        self.end()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True


class _Reasons(logging.Handler):
    """Hears what the SDK logs of a delivery, in place of the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""  # of a delivery
        self._overflown = False
        for name in _SDK:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.handlers = [self, *(each for each in logger.handlers if not isinstance(each, _Reasons))]

    def emit(self, record: logging.LogRecord) -> None:
        said = one_line(record.getMessage())
        if not said.startswith("Queue full"):
            self.first = self.first or said
        elif not self._overflown:
            self._overflown = True
            log.warning("more spans come than are delivered; those beyond OTEL_BSP_MAX_QUEUE_SIZE are dropped")


def opened(to: str, share: float) -> Spans:
    """What records for LISTENER_TRACES.

    Args:
        to: `otlp`, to where OTEL_EXPORTER_OTLP_* say, or `cloud`, to Cloud Trace.
        share: as `Spans` has it.

    Raises:
        ConfigError: there are no credentials, or a variable of OpenTelemetry's has a wrong value.
    """
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "listener"}))
    resource = resource.merge(Resource({SERVICE_VERSION: __version__}))
    try:
        exporter, project = _cloud() if to == "cloud" else (OTLPSpanExporter(), "")
        if project:
            resource = resource.merge(Resource({"gcp.project_id": project}))
        delivery = Delivery(exporter)
        return Spans(BatchSpanProcessor(delivery), delivery, resource, share)
    except ValueError as error:
        raise ConfigError(f"LISTENER_TRACES: {one_line(str(error))}") from error


def _cloud() -> tuple[SpanExporter, str]:
    """The exporter, and the project that it is for.

    Raises:
        ConfigError: there are no credentials, or no project.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession

    try:
        credentials, found = google.auth.default(scopes=_SCOPES)
    except GoogleAuthError as error:
        raise ConfigError(f"LISTENER_TRACES=cloud: {one_line(str(error))}") from error
    project = settings.project() or found
    if not project:
        raise ConfigError("LISTENER_TRACES=cloud: no project is known; set GOOGLE_CLOUD_PROJECT")
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return OTLPSpanExporter(_CLOUD, session=session), project
