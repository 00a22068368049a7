"""A listener with production's flags, in this process, and how to wait until it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from listener import app, settings

#: Seconds for the handlers' imports and their `load`; then for the models, which a fake has at once, and the warm-up.
LOAD_WITHIN, READY_WITHIN = 60.0, 5.0
#: Seconds between two looks.
_PERIOD = 0.02


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


async def prepared(listener: app.Listener) -> None:
    """Waits until a listener in this process is ready.

    Raises:
        ConfigError: the service cannot be loaded; with a sentence for each mistake.
        TimeoutError: something is still missing; with what it is.
    """
    ends: list[asyncio.Future[Any]] = [listener.loaded, listener.failure]
    await asyncio.wait(ends, timeout=LOAD_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(int(READY_WITHIN / _PERIOD)):
        if listener.failure.done():
            raise listener.failure.result()
        if not listener.missing():
            return
        await asyncio.sleep(_PERIOD)
    raise TimeoutError(f"the service does not become ready: {'; '.join(listener.missing())}")
