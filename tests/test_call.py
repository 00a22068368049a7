"""The nouns that travel: frozen, with harmless defaults."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from listener.call import Call, Columns, Context, Numbers, Reply, Rows


@pytest.mark.parametrize(
    ("noun", "field"),
    [(Context(), "request_id"), (Context(), "deadline"), (Call([1]), "instances"), (Reply([1]), "predictions")],
    ids=["context.request_id", "context.deadline", "call.instances", "reply.predictions"],
)
def test_nobody_can_change_one(noun: Any, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(noun, field, None)


@pytest.mark.parametrize("field", ["headers", "parameters", "extras"])
def test_the_default_mappings_of_a_context_are_empty_and_read_only(field: str) -> None:
    mapping = getattr(Context(), field)
    assert dict(mapping) == {}
    with pytest.raises(TypeError):
        mapping["key"] = "value"


def test_a_context_says_nothing_by_default() -> None:
    context = Call([1, 2]).context
    assert context == Context()
    assert (context.request_id, context.remaining()) == ("", float("inf"))


def test_what_remains_until_the_deadline() -> None:
    assert 99 < Context(deadline=time.monotonic() + 100).remaining() <= 100


def test_what_remains_is_never_negative() -> None:
    assert Context(deadline=time.monotonic() - 1).remaining() == 0.0


def test_equal_contents_make_equal_nouns() -> None:
    assert Reply([1, {"a": 2}]) == Reply([1, {"a": 2}])
    assert Call([1], Context("a")) != Call([1], Context("b"))


def test_views_of_the_body_become_bytes_for_handlers() -> None:
    call = Call([memoryview(b"abc"), "x"], booleans=False)
    assert call.plain() == Call([b"abc", "x"], booleans=False)
    plain = Call([b"abc"])
    assert plain.plain() is plain


def test_what_is_a_list_only_when_somebody_looks_becomes_one_for_handlers() -> None:
    for instances, expected in (
        (Numbers((2,), memoryview(bytes(16)), lambda: [0, 0]), [0, 0]),
        (Columns({"a": [1, 2]}, lambda: [{"a": 1}, {"a": 2}]), [{"a": 1}, {"a": 2}]),
        (Rows(np.array([3, 4])), [3, 4]),
    ):
        call = Call(instances, Context("me"), booleans=False)
        plain = call.plain()
        assert type(plain.instances) is list
        assert (plain.instances, plain.context, plain.booleans) == (expected, call.context, False)
        assert (len(instances), instances[-1], instances[0:1]) == (2, expected[-1], expected[:1])
        assert list(instances) == expected


def test_rows_of_columns_are_made_once() -> None:
    made: list[int] = []

    def make() -> list[int]:
        made.append(1)
        return [1, 2]

    columns = Columns([1, 2], make)
    assert (made, columns.value) == ([], [1, 2])
    assert (len(columns), columns[0], list(columns), made) == (2, 1, [1, 2], [1])
