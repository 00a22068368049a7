"""The process that fetches, forked from one that has imported Google's client already, at a pace of the test's.

What it does is `listener.artifacts.fetch` as it is; that it starts as a program of its own, test_delivery.py shows.
Importing Google's client takes longer than most fetches, and waits of minutes are the same as waits of seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from google.cloud.storage.retry import DEFAULT_RETRY

from listener.artifacts import cloud, fetch, parts, patience, reading
from tests.artifacts import removals

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the process waits, and from where on it cuts objects into parts.

    Attributes:
        shorter: so many times are waits between two tries shorter than they are.
        patience: seconds without progress after which it gives up.
        silence: seconds in which the next bytes have to come.
        part: bytes of the smallest part; of it, a sixteenth is noted at a time, as it is.
    """

    shorter: float = 10.0
    patience: float = cloud._PATIENCE
    silence: float = reading._SILENCE
    part: int = parts.SMALLEST

    def keep(self) -> None:
        """This process is at this pace from now on."""
        patience._FIRST, patience._LONGEST = patience._FIRST / self.shorter, patience._LONGEST / self.shorter
        delays = DEFAULT_RETRY._initial / self.shorter, DEFAULT_RETRY._maximum / self.shorter
        vars(cloud)["DEFAULT_RETRY"] = DEFAULT_RETRY.with_delay(*delays)
        cloud._PATIENCE, reading._SILENCE = self.patience, self.silence
        parts.SMALLEST, parts.MARK = self.part, parts.MARK * self.part // parts.SMALLEST


#: Nothing is shorter than it is.
REAL = Pace(shorter=1.0)


class Fetching:
    """A process that fetches.

    Args:
        environment: its variables.
        log: the file for what it says.
        pace: of its waits.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, pace: Pace) -> None:
        self._pipe, theirs = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_run, args=(dict(environment), log, pace, theirs), daemon=True)
        with theirs:
            self._process.start()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float) -> int | None:
        """Its exit status, as soon as it has one; None: it had none in so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL, if it runs; its end is waited for."""
        self._process.kill()
        self._process.join(10)

    def said(self) -> bytes:
        """Its whole answer, once it has ended."""
        with os.fdopen(os.dup(self._pipe.fileno()), "rb") as stream:
            return stream.read()

    def close(self) -> None:
        """Ends it, and lets go of its pipe."""
        self.kill()
        self._pipe.close()
        self._process.close()


def _run(environment: Mapping[str, str], log: Path, pace: Pace, answers: Connection) -> None:
    """In the process."""
    with log.open("wb") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    pace.keep()
    removals.apply()
    sys.argv = ["fetch", str(os.dup(answers.fileno()))]
    answers.close()
    fetch.leave(fetch.main())
