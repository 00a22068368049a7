"""Which trace a request belongs to, as its headers say, and what there is to say of it there. Pure.

`traceparent` (https://www.w3.org/TR/trace-context/#traceparent-header) goes before Google's older
`X-Cloud-Trace-Context` (https://cloud.google.com/trace/docs/trace-context#legacy-http-header). What is neither is as
good as none: a caller's mistake there is no reason to refuse its request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Version 00, and later ones, which may have more behind the flags.
_W3C = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_CLOUD = re.compile(r"(?!0{32})([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")


class Trace(NamedTuple):
    """A place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the caller's span, 16 hexadecimal digits; "" = it is not said.
        sampled: the caller records this trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


class End(NamedTuple):
    """How a request ended. Moments are of `time.monotonic()`.

    Attributes:
        begun: when it got its permit, or gave up waiting for one.
        ended: when its answer was encoded, or it was known that there is none.
        status: that it is answered with; 499 = its client left.
        route, branch, model: as `gate.Permit` has them.
    """

    begun: float
    ended: float
    status: int
    route: str = ""
    branch: str = ""
    model: str = ""


def trace_of(headers: Mapping[str, str]) -> Trace | None:
    """The trace of a request.

    Args:
        headers: names in lower case.
    """
    if found := _W3C.fullmatch(headers.get("traceparent", "")):
        return Trace(found[1], found[2], bool(int(found[3], 16) & 1))
    if found := _CLOUD.fullmatch(headers.get("x-cloud-trace-context", "")):
        span = int(found[2] or 0)
        return Trace(found[1].lower(), f"{span:016x}" if 0 < span < 1 << 64 else "", found[3] == "1")
    return None


def traceparent(trace_id: int, span_id: int) -> str:
    """The header's value for a span of a trace that is recorded."""
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def log_fields(trace: Trace, project: str) -> dict[str, object]:
    """The special fields of a structured log line, by which Cloud Logging shows it beside its trace.

    https://cloud.google.com/logging/docs/structured-logging#special-payload-fields

    Args:
        trace: of the request.
        project: its id or number; "" = not known, and the trace's id stands alone.
    """
    name = f"projects/{project}/traces/{trace.trace_id}" if project else trace.trace_id
    fields: dict[str, object] = {"logging.googleapis.com/trace": name}
    if trace.span_id:
        fields["logging.googleapis.com/spanId"] = trace.span_id
    return fields | {"logging.googleapis.com/trace_sampled": trace.sampled}
