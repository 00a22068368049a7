"""Log lines: JSON for machines, text for people, and Triton's own among them."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from listener import observe
from listener.call import REQUEST, Context
from listener.observe import HumanFormatter, JsonFormatter, Sums, TritonLog

LOGGERS = [None, "listener", "triton", "handlers"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def record(message: str, *args: object, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("listener.x", level, "x.py", 1, message, args, extra.pop("exc_info", None))
    made.created, made.msecs = 1700000000.25, 250.0
    made.__dict__.update(extra)
    return made


def failure() -> Any:
    try:
        raise ValueError("broken")
    except ValueError:
        return sys.exc_info()


# JSON


def test_a_json_line_as_cloud_logging_reads_it() -> None:
    assert json.loads(JsonFormatter().format(record("%s of %d", "one", 2))) == {
        "severity": "INFO",
        "time": "2023-11-14T22:13:20.250Z",
        "logger": "listener.x",
        "message": "one of 2",
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARNING"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "CRITICAL"),
        (25, "DEFAULT"),
    ],
)
def test_the_severity(level: int, severity: str) -> None:
    assert json.loads(JsonFormatter().format(record("x", level=level)))["severity"] == severity


def test_fields_stand_beside_the_message() -> None:
    line = json.loads(JsonFormatter().format(record("x", fields={"request_id": "r", "status": 503})))
    assert (line["message"], line["request_id"], line["status"]) == ("x", "r", 503)


def test_a_line_of_a_request_has_its_id_and_its_trace() -> None:
    """Also one that a handler writes; and none has those of a request that is over."""
    trace = "0af7651916cd43dd8448eb211c80319c"

    def write() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(JsonFormatter("p").format(record("x")))
        return found

    context = contextvars.copy_context()
    context.run(REQUEST.set, Context("r", {"x-cloud-trace-context": f"{trace}/1;o=1"}))
    line = context.run(write)
    assert (line["request_id"], line["logging.googleapis.com/trace"]) == ("r", f"projects/p/traces/{trace}")
    assert "request_id" not in write()


def test_what_became_of_a_request_stands_where_cloud_logging_looks_for_it() -> None:
    line = json.loads(JsonFormatter().format(record("x", fields={"path": "/predict", "status": 400})))
    assert line["httpRequest"] == {"requestUrl": "/predict", "status": 400}


def test_a_trace_stays_in_its_json_line() -> None:
    text = JsonFormatter().format(record("x", exc_info=failure()))
    assert "\n" not in text
    assert json.loads(text)["trace"].endswith("ValueError: broken")


@pytest.mark.parametrize(
    ("message", "fields"),
    [("two\nlines", {}), ("x", {"what": object()}), ("x", {"what": {1, 2}}), ("caf\udce9.png", {})],
    ids=["line break", "any object", "a set", "undecodable file name"],
)
def test_whatever_is_logged_is_one_line_of_json(message: str, fields: dict[str, object]) -> None:
    text = JsonFormatter().format(record(message, fields=fields))
    assert len(text.splitlines()) == 1
    assert json.loads(text)["severity"] == "INFO"


# People


def test_a_line_for_people() -> None:
    text = HumanFormatter().format(record("hello %s", "you", fields={"a": 1, "b": "c"}))
    assert re.fullmatch(r"\d\d:\d\d:\d\d listener\.x: hello you  a=1 b=c", text)


@pytest.mark.parametrize(
    ("level", "colour"),
    [(logging.DEBUG, "\x1b[2m"), (logging.WARNING, "\x1b[33m"), (logging.ERROR, "\x1b[31m"), (50, "\x1b[31;1m")],
)
def test_people_see_the_severity_as_a_colour(level: int, colour: str) -> None:
    text = HumanFormatter().format(record("x", level=level))
    assert text.startswith(colour)
    assert text.endswith("\x1b[0m")


def test_people_see_the_trace() -> None:
    assert HumanFormatter().format(record("x", exc_info=failure())).endswith("ValueError: broken")


# Set-up


@pytest.mark.parametrize(
    ("form", "stream", "people"),
    [
        ("json", Terminal(), False),
        ("human", io.StringIO(), True),
        ("auto", Terminal(), True),
        ("auto", io.StringIO(), False),
    ],
    ids=["json on a terminal", "human in a pipe", "auto on a terminal", "auto in a pipe"],
)
def test_the_form(form: str, stream: io.StringIO, people: bool) -> None:
    observe.set_up("info", "info", form, stream)
    logging.getLogger("listener.x").info("hello")
    assert stream.getvalue().startswith("{") is not people
    assert "hello" in stream.getvalue()


def test_the_levels_are_apart() -> None:
    stream = io.StringIO()
    observe.set_up("debug", "error", "json", stream)
    for name in ("listener.x", "handlers.x", "triton", "aiohttp.access"):
        logging.getLogger(name).debug("%s debug", name)
        logging.getLogger(name).warning("%s warning", name)
    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages == [
        "listener.x debug",
        "listener.x warning",
        "handlers.x debug",
        "handlers.x warning",
        "aiohttp.access warning",
    ]


def test_setting_up_again_replaces_what_was_there() -> None:
    first, second = io.StringIO(), io.StringIO()
    observe.set_up("info", "info", "json", first)
    observe.set_up("info", "info", "json", second)
    logging.getLogger("listener").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_lines_go_to_stdout_of_their_own_accord(capsys: pytest.CaptureFixture[str]) -> None:
    observe.set_up("info", "info", "json")
    logging.getLogger("listener").error("here")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["message"] == "here"
    assert captured.err == ""


def test_warn_all(caplog: pytest.LogCaptureFixture) -> None:
    observe.warn_all("listener.settings", ["100 % sure", "second"])
    assert caplog.record_tuples == [
        ("listener.settings", logging.WARNING, "100 % sure"),
        ("listener.settings", logging.WARNING, "second"),
    ]


# Triton's lines

PREFIX = "1122 18:31:49.267744 4713 server.cc:604] "


def written(caplog: pytest.LogCaptureFixture, lines: list[str], gpu: bool = True) -> list[tuple[int, str]]:
    log = TritonLog(gpu)
    with caplog.at_level(logging.DEBUG, "triton"):
        for line in lines:
            log.write(line)
    return [(entry.levelno, entry.getMessage()) for entry in caplog.records if entry.name == "triton"]


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        (f"I{PREFIX}hello", logging.INFO, "hello"),
        (f'W{PREFIX}"quoted"', logging.WARNING, "quoted"),
        (f"E{PREFIX}bad %s 100%", logging.ERROR, "bad %s 100%"),
        (f"F{PREFIX}dead", logging.CRITICAL, "dead"),
        ("no prefix  at all", logging.INFO, "no prefix at all"),
        ("X" + PREFIX + "x", logging.INFO, "X" + PREFIX + "x"),
    ],
    ids=["info", "warning", "error", "fatal", "bare", "unknown letter"],
)
def test_a_line_of_triton(caplog: pytest.LogCaptureFixture, line: str, level: int, message: str) -> None:
    assert written(caplog, [line]) == [(level, message)]


def test_the_place_in_tritons_source_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    written(caplog, [f"I{PREFIX}hello", "bare"])
    assert [vars(entry)["fields"] for entry in caplog.records] == [{"source": "server.cc:604"}, {}]


def test_a_line_without_prefix_inherits_the_level(caplog: pytest.LogCaptureFixture) -> None:
    assert written(caplog, ["first", f"E{PREFIX}bad", "  details", f"I{PREFIX}fine", "more"]) == [
        (logging.INFO, "first"),
        (logging.ERROR, "bad"),
        (logging.ERROR, "details"),
        (logging.INFO, "fine"),
        (logging.INFO, "more"),
    ]


@pytest.mark.parametrize("line", ["", "   ", f"I{PREFIX}", "+------+-----+", '""'])
def test_blank_lines_and_table_frames_are_dropped(caplog: pytest.LogCaptureFixture, line: str) -> None:
    assert written(caplog, [line]) == []


@pytest.mark.parametrize(("gpu", "level"), [(True, logging.ERROR), (False, logging.INFO)])
def test_that_there_is_no_gpu_is_an_error_only_where_there_is_one(
    caplog: pytest.LogCaptureFixture, gpu: bool, level: int
) -> None:
    line = f"E{PREFIX}CudaDriverHelper has not been initialized."
    assert written(caplog, [line], gpu) == [(level, "CudaDriverHelper has not been initialized.")]


# Sums


async def test_of_many_alike_the_first_is_logged_and_the_others_are_a_number() -> None:
    told: list[tuple[str, int]] = []
    sums = Sums(lambda sentence, count: told.append((sentence, count)), 0.01)
    assert [sums.is_first(sentence) for sentence in ("a", "a", "b", "a")] == [True, False, True, False]
    assert told == []
    await until(lambda: told == [("a", 2)])
    assert not sums.is_first("a")  # it went on, so it is in the next number
    await until(lambda: told == [("a", 2), ("a", 1)])


async def test_sentences_that_are_all_different_are_a_number_too() -> None:
    told: list[tuple[str, int]] = []
    sums = Sums(lambda sentence, count: told.append((sentence, count)), 0.01)
    assert sum(sums.is_first(f"{number} of them") for number in range(100)) == Sums.KINDS + 1
    await until(lambda: bool(told))
    assert told == [("others", 100 - Sums.KINDS - 1)]


async def test_after_a_pause_the_next_is_a_first_again_and_nothing_is_told_of_none() -> None:
    told: list[tuple[str, int]] = []
    sums = Sums(lambda sentence, count: told.append((sentence, count)), 0.01)
    assert sums.is_first("a")
    await asyncio.sleep(0.05)
    assert sums.is_first("a")
    assert told == []


def test_a_loop_that_has_ended_leaves_nothing_to_the_next() -> None:
    sums = Sums(lambda sentence, count: None)

    async def twice() -> tuple[bool, bool]:
        return sums.is_first("a"), sums.is_first("a")

    assert asyncio.run(twice()) == asyncio.run(twice()) == (True, False)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
