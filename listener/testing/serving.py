"""A listener with production's flags, in this process, and how to wait until it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from listener import app, settings
from listener.errors import one_line

#: Seconds for the handlers' imports and their `load`; then for the models, which a fake has at once, and the warm-up.
LOAD_WITHIN, READY_WITHIN = 60.0, 5.0
#: Seconds between two looks.
_PERIOD = 0.02
#: What the readiness check says (`readiness.py`, `triton/model.py`).
_NO_MODEL = re.compile(r"model '(.+)' is not in the repository$")
_NO_VERSION = re.compile(r"model '.+' has no version (\d+) that is ready$")
#: What a fake Triton does not mend by itself.
_FOR_GOOD = re.compile(rf"the warm-up of route |{_NO_MODEL.pattern}|{_NO_VERSION.pattern}")
_IN_LOG = "; the log has the reason"
#: Where handlers' failures are told, and how the ids of warm-ups begin.
_LOG, _WARM_UP = logging.getLogger("listener"), "warm-up-"


@contextlib.asynccontextmanager
async def listening(service: Path, triton_url: str, **overrides: Any) -> AsyncIterator[str]:
    """A listener with production's flags, in this process, on a free loopback port.

    Args:
        service: the folder with listener.yaml.
        triton_url: of a FakeTriton or a Triton.
        **overrides: settings by field name, such as `max_body=1024`.

    Gives:
        Its base URL. The service loads behind it: `await until_ready(url)`.
    """
    async with serving(service, triton_url, **overrides) as (_, url):
        yield url


@contextlib.asynccontextmanager
async def serving(service: Path, triton_url: str, **overrides: Any) -> AsyncIterator[tuple[app.Listener, str]]:
    """As `listening`; gives the listener itself as well."""
    given = {"service": service, "triton_url": triton_url, "host": "127.0.0.1", **overrides}
    listener = app.Listener(settings.read({}, **given))
    taken = socket.create_server(("127.0.0.1", 0))
    async with app.serving(listener, taken):
        yield listener, f"http://127.0.0.1:{taken.getsockname()[1]}"


async def until_ready(url: str, timeout: float = 10.0) -> None:
    """Waits for 200 on /health.

    Raises:
        TimeoutError: with the last answer, if that takes longer than `timeout` seconds.
    """
    answer = ""
    async with aiohttp.ClientSession() as session:
        for _ in range(int(timeout / 0.05)):
            async with session.get(f"{url}/health") as response:
                answer = await response.text()
                if response.status == 200:
                    return
            await asyncio.sleep(0.05)
    raise TimeoutError(f"not ready after {timeout} s: {answer}")


class NotReady(TimeoutError):
    """The service does not become ready; what it waits for will not come by waiting, or has not come for long."""


async def prepared(listener: app.Listener) -> None:
    """Waits until a listener in this process is ready. Its Triton is a fake one, which has what it has at once.

    Raises:
        ConfigError: the service cannot be loaded; with a sentence for each mistake.
        NotReady: a warm-up has failed, with why; a model or version is not there; something else is still missing.
    """
    with _Failures() as failures:
        await _until_prepared(listener, failures)


async def _until_prepared(listener: app.Listener, failures: _Failures) -> None:
    ends: list[asyncio.Future[Any]] = [listener.loaded, listener.failure]
    await asyncio.wait(ends, timeout=LOAD_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(int(READY_WITHIN / _PERIOD)):
        if listener.failure.done():
            raise listener.failure.result()
        missing = listener.missing()
        if not missing:
            return
        if any(map(_FOR_GOOD.match, missing)):
            raise failures.told(missing)
        await asyncio.sleep(_PERIOD)
    raise failures.told(listener.missing())


class _Failures(logging.Handler):
    """Hears of the handlers that fail in their warm-up, of which health says only that the log has the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: dict[str, BaseException] = {}  # by step

    def __enter__(self) -> _Failures:
        _LOG.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOG.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps what a step's handler failed with."""
        _, of_warm_up, step = str(getattr(record, "fields", {}).get("request_id", "")).partition(_WARM_UP)
        if of_warm_up and record.exc_info and record.exc_info[1]:
            self._found[step] = record.exc_info[1]

    def told(self, missing: Sequence[str]) -> NotReady:
        """Why the service is not ready: what is missing, with the reason or with what to do about it."""
        sentences = "; ".join(map(self._told, missing))
        made = NotReady(f"the service does not become ready: {sentences}")
        made.__cause__ = next(iter(self._found.values()), None)
        return made

    def _told(self, sentence: str) -> str:
        if match := _NO_VERSION.match(sentence):
            return f'{sentence}; a test adds it with FakeModel(..., versions=(..., "{match[1]}"))'
        if match := _NO_MODEL.match(sentence):
            return f"{sentence}; a test adds it with triton.models[{match[1]!r}] = FakeModel(...)"
        for step, error in self._found.items():
            if sentence.startswith(f"the warm-up of route {step!r} failed"):
                return sentence.replace(_IN_LOG, f": {one_line(f'{type(error).__name__}: {error}')}")
        return sentence
