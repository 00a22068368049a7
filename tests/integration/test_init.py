"""`listener init` around a real supervisord with small programs: signals, orphans, statuses, lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from listener.process import children
from tests.integration.stack import Stack, alive, command_line, descendants, end, wait_for

pytestmark = pytest.mark.triton  # as the whole folder, whose conftest wants one

HEAD = """\
[supervisord]
nodaemon=true
nocleanup=true
loglevel=warn
logfile=/dev/null
logfile_maxbytes=0
"""
PROGRAM = """
[program:{name}]
command={command}
startsecs=0
stopwaitsecs=30
stdout_logfile=%(ENV_LISTENER_INIT_FOLDER)s/{name}.out
stdout_logfile_maxbytes=0
stderr_logfile=%(ENV_LISTENER_INIT_FOLDER)s/{name}.err
stderr_logfile_maxbytes=0
"""
#: Writes a line, and ends by itself when it is told to.
PATIENT = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


class Run:
    """One init with programs `triton` and `listener`, which are shell scripts here."""

    def __init__(self, folder: Path, **scripts: str) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir()
        conf = folder / "supervisord.conf"
        for name, script in scripts.items():
            (folder / f"{name}.sh").write_text(script)
        sections = [PROGRAM.format(name=name, command=f"sh {folder}/{name}.sh") for name in scripts]
        conf.write_text(HEAD + "".join(sections))
        self.stack = Stack(
            folder / "log", f"init --config {conf}", None, AIP_MODE="PREDICTION", TMPDIR=str(self.temporary)
        )
        self.process = self.stack.process

    def lines(self) -> list[dict[str, str]]:
        """What it has written; each line has to be an object with a severity."""
        found = [json.loads(line) for line in self.stack.output().splitlines()]
        assert all(line["severity"] for line in found)
        return found

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]

    def until(self, message: str, times: int = 1) -> None:
        wait_for(lambda: self.messages().count(message) >= times, 20, self.stack.output)

    def supervisord(self) -> int:
        (pid,) = (pid for pid in children(self.process.pid) if "listener.supervised" in command_line(pid))
        return pid


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started = list[Run]()

    def start(**scripts: str) -> Run:
        started.append(Run(tmp_path, **scripts))
        return started[-1]

    yield start
    for each in started:
        end(each.process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_what_stops_it_stops_the_programs_first(run: Callable[..., Run], number: int) -> None:
    made = run(triton=PATIENT)
    made.until("ready")
    family = descendants(made.process.pid)
    assert made.stack.stop(number) == 0
    assert "bye" in made.messages()
    assert len(family) >= 2
    assert not [pid for pid in family if alive(pid)]
    assert list(made.temporary.iterdir()) == []


def test_the_second_signal_forces(run: Callable[..., Run]) -> None:
    made = run(triton=STUBBORN, listener=STUBBORN)
    made.until("ready", 2)
    family = descendants(made.process.pid)
    made.process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert made.process.poll() is None
    assert made.stack.stop(patience=5) == 1
    assert not [pid for pid in family if alive(pid)]
    assert made.messages()[-1] == "forced to stop"


def test_sighup_has_supervisord_begin_anew(run: Callable[..., Run]) -> None:
    made = run(triton=PATIENT)
    made.until("ready")
    made.process.send_signal(signal.SIGHUP)
    made.until("ready", 2)
    assert made.stack.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_end_nothing_and_lines_go_on(run: Callable[..., Run], number: int) -> None:
    made = run(triton="trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; echo beat; done")
    made.until("beat")
    made.process.send_signal(number)
    time.sleep(0.5)
    made.until("beat", made.messages().count("beat") + 3)
    assert made.stack.stop() == 0


def test_orphans_become_its_children_and_are_reaped(run: Callable[..., Run]) -> None:
    """A program that starts something in a session of its own, and leaves it."""
    made = run(triton="(setsid sh -c 'echo $$; sleep 2' &); " + PATIENT.replace("echo ready; ", ""))
    wait_for(lambda: any(message.isdigit() for message in made.messages()), 20, made.stack.output)
    orphan = next(int(message) for message in made.messages() if message.isdigit())
    wait_for(lambda: orphan in children(made.process.pid), 5)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), 10)
    assert made.stack.stop() == 0


def test_what_outlives_supervisord_is_ended(run: Callable[..., Run]) -> None:
    made = run(triton=f'(setsid sh -c "echo $$; {PATIENT.replace("$", chr(92) + "$")}" &); {PATIENT}')
    made.until("ready", 2)
    family = descendants(made.process.pid)
    assert made.stack.stop() == 0
    assert not [pid for pid in family if alive(pid)]


def test_the_death_of_supervisord_is_a_failure(run: Callable[..., Run]) -> None:
    made = run(triton=PATIENT)
    made.until("ready")
    family = descendants(made.process.pid)
    os.kill(made.supervisord(), signal.SIGKILL)
    assert made.process.wait(20) == 1
    assert not [pid for pid in family if alive(pid)]


def test_supervisord_dies_with_it(run: Callable[..., Run]) -> None:
    made = run()
    wait_for(lambda: any(made.temporary.glob("*/supervisord.pid")), 10)
    supervisord = made.supervisord()
    made.process.kill()
    made.process.wait()
    wait_for(lambda: not alive(supervisord), 10)


def test_every_line_comes_whole_and_as_json(run: Callable[..., Run]) -> None:
    """Also those that are written in pieces, by two programs at once, and those that nobody meant for a log."""
    word = "x" * 70_000
    half = '{"severity":"INFO","message":"' + "y" * 30_000
    made = run(
        triton=f"printf '%s' '{half}'; sleep 0.5; echo '{half[30:]}\"}}'; echo plain; echo fault >&2; {PATIENT}",
        listener=f"sleep 0.25; echo {word}; echo '{{\"a\": 1}}'; {PATIENT}",
    )
    made.until("ready", 2)
    by_message = {line["message"]: line for line in made.lines()}
    assert by_message["y" * 30_000 + half[30:]]["severity"] == "INFO"
    assert (by_message["plain"]["severity"], by_message["plain"]["logger"]) == ("INFO", "triton")
    assert (by_message["fault"]["severity"], by_message["fault"]["logger"]) == ("ERROR", "triton")
    assert by_message[word]["logger"] == "listener"
    assert '{"a": 1}' in by_message
    assert made.stack.stop() == 0


def test_a_configuration_that_is_wrong_is_a_failure(run: Callable[..., Run], tmp_path: Path) -> None:
    stack = Stack(tmp_path / "log", "init --config /no/such/file", None)
    assert stack.process.wait(20) == 1
    (line,) = [json.loads(line) for line in stack.output().splitlines() if "such" in line]
    assert (line["severity"], line["logger"]) == ("ERROR", "supervisord")


def test_a_setting_that_is_wrong_is_a_failure(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "log", "init", None, LISTENER_TIMEOUT="soon")
    assert stack.process.wait(20) == 1
    line = json.loads(stack.output())
    assert (line["severity"], line["message"]) == ("ERROR", "LISTENER_TIMEOUT: 'soon' is not a number of seconds")


def test_the_folder_of_the_mark_is_nobody_elses(run: Callable[..., Run]) -> None:
    made = run(triton=PATIENT)
    made.until("ready")
    (folder,) = made.temporary.iterdir()
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, os.getuid())
    (folder / "failed").touch()
    assert made.stack.stop() == 1


def test_a_reader_that_leaves_does_not_hold_up_the_stop(run: Callable[..., Run], tmp_path: Path) -> None:
    """Nobody reads what it writes, and the pipe is full: signals are minded all the same."""
    conf = tmp_path / "supervisord.conf"
    (tmp_path / "busy.sh").write_text("trap 'exit 0' TERM; while :; do echo much; done")
    conf.write_text(HEAD + PROGRAM.format(name="triton", command=f"sh {tmp_path}/busy.sh"))
    argv = [sys.executable, "-m", "listener", "init", "--config", str(conf)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(15) == 1
    finally:
        process.stdout.close()
        end(process)
