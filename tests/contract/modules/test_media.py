"""What form a body has, and what a client accepts: docs/reference/contract.md, "Bodies"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.contract import media
from listener.contract.media import EVENTS, JSON, NPY, Form

VENDOR = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
TEXT = st.text(st.characters(codec="latin-1"), max_size=60)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("", Form.JSON),
        ("application/json", Form.JSON),
        ("APPLICATION/JSON ; charset=utf-8", Form.JSON),
        ("application/cloudevents+json", Form.JSON),
        ("application/x-www-form-urlencoded", Form.JSON),
        ("application/octet-stream", Form.BYTES),
        ("application/octet-stream; json-header-size=5", Form.BYTES),
        ("application/x-npy", Form.NPY),
        ("Application/X-NPY; version=1", Form.NPY),
        ("image/jpeg", Form.BYTES),
        ("text/plain; charset=utf-8", Form.BYTES),
        ("text/json", Form.BYTES),
        ("nothing", Form.BYTES),
        (";", Form.JSON),
        (f"{VENDOR}5", Form.BINARY),
        (f"{VENDOR.upper()}5", Form.BINARY),  # to be refused, as Triton does
        (f"text/plain; {VENDOR}5", Form.BINARY),
        ("application/vnd.vertex-ai-triton.binary+json", Form.BINARY),
    ],
)
def test_the_head_tells_the_form(content_type: str, form: Form) -> None:
    assert media.form(content_type) is form
    assert media.form(content_type, has_header_length=True) is Form.BINARY


@given(TEXT)
def test_every_media_type_has_a_form(content_type: str) -> None:
    assert isinstance(media.form(content_type), Form)


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream",
        "Text/Event-Stream",
        " text/event-stream ; charset=utf-8",
        "application/json, text/event-stream",
        "text/event-stream;q=0.1, */*",
        "text/event-stream;q=0.001",
        "text/event-stream;q=1;level=0",
        "text/event-stream;level=0",
    ],
)
def test_who_names_events_gets_events(accept: str) -> None:
    assert media.accepts(accept, EVENTS)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/*",
        "application/json",
        "text/event-streams",
        "xtext/event-stream",
        "application/json;x=text/event-stream",
        "text/event-stream;q=0",
        "text/event-stream; Q=0.000, application/json",
        "application/json, text/event-stream ; q = 0.0 ; level=1",
    ],
)
def test_who_does_not_name_them_or_does_not_want_them_gets_none(accept: str) -> None:
    assert not media.accepts(accept, EVENTS)


@given(TEXT, st.sampled_from([EVENTS, NPY, JSON]), TEXT)
def test_an_accept_header_may_say_anything(before: str, wanted: str, after: str) -> None:
    assert media.accepts(f"{before},{wanted},{after}", wanted)
    assert media.accepts(before, wanted) <= (wanted in before.lower())
