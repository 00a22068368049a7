"""supervisord's event listener: `python -m listener.starts` finds out when a program of the image is beyond help.

That is so when the program says so by its exit status, or has ended at each of as many starts in a row as
`listener up` has patience for. Then it leaves the mark for `listener init` and stops supervisord. A program that was
killed, which is the only other way for it to end, is started again by supervisord at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from listener import observe, settings
from listener.process import INIT_FOLDER, INIT_MARK, STARTED_AFTER, Backoff

log = logging.getLogger("listener.starts")


class Starts:
    """What has become of each program's starts.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}

    def beyond_help(self, event: str, words: Mapping[str, str]) -> str:
        """Why a program is beyond help after an event, as a sentence; '' = it is not.

        Args:
            event: supervisord's name of it.
            words: of its payload (http://supervisord.org/events.html).
        """
        program = words.get("processname", "")
        if event == "PROCESS_STATE_STARTING":
            self._started[program] = self._clock()
        elif event == "PROCESS_STATE_FATAL":
            return f"{program} cannot be started"
        elif event == "PROCESS_STATE_EXITED":
            return self._ended(program, has_given_up=words["expected"] == "1")
        return ""

    def _ended(self, program: str, has_given_up: bool) -> str:
        """supervisord.conf calls those exit statuses expected that say that another start would not help."""
        if has_given_up:
            return f"{program} has given up; its own message says why"
        backoff = self._backoffs.setdefault(program, Backoff())
        lived = self._clock() - self._started.get(program, float("-inf"))
        if backoff.after_exit(was_ready=lived >= STARTED_AFTER) is None:
            return f"{program} ended at each of its last {backoff.limit} starts, within {STARTED_AFTER:g} s of them"
        log.error("%s has ended; it is started again", program)
        return ""


def events(received: TextIO, said: TextIO) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each event's name and the words of its payload, until supervisord closes the stream; an event is acknowledged
    when the next one is asked for."""
    while True:
        _say(said, "READY\n")
        if not (line := received.readline()):
            return
        head = _words(line)
        yield head["eventname"], _words(received.read(int(head["len"])))
        _say(said, "RESULT 2\nOK")


def _words(text: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in text.split())


def _say(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def main() -> None:
    """Minds events until it is stopped."""
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format, sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisord, starts = os.getppid(), Starts()
    for event, words in events(sys.stdin, sys.stdout):
        if sentence := starts.beyond_help(event, words):
            log.critical("%s; the container ends", sentence)
            Path(os.environ[INIT_FOLDER], INIT_MARK).touch()
            if os.getppid() == supervisord:
                os.kill(supervisord, signal.SIGTERM)


if __name__ == "__main__":
    main()
