"""One GET, as the platform's health check makes it. Standard library only: a HEALTHCHECK runs it often."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import urllib.parse


def get(url: str, timeout: float) -> tuple[int, str]:
    """The status and the body's text; status 0 and the reason where there was no answer.

    Args:
        url: http only.
        timeout: seconds for connecting and for each read.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a path that is not ASCII
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


async def until_open(host: str, port: int, patience: float) -> bool:
    """Returns once somebody takes connections there: True; or False when `patience` seconds have passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return True
                await asyncio.sleep(0.05)
    return False


async def until_ok(url: str) -> None:
    """Returns once a GET is answered with 200."""
    while (await asyncio.to_thread(get, url, 1.0))[0] != 200:
        await asyncio.sleep(0.2)
