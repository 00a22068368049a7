"""What the listener says of itself: log lines on stdout, JSON for machines or coloured text for people.

Everything goes to stdout because the platform files stderr as errors (docs/reference/contract.md, "Logs").
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import orjson

from listener import settings
from listener.call import REQUEST
from listener.errors import one_line
from listener.tracing import log_fields, trace_of

#: Cloud Logging's severities by Python's level names:
#: https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry
_SEVERITY = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARNING", "ERROR": "ERROR", "CRITICAL": "CRITICAL"}
_COLOUR = {"DEBUG": "\x1b[2m", "INFO": "", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}

#: `I1122 18:31:49.267744 4713 server.cc:604] "text"`, the form of Triton's own lines.
_TRITON_LINE = re.compile(r"^([IWEF])\d{4} [\d:.]+ \d+ ([\w.]+:\d+)\] ?(.*)$")
_TRITON_LEVEL = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}


class JsonFormatter(logging.Formatter):
    """One JSON object per line, as Cloud Logging reads it: `severity`, `message`, `time`, then what `extra=` gave.

    That is `fields`, and `figures`: what the message says already, for machines alone. A line of a request has its id,
    and its trace if its headers name one; `httpRequest` where it says what became of it.

    Args:
        project: of Google Cloud, for the traces' names; "" = not known.
    """

    def __init__(self, project: str = "") -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "severity": _SEVERITY.get(record.levelname, "DEFAULT"),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := REQUEST.get()) is not None:
            line["request_id"] = request.request_id
            if trace := trace_of(request.headers):
                line |= log_fields(trace, self._project)
        for extra in ("fields", "figures"):
            line.update(getattr(record, extra, None) or {})
        if "path" in line and "status" in line:
            line["httpRequest"] = {"requestUrl": line["path"], "status": line["status"]}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # lone surrogates, as in undecodable file names, or an integer beyond 64 bits
            return json.dumps(line, default=str)


class HumanFormatter(logging.Formatter):
    """`18:22:46 listener: text`, coloured by severity if `colours`."""

    def __init__(self, colours: bool = True) -> None:
        super().__init__()
        self._colours = _COLOUR if colours else {}

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.name}: {record.getMessage()}"
        fields = getattr(record, "fields", None)
        if fields:
            text += "  " + " ".join(f"{key}={value}" for key, value in fields.items())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        colour = self._colours.get(record.levelname, "")
        return f"{colour}{text}\x1b[0m" if colour else text


def for_people(form: str, stream: TextIO) -> bool:
    """Whether a log format means text for people on this stream; `auto` does on a terminal."""
    return form == "human" or (form == "auto" and stream.isatty())


def _colours(stream: TextIO) -> bool:
    """On a terminal that can, unless told not to (https://no-color.org)."""
    return stream.isatty() and settings.terminal_has_colours()


def formatter(form: str, stream: TextIO) -> logging.Formatter:
    """What makes lines of a log format, json, human or auto, for a stream."""
    return HumanFormatter(_colours(stream)) if for_people(form, stream) else JsonFormatter(settings.project())


class _Stream(logging.StreamHandler[TextIO]):
    """Writes lines until its reader has gone, as in `listener up | head`; after that it is silent."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), BrokenPipeError):
            super().handleError(record)


def set_up(level: str, triton_level: str, form: str, stream: TextIO | None = None) -> None:
    """Makes the root logger write to `stream` (default stdout), replacing what was there.

    Args:
        level: of our own loggers: debug, info, warning or error.
        triton_level: of the logger `triton`, which carries Triton's lines.
        form: json, human, or auto (human when the stream is a terminal).
    """
    stream = sys.stdout if stream is None else stream
    handler = _Stream(stream)
    handler.setFormatter(formatter(form, stream))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("listener").setLevel(level.upper())
    logging.getLogger("triton").setLevel(triton_level.upper())
    logging.getLogger("handlers").setLevel(level.upper())


class TritonLog:
    """Turns Triton's output, line by line, into log records of the logger `triton`.

    Lines without Triton's prefix (tables, prints of Python models) inherit the level of the line before them.

    Args:
        gpu: there is a GPU; without one, Triton's complaint about that is no error.
    """

    def __init__(self, gpu: bool = True) -> None:
        self._logger = logging.getLogger("triton")
        self._level = logging.INFO
        self._gpu = gpu

    def write(self, line: str) -> None:
        """Logs one line, without its line break; blank ones and table frames are dropped."""
        match = _TRITON_LINE.match(line)
        fields: dict[str, str] = {}
        if match:
            letter, place, line = match.groups()
            self._level = _TRITON_LEVEL[letter]
            if not self._gpu and "CudaDriverHelper" in line:
                self._level = logging.INFO
            fields = {"source": place}
        elif line.startswith("error:"):  # the last words of a server that cannot start
            self._level = logging.ERROR
        text = one_line(line.strip().strip('"'))
        if text and not text.startswith("+--"):
            self._logger.log(self._level, "%s", text, extra={"fields": fields})


class Sums:
    """For lines that may come by the thousand: the first stands by itself, more of its kind become a number a second.

    For one event loop at a time.

    Attributes:
        KINDS: sentences that are told apart at a time; whatever else comes is one more kind.

    Args:
        tell: logs how many more of a sentence came within `seconds`.
        seconds: from one number to the next.
    """

    KINDS = 16

    def __init__(self, tell: Callable[[str, int], None], seconds: float = 1.0) -> None:
        self._tell, self._seconds = tell, seconds
        self._more: dict[str, int] = {}  # by sentence, since the last number
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_first(self, sentence: str) -> bool:
        """Whether the caller shall log it; if not, it is counted and the number is told soon."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the numbers of another one are not told any more
            self._more, self._loop = {}, loop
        if len(self._more) >= self.KINDS and sentence not in self._more:
            sentence = "others"
        if sentence in self._more:
            self._more[sentence] += 1
            return False
        if not self._more:
            loop.call_later(self._seconds, self._tell_all, loop)
        self._more[sentence] = 0
        return True

    def _tell_all(self, loop: asyncio.AbstractEventLoop) -> None:
        came, self._more = self._more, {}
        for sentence, count in came.items():
            if count:
                self._tell(sentence, count)
                self._more[sentence] = 0  # it goes on: the next second has a number and no line beside it
        if self._more:
            loop.call_later(self._seconds, self._tell_all, loop)


def warn_all(logger: str, sentences: list[str]) -> None:
    """Logs each sentence as a warning."""
    for sentence in sentences:
        logging.getLogger(logger).warning("%s", sentence)
