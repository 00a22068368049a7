"""The process that fetches (starter.py), and what became of it within a bound."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from listener.artifacts import answer
from listener.artifacts.delivery import _QUIET
from listener.errors import ConfigError
from listener.process import EX_CONFIG
from listener.settings import Settings
from tests.artifacts.faults import Proxy
from tests.artifacts.starter import Fetching, Pace

#: Seconds that a fetch takes at most, whatever goes wrong, unless a test says otherwise.
BOUND = 60.0
#: That of a fetch, unless a test says otherwise.
PACE = Pace()
BIG = "models/big/1/model.onnx"
_BIG_BYTES = 16_000_003


@functools.cache
def repository() -> Mapping[str, bytes]:
    """Several small files, one of them empty, and one of 16 MB; by the names of their objects."""
    small = {f"models/small-{number}/config.pbtxt": f"name: 'small-{number}'".encode() for number in range(5)}
    small |= {f"models/small-{number}/1/model.onnx": random.Random(number).randbytes(3_000) for number in range(5)}
    return small | {"models/small-0/2/model.onnx": b"", BIG: random.Random(0).randbytes(_BIG_BYTES)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a fetch.

    Attributes:
        folder: that was published; None: none was.
        sentence: why.
        log: all that the process said.
        seconds: that it took.
    """

    folder: Path | None
    sentence: str
    log: str
    seconds: float


class Place:
    """A bucket behind a proxy, and the folder that it is fetched into.

    Args:
        proxy: in front of the emulator.
        bucket: its name.
        artifacts: the folder.
    """

    def __init__(self, proxy: Proxy, bucket: str, artifacts: Path) -> None:
        self.proxy, self.bucket, self.artifacts = proxy, bucket, artifacts

    def fetch(self, bound: float = BOUND, pace: Pace = PACE) -> Outcome:
        """One fetch. Fails the test if it takes longer than the bound, shows a trace or says more than one sentence."""
        begin = time.monotonic()
        with self.started(pace) as process:
            status = process.wait(bound)
            assert status is not None, f"no end after {bound:.0f} s; the log: {self.log.read_text()[-2000:]}"
            seconds, said = time.monotonic() - begin, process.said()
        text = self.log.read_text()
        assert "Traceback" not in text, text
        try:
            folder = answer.read(said, str(self), status)
        except ConfigError as error:
            assert status == EX_CONFIG, (status, text)
            (sentence,) = error.mistakes
            assert "\n" not in sentence
            assert sentence.startswith(f"gs://{self.bucket}/models/: ")
            assert len(sentence) < 600, sentence
            assert self.published() == []
            return Outcome(None, sentence, text, seconds)
        assert status == 0
        return Outcome(folder, "", text, seconds)

    @contextlib.contextmanager
    def started(self, pace: Pace = PACE) -> Iterator[Fetching]:
        """The process. It is killed in the end."""
        settings = Settings(repository=f"gs://{self.bucket}/models", artifacts=str(self.artifacts))
        environment = {**_QUIET, **os.environ, **settings.to_env(), "STORAGE_EMULATOR_HOST": self.proxy.url}
        with contextlib.closing(Fetching(environment, self.log, pace)) as process:
            yield process

    @property
    def log(self) -> Path:
        """All that the process says that was started last."""
        return self.artifacts.with_name("fetch.log")

    def published(self) -> list[Path]:
        """The folders that somebody could take for whole ones."""
        return [path for path in self.artifacts.glob("*/*") if path.is_dir() and not path.suffix]


def contents(folder: Path | None) -> dict[str, bytes]:
    """A published folder's files, by the names of their objects."""
    assert folder is not None, "nothing was published"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {f"models/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}


def require(outcome: Outcome, wanted: Mapping[str, bytes]) -> None:
    """The outcome is a complete repository with these bytes. (Of 16 MB that differ, nobody wants to see all.)"""
    assert outcome.folder, outcome.sentence
    found = contents(outcome.folder)
    assert set(found) == set(wanted), set(found) ^ set(wanted)
    wrong = [name for name in wanted if found[name] != wanted[name]]
    assert not wrong, f"published with wrong bytes: {wrong}"


def require_whole_or_told(outcome: Outcome, wanted: Mapping[str, bytes], *sentences: str) -> None:
    """It is that, or nothing was published and one of these sentences says why."""
    if outcome.folder:
        require(outcome, wanted)
    else:
        assert any(part in outcome.sentence for part in sentences), outcome.sentence
