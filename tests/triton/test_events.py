"""Triton's streams of events, taken apart."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import TritonFailed
from listener.triton.events import Events

OBJECTS = st.dictionaries(
    st.text("ab\n:", max_size=4), st.integers(0, 9) | st.text("d\n\r ata:", max_size=8), max_size=3
)


def read(pieces: list[bytes]) -> list[dict[str, Any]]:
    events = Events()
    return [event for piece in pieces for event in events.feed(piece)]


@given(st.lists(OBJECTS, max_size=5), st.lists(st.integers(0, 200), max_size=8))
def test_events_are_whole_however_they_are_cut(values: list[dict[str, Any]], cuts: list[int]) -> None:
    stream = b"".join(b"data: %b\n\n" % orjson.dumps(value) for value in values)
    ends = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[a:b] for a, b in zip([0, *ends], [*ends, len(stream)], strict=True)]
    assert read(pieces) == values


def test_an_event_is_there_as_soon_as_it_is_whole() -> None:
    events = Events()
    assert list(events.feed(b'data: {"N": 1}\n')) == []
    assert list(events.feed(b'\ndata: {"N"')) == [{"N": 1}]
    assert list(events.feed(b": 2}\n\n")) == [{"N": 2}]


@pytest.mark.parametrize("said", [b"{", b"data: [1]", b"data: 1", b"data:", b"", b": a comment", b'data: {"N": NaN}'])
def test_what_is_no_object_is_tritons_failure(said: bytes) -> None:
    with pytest.raises(TritonFailed, match=r"^an event of Triton's stream cannot be read$"):
        read([b'data: {"N": 1}\n\n' + said + b"\n\n"])


def test_those_before_it_are_there_all_the_same() -> None:
    events = Events().feed(b'data: {"N": 1}\n\nnothing\n\n')
    assert next(events) == {"N": 1}
    with pytest.raises(TritonFailed):
        next(events)
