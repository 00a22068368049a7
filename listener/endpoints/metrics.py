"""GET /metrics, on a port of its own: all workers' metrics and Triton's in one scrape.

The text is Prometheus' exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). Any
worker answers for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from listener import __version__, middleware
from listener.artifacts.progress import State
from listener.endpoints.serving import Serving
from listener.errors import TritonFailed, Unavailable
from listener.metrics.meter import Meter
from listener.metrics.segment import Segment

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds for Triton's part. Prometheus gives up after ten, and would then have nothing at all.
_PATIENCE = 2.0


def application(
    loaded: Callable[[], Serving], segment: Segment, meter: Meter, fetched: Callable[[], State | None]
) -> web.Application:
    """The application of the metrics' port: one page.

    Args:
        loaded: the service; raises Unavailable while it is not loaded.
        segment: the numbers of all workers.
        meter: of this worker.
        fetched: how far the fetch is that the service needs, or how it ended; None = there is none.
    """

    async def page(request: web.Request) -> web.Response:
        from listener.metrics import exposition  # whoever is never scraped does without that library

        triton = await _tritons(loaded)
        meter.look()
        ours = exposition.text(segment, meter.seat.number, _beside(bool(triton), fetched()))
        return web.Response(body=ours + triton, headers={"Content-Type": _CONTENT_TYPE})

    app = web.Application(middlewares=[middleware.errors_to_bodies])
    app.on_response_prepare.append(middleware.guard)
    app.router.add_get("/metrics", page)
    return app


def _beside(has_triton: bool, fetched: State | None) -> Iterator[Metric]:
    """What no worker counts."""
    from listener.metrics.exposition import gauge

    yield gauge("listener_build_info", "Which listener this is.", ({"version": __version__}, 1))
    yield gauge("listener_triton_metrics_up", "Whether Triton's metrics follow.", ({}, has_triton))
    if fetched:
        done, whole = {"state": "done"}, {"state": "all"}
        yield gauge(
            "listener_fetch_bytes",
            "Bytes of the models that are fetched.",
            (done, fetched.bytes_done),
            (whole, fetched.bytes),
        )
        yield gauge(
            "listener_fetch_files",
            "Files of the models that are fetched.",
            (done, fetched.files_done),
            (whole, fetched.files),
        )
        yield gauge("listener_fetch_seconds", "How long the fetch has taken.", ({}, fetched.seconds))


async def _tritons(loaded: Callable[[], Serving]) -> bytes:
    """Triton's metrics as it writes them; nothing where there are none in time."""
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await loaded().relay.metrics()
    except (Unavailable, TritonFailed, TimeoutError):
        return b""
    return bytes(answer.body) if answer.status == 200 else b""
