"""`listener init`, the image's PID 1: runs supervisord, hands signals on, reaps, and ends with a status that tells.

supervisord ends with 0 whatever has happened, and only another status makes a platform start the container anew. So
`starts.py`, which counts as supervisord's event listener, leaves a mark here when a program is beyond help. The mark
lies in a folder of this process alone, beside a named pipe for each stream of the programs: through these their lines
come out whole, however many bytes supervisord reads at a time, and as JSON, whoever wrote them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import orjson

from listener import observe, process, settings, temporary
from listener.errors import ConfigError
from listener.process import INIT_FOLDER, INIT_MARK
from listener.settings import Settings

#: The environment's names for whole seconds in which supervisord lets a program stop; supervisord.conf has them.
_SERVE_STOP, _TRITON_STOP = "LISTENER_INIT_SERVE_STOP", "LISTENER_INIT_TRITON_STOP"
#: The named pipes, as supervisord.conf has them: PROGRAM.STREAM.
_PIPES = ("triton.out", "triton.err", "listener.out", "listener.err", "starts.err")
#: supervisord's own, which are pipes without a name.
_OWN_STREAMS = ("supervisord.out", "supervisord.err")
#: What stops everything, and what else is handed on. SIGUSR1 is not: supervisord would die of it.
_STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_HANDED_ON = {*_STOPPING, signal.SIGHUP, signal.SIGUSR2}
_MINDED = {*_HANDED_ON, signal.SIGUSR1, signal.SIGCHLD}
#: Seconds that what is left after supervisord's end has to end as well; nothing is, unless that was killed.
_PATIENCE = 10.0
#: Seconds between two looks at it.
_LOOK = 0.1
#: Bytes of a line; a longer one comes in pieces.
_LONGEST = 1 << 20
#: `2026-11-22 19:12:04,577 INFO text`, the form of supervisord's own lines.
_OWN_LINE = re.compile(r"[\d-]{10} [\d:]{8},\d{3} ([A-Z]{4}) (.*)")
#: What it warns of is a stop that was asked for, or an end of which `starts.py` tells.
_OWN_LEVEL = {"CRIT": logging.CRITICAL, "ERRO": logging.ERROR}


class Output:
    """Whole lines on stdout, written by several threads.

    Args:
        form: json, human or auto; what the programs write to pipes under auto is JSON, and so is the rest.
    """

    def __init__(self, form: str) -> None:
        self._for_people = form == "human"
        self._formatter = observe.formatter("human" if self._for_people else "json", sys.stdout)
        self._lock = threading.Lock()

    def say(self, logger: str, level: int, text: str) -> None:
        """A line of a logger's."""
        self._write(self._formatter.format(logging.LogRecord(logger, level, "", 0, text, None, None)).encode())

    def copy(self, stream: IO[bytes], name: str, level: int) -> None:
        """Copies lines until the stream's end. One that is no line of a log becomes one, of this name and level."""
        with stream:
            while line := stream.readline(_LONGEST):
                self._copy_line(line.rstrip(b"\r\n"), name, level)

    def _copy_line(self, line: bytes, name: str, level: int) -> None:
        if self._for_people or _is_log_line(line):
            self._write(line)
        elif line:
            text = line.decode("utf-8", "replace")
            if name == "supervisord" and (match := _OWN_LINE.fullmatch(text)):
                level, text = _OWN_LEVEL.get(match[1], logging.INFO), match[2]
            self.say(name, level, text)

    def _write(self, line: bytes) -> None:
        """Without a reader lines are lost, but the programs need not stop."""
        left = line + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while left:
                left = left[os.write(sys.stdout.fileno(), left) :]


def _is_log_line(line: bytes) -> bool:
    try:
        return "severity" in orjson.loads(line)
    except (orjson.JSONDecodeError, TypeError):
        return False


class Init:
    """One run of supervisord.

    Args:
        config: its configuration file.
        folder: a folder of ours alone.
        configured: all settings.
        output: where lines go.
    """

    def __init__(self, config: str, folder: Path, configured: Settings, output: Output) -> None:
        self._config, self._folder, self._settings, self._output = config, folder, configured, output
        self._told = False
        self._status: int | None = None

    def run(self) -> int:
        """Runs until supervisord and all that it started have ended.

        Returns:
            0, or 1 when a program was beyond help, supervisord failed, or a second signal forced the stop.
        """
        process.adopt_orphans()
        signal.pthread_sigmask(signal.SIG_BLOCK, _MINDED)
        held = [self._held(name) for name in _PIPES]
        self._supervisord = self._started()
        copying = [self._copying(name) for name in (*_OWN_STREAMS, *_PIPES)]
        failed = self._forced_or_ended() or bool(self._status) or (self._folder / INIT_MARK).exists()
        for descriptor in held:
            os.close(descriptor)  # the last writer's end, and so the pipe's
        for thread in copying:
            thread.join(_LOOK * 10)
        return int(failed)

    def _held(self, name: str) -> int:
        """Makes a named pipe and holds it open, so that it lasts while the programs come and go."""
        os.mkfifo(self._folder / name, 0o600)
        return os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)

    def _started(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "listener.supervised", "-n", "-c", self._config]
        argv += ["-j", str(self._folder / "supervisord.pid")]
        if os.getuid() == 0:
            argv += ["-u", "0"]  # else it finds fault with that
        dying = process.die_with(os.getpid())

        def before_exec() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _MINDED)
            if dying:
                dying()

        return subprocess.Popen(
            argv,
            env=self._environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=before_exec,
        )

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Ours, with our Python in front, the private folder, and how long the programs may take to stop."""
        return {
            **environ,
            "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}",
            INIT_FOLDER: str(self._folder),
            _SERVE_STOP: str(math.ceil(self._settings.worker_patience) + 1),
            _TRITON_STOP: str(math.ceil(self._settings.triton_patience) + 1),
        }

    def _copying(self, stream: str) -> threading.Thread:
        program, kind = stream.split(".")
        level = logging.ERROR if kind == "err" else logging.INFO  # as the platform takes plain lines of the two
        thread = threading.Thread(target=self._output.copy, args=(self._opened(stream), program, level), daemon=True)
        thread.start()
        return thread

    def _opened(self, stream: str) -> IO[bytes]:
        own = dict(zip(_OWN_STREAMS, (self._supervisord.stdout, self._supervisord.stderr), strict=True))
        return own.get(stream) or open(self._folder / stream, "rb")

    def _forced_or_ended(self) -> bool:
        """Waits for the end of all. True: a second signal forced it."""
        while self._status is None:
            if self._forced(signal.sigwait(_MINDED)):
                self._kill_all()
                return True
        self._end_others()
        return False

    def _forced(self, number: int) -> bool:
        """Does what a signal asks for. True: it is the second one that asks for the end."""
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGUSR1:
            self._say(logging.INFO, "SIGUSR1 is for nobody here")
        else:
            if self._told and number in _STOPPING:
                self._say(logging.WARNING, "forced to stop")
                return True
            self._told = self._told or number in _STOPPING
            self._supervisord.send_signal(number)
        return False

    def _say(self, level: int, text: str) -> None:
        """In a thread: whoever minds the signals does not wait for a reader of stdout."""
        saying = threading.Thread(target=self._output.say, args=("listener.init", level, text), daemon=True)
        saying.start()
        saying.join(_LOOK)

    def _reap(self) -> bool:
        """Takes the statuses of all children that have ended. Returns whether there are others."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._supervisord.pid:
                    self._status = self._supervisord.returncode = os.waitstatus_to_exitcode(ended[1])
            return True
        return False

    def _end_others(self) -> None:
        """Ends what outlived supervisord: SIGTERM, then SIGKILL."""
        until = time.monotonic() + _PATIENCE
        told = set[int]()
        while self._reap():
            for pid in set(process.children(os.getpid())) - told:
                told.add(pid)
                _send(pid, signal.SIGTERM)
            number = signal.sigtimedwait(_MINDED, _LOOK)
            if time.monotonic() > until or (number and number.si_signo in _STOPPING):
                return self._kill_all()
        return None

    def _kill_all(self) -> None:
        """What is killed leaves its own children to us, so this goes on until nobody is left."""
        until = time.monotonic() + _PATIENCE
        while self._reap() and time.monotonic() < until:
            for pid in process.children(os.getpid()):
                _send(pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, _LOOK)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def main(config: str) -> int:
    """Runs supervisord with a configuration file. Returns the exit status."""
    try:
        configured = settings.read()
        with tempfile.TemporaryDirectory(
            prefix="listener-init-", dir=temporary.folder()
        ) as folder:  # readable for us alone
            return Init(config, Path(folder), configured, Output(configured.log_format)).run()
    except ConfigError as error:
        return _refused(*error.mistakes)
    except OSError as error:  # such as no folder that can be written
        return _refused(f"cannot start: {error}")


def _refused(*sentences: str) -> int:
    for sentence in sentences:
        Output("auto").say("listener.init", logging.ERROR, sentence)
    return 1
