"""Which trace a request's headers name, and what a log line says of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.tracing import Trace, log_fields, trace_of

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"traceparent": f"00-{ID}-{SPAN}-01"}, Trace(ID, SPAN, True)),
        ({"traceparent": f"00-{ID}-{SPAN}-00"}, Trace(ID, SPAN, False)),
        ({"traceparent": f"01-{ID}-{SPAN}-03-more"}, Trace(ID, SPAN, True)),
        ({"x-cloud-trace-context": f"{ID}/255;o=1"}, Trace(ID, "00000000000000ff", True)),
        ({"x-cloud-trace-context": f"{ID.upper()}/255"}, Trace(ID, "00000000000000ff", False)),
        ({"x-cloud-trace-context": ID}, Trace(ID, "", False)),
        ({"x-cloud-trace-context": f"{ID}/{1 << 64};o=1"}, Trace(ID, "", True)),
        ({"traceparent": f"00-{ID}-{SPAN}-01", "x-cloud-trace-context": "0" * 31 + "1"}, Trace(ID, SPAN, True)),
        ({"traceparent": "broken", "x-cloud-trace-context": ID}, Trace(ID, "", False)),
    ],
)
def test_a_trace_is_read_from_either_header(headers: dict[str, str], trace: Trace) -> None:
    assert trace_of(headers) == trace


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": ""},
        {"traceparent": f"ff-{ID}-{SPAN}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"00-{ID}-{'0' * 16}-01"},
        {"traceparent": f"00-{ID.upper()}-{SPAN}-01"},
        {"traceparent": f"00-{ID}-{SPAN}"},
        {"traceparent": f"00-{ID}-{SPAN}-01\n"},
        {"x-cloud-trace-context": "0" * 32},
        {"x-cloud-trace-context": f"{ID}/x"},
        {"x-cloud-trace-context": f"{ID}, {ID}"},
    ],
)
def test_what_is_no_trace_is_as_good_as_none(headers: dict[str, str]) -> None:
    assert trace_of(headers) is None


@given(st.dictionaries(st.sampled_from(["traceparent", "x-cloud-trace-context"]), st.text()))
def test_no_header_is_too_odd(headers: dict[str, str]) -> None:
    trace_of(headers)


def test_a_log_line_names_it_as_cloud_logging_wants_it() -> None:
    assert log_fields(Trace(ID, SPAN, True), "my-project") == {
        "logging.googleapis.com/trace": f"projects/my-project/traces/{ID}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": True,
    }
    assert log_fields(Trace(ID, "", False), "") == {
        "logging.googleapis.com/trace": ID,
        "logging.googleapis.com/trace_sampled": False,
    }
