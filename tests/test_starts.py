"""When a program of the image is beyond help, told from supervisord's events."""

from __future__ import annotations

import configparser
import io
from pathlib import Path

import pytest

from listener import process, starts
from listener.starts import Starts

CONF = Path(__file__).parents[1] / "supervisord.conf"


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lived(counted: Starts, clock: Clock, program: str, seconds: float, expected: str = "0") -> str:
    """One start of a program and its end."""
    words = {"processname": program, "expected": expected}
    assert counted.beyond_help("PROCESS_STATE_STARTING", words) == ""
    assert counted.beyond_help("PROCESS_STATE_RUNNING", words) == ""
    clock.now += seconds
    return counted.beyond_help("PROCESS_STATE_EXITED", words)


def test_a_program_that_gives_up_is_beyond_help_at_once() -> None:
    clock = Clock()
    assert lived(Starts(clock), clock, "triton", 100, "1") == "triton has given up; its own message says why"


def test_as_many_short_starts_in_a_row_as_up_has_patience_for() -> None:
    clock = Clock()
    counted = Starts(clock)
    limit = process.Backoff().limit
    said = [lived(counted, clock, "triton", process.STARTED_AFTER - 0.1) for _ in range(limit)]
    assert said[:-1] == [""] * (limit - 1)
    assert said[-1] == f"triton ended at each of its last {limit} starts, within 10 s of them"


def test_a_start_that_lasted_begins_the_count_anew() -> None:
    clock = Clock()
    counted = Starts(clock)
    said = [lived(counted, clock, "listener", seconds) for seconds in (1, 1, 1, 1, process.STARTED_AFTER, 1, 1, 1, 1)]
    assert set(said) == {""}


def test_each_program_has_a_count_of_its_own() -> None:
    clock = Clock()
    counted = Starts(clock)
    assert {lived(counted, clock, program, 1) for _ in range(4) for program in ("listener", "triton")} == {""}


def test_a_program_that_cannot_be_started_is_beyond_help() -> None:
    assert Starts().beyond_help("PROCESS_STATE_FATAL", {"processname": "triton"}) == "triton cannot be started"


@pytest.mark.parametrize("event", ["PROCESS_STATE_STOPPING", "PROCESS_STATE_STOPPED", "PROCESS_STATE_BACKOFF"])
def test_a_stop_is_nothing_of_that_kind(event: str) -> None:
    assert Starts().beyond_help(event, {"processname": "listener", "pid": "7"}) == ""


def test_events_are_read_and_acknowledged_as_supervisord_wants_it() -> None:
    payload = "processname:triton groupname:triton from_state:RUNNING expected:0 pid:7"
    head = f"ver:3.0 server:supervisor serial:21 pool:starts eventname:PROCESS_STATE_EXITED len:{len(payload)}"
    said = io.StringIO()
    found = list(starts.events(io.StringIO(f"{head}\n{payload}" * 2), said))
    name, words = found[0]
    assert (name, words["processname"], words["expected"]) == ("PROCESS_STATE_EXITED", "triton", "0")
    assert len(found) == 2
    assert said.getvalue() == "READY\nRESULT 2\nOKREADY\nRESULT 2\nOKREADY\n"


def test_the_images_configuration_calls_giving_up_expected() -> None:
    """`starts` takes it from there; supervisord neither waits nor counts by itself."""
    conf = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    conf.read(CONF)
    for program in ("program:triton", "program:listener"):
        assert conf[program]["exitcodes"].split(",") == ["1", str(process.EX_CONFIG)]
        assert conf[program]["autorestart"] == "unexpected"
        assert conf[program]["startsecs"] == "0"
        assert "user" not in conf[program]
