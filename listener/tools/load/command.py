"""`listener load`: what the options say, the run, and the files it leaves."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click

from listener import settings
from listener.errors import ConfigError
from listener.tools.load import asked, bodies, outcome, report, shown
from listener.tools.load.bodies import Bodies
from listener.tools.load.observing import Observer
from listener.tools.load.outcome import Outcome
from listener.tools.load.running import Run, Wanted
from listener.tools.load.search import Objective

#: Seconds of a run at the most, and of a unit.
_LONGEST = 3600.0  # every time is kept in memory
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "": 1.0}


@dataclass(frozen=True)
class Options:
    """As the command line has them; `docs/reference/command-line.md` says what they mean."""

    url: str | None
    data: str | None
    rate: float | None
    slo_p99: str
    duration: str
    headers: Sequence[str]
    token: bool
    metrics: str
    connections: int
    timeout: str
    html: str
    json: str | None
    csv: str | None
    compare: Sequence[str]
    fail_on_slo: bool


def run(options: Options, progress: TextIO) -> int:
    """Measures, or compares, and writes the report; the exit status.

    Raises:
        ConfigError: an option is wrong, or there is nobody who answers.
    """
    runs = [outcome.read(Path(file)) for file in options.compare]
    if options.url is None:
        if len(runs) != 2:
            raise ConfigError("PREDICT_URL is missing; http://127.0.0.1:8080/predict, for instance")
        _writable(options.html)
        return _written(options, runs[1], runs[0])
    if len(runs) > 1:
        raise ConfigError("--compare: with a URL, one earlier run is wanted")
    wanted, observer, token, alone = _prepared(options)
    found = Run(wanted, observer, token, shown.at(progress, wanted.objective.p99)).go(alone)
    if not found.steps:
        why = found.failed or ("interrupted" if found.interrupted else "no request was due in that time")
        raise ConfigError(f"{options.url}: nothing was measured: {why}")
    return _written(options, found, runs[0] if runs else None)


def _prepared(options: Options) -> tuple[Wanted, Observer, asked.Token, float]:
    """Everything is looked at that can be wrong before the run."""
    url = asked.checked(options.url or "")
    for file in filter(None, (options.html, options.json, options.csv)):
        _writable(file)
    objective = Objective(_seconds("--slo-p99", options.slo_p99) * 1e3)
    duration = _seconds("--duration", options.duration)
    if duration < 2:
        raise ConfigError(f"--duration: {options.duration} is too short; 2s is the least")
    if duration > _LONGEST:
        raise ConfigError(
            f"--duration: {options.duration} is too long; 60m is the most (docs/load-testing.md has more)"
        )
    if options.rate is not None and not 0 < options.rate < 1e6:
        raise ConfigError("--rate: requests per second above 0 are wanted")
    timeout = _seconds("--timeout", options.timeout)
    sent = bodies.of_file(Path(options.data)) if options.data else _examples()
    headers, token = asked.headers(options.headers), asked.Token(url, options.token)
    observer = Observer(url, options.metrics)
    alone = asked.first(url, sent, {**headers, **token.headers()}, timeout)
    _allow_many_connections(options.connections)
    return (
        Wanted(url, sent, objective, options.rate, duration, headers, options.connections, timeout),
        observer,
        token,
        alone,
    )


def _examples() -> Bodies:
    try:
        return bodies.of_service(settings.read())
    except ConfigError as error:
        raise ConfigError(f"{error.mistakes[0]}; or name bodies with --data FILE.jsonl") from None


def _written(options: Options, found: Outcome, earlier: Outcome | None) -> int:
    try:
        Path(options.html).write_text(report.page(found, earlier), "utf-8")
        if options.json:
            Path(options.json).write_text(outcome.as_json(found), "utf-8")
        if options.csv:
            Path(options.csv).write_text(outcome.as_csv(found), "utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from None
    click.echo(outcome.headline(found))
    for sentence in (*outcome.details(found), outcome.generator(found)[1]):
        click.echo(sentence)
    click.echo(f"The report: {options.html}")
    return 1 if options.fail_on_slo and not found.kept else 0


def _seconds(option: str, text: str) -> float:
    """Of `50ms`, `30s`, `2m` or `30`.

    Raises:
        ConfigError: it is none, or not above 0.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not seconds > 0:
        raise ConfigError(f"{option}: {text!r} is no time such as 50ms, 30s or 2m")
    return seconds


def _writable(file: str) -> None:
    """Asked before the run, by writing nothing.

    Raises:
        ConfigError: it cannot be written.
    """
    path, is_new = Path(file), not Path(file).exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None


def _allow_many_connections(wanted: int) -> None:
    """Of this process and of the one that asks."""
    if os.name == "posix":
        from listener.process import allow_descriptors

        allow_descriptors(wanted + 256)
