"""The family of errors: statuses, codes, sentences."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener import errors
from listener.errors import ConfigError, HandlerFailed, InstanceError, InternalError, ListenerError, one_line

# docs/reference/contract.md, "Status codes": class, status, code, Retry-After
FAMILY: list[tuple[type[ListenerError], int, str, int | None]] = [
    (errors.ListenerError, 500, "internal", None),
    (errors.BadRequest, 400, "bad_request", None),
    (errors.InstanceError, 400, "bad_instance", None),
    (errors.InstancesFailed, 400, "bad_instance", None),
    (errors.Forbidden, 403, "forbidden", None),
    (errors.UnknownPath, 404, "unknown_path", None),
    (errors.UnknownModel, 404, "unknown_model", None),
    (errors.WrongMethod, 405, "wrong_method", None),
    (errors.SlowBody, 408, "slow_body", None),
    (errors.BodyTooLarge, 413, "body_too_large", None),
    (errors.Overloaded, 429, "overloaded", 1),
    (errors.InternalError, 500, "internal", None),
    (errors.HandlerFailed, 500, "handler_failed", None),
    (errors.TritonFailed, 502, "triton_failed", None),
    (errors.Unavailable, 503, "unavailable", 1),
    (errors.DeadlineExceeded, 504, "deadline_exceeded", None),
]


@pytest.mark.parametrize(("kind", "status", "code", "retry_after"), FAMILY, ids=[row[0].__name__ for row in FAMILY])
def test_each_error_has_its_status_and_code(
    kind: type[ListenerError], status: int, code: str, retry_after: int | None
) -> None:
    error = kind("a sentence")
    assert (error.status, error.code, error.retry_after) == (status, code, retry_after)


def test_the_table_above_is_the_whole_family() -> None:
    classes = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ListenerError)}
    assert classes == {row[0] for row in FAMILY}


def test_an_error_that_asks_to_come_back_is_one_of_load_or_start() -> None:
    assert {row[0].__name__ for row in FAMILY if row[3]} == {"Overloaded", "Unavailable"}


def test_the_message_is_one_line_and_the_text_of_the_exception() -> None:
    error = errors.BadRequest("two\nlines\t and   blanks ")
    assert error.message == str(error) == "two lines and blanks"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("plain", "plain", id="plain"),
        pytest.param(" plain ", "plain", id="plain between blanks"),
        pytest.param("two  blanks", "two blanks", id="two blanks"),
        pytest.param("  a \r\n b\u2028c ", "a b c", id="all kinds of blanks"),
        pytest.param("x" * 500, "x" * 500, id="just fits"),
        pytest.param("x" * 501, "x" * 497 + "...", id="too long"),
    ],
)
def test_one_line(text: str, expected: str) -> None:
    assert one_line(text) == expected


@given(st.text(max_size=700))
def test_one_line_is_fit_for_a_body_and_a_log_line_whatever_it_gets(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 500
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


def test_one_line_can_be_written_even_if_the_text_cannot() -> None:
    # undecodable bytes, as of a request's path or a file's name, come as lone surrogates, which JSON refuses
    assert one_line("no such path: /\udcff").encode().startswith(b"no such path: /")


def test_an_instance_error_gets_its_place_later() -> None:
    bare = InstanceError("no\npicture")
    placed = bare.at(3)
    assert (bare.message, bare.reason, bare.index) == ("no picture", "no picture", None)
    assert (placed.message, placed.reason, placed.index) == ("instances[3]: no picture", "no picture", 3)
    assert placed.at(5).message == "instances[5]: no picture"


def test_an_instance_error_may_know_its_place_at_once() -> None:
    assert InstanceError("no picture", 0).message == "instances[0]: no picture"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HandlerFailed("preprocess", "digits"), "the handler of 'digits' failed in preprocess; the log has the reason"),
        (HandlerFailed("predict"), "a handler failed in predict; the log has the reason"),
        (InternalError(), "the listener failed on this request; the log has the reason"),
    ],
    ids=["handler of a route", "some handler", "internal"],
)
def test_what_is_no_fault_of_the_caller_is_a_fixed_sentence(error: ListenerError, message: str) -> None:
    assert error.message == message


def test_a_config_error_keeps_its_mistakes_apart() -> None:
    error = ConfigError("first", "second")
    assert error.mistakes == ("first", "second")
    assert str(error) == "first\nsecond"


def test_a_config_error_is_none_that_reaches_a_caller() -> None:
    assert not issubclass(ConfigError, ListenerError)
