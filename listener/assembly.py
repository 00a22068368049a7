"""Builds the service: each part once, from Triton's client up to the graph. Imported late, because it needs numpy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from listener import graph, loader
from listener.call import Json
from listener.graph import Node
from listener.handler import Handler
from listener.pool import Pool
from listener.readiness import Readiness
from listener.service import Service
from listener.settings import Settings
from listener.triton.client import TritonClient
from listener.triton.model import Model
from listener.triton.pages import default_size
from listener.triton.placing import room
from listener.triton.shm import Lease, SharedMemory

log = logging.getLogger("listener.app")


async def build(
    settings: Settings, service: Service, stack: AsyncExitStack
) -> tuple[Node, Readiness, Callable[[int], Lease | None]]:
    """Builds the floors between Triton and the endpoints.

    Args:
        settings: all of them.
        service: what is served.
        stack: takes everything down again, in reverse.

    Returns:
        The root of the graph, the readiness to be watched, and what gives room for large bodies.

    Raises:
        ConfigError: a handler is wrong.
    """
    memory = _memory(settings)
    client = TritonClient(settings.triton_url, memory, settings.busy_wait)
    await client.open()
    stack.push_async_callback(client.close)
    pool = Pool(settings.threads)
    stack.callback(pool.close)
    # users' code is imported and loaded in a thread: it may take long, and health must answer meanwhile
    classes = await asyncio.to_thread(
        lambda: {name: loader.handler_class(service, route) for name, route in service.routes.items()}
    )
    models = {name: Model(name, client, settings.coalesces(name)) for name in _models(service, classes)}
    for name in sorted(settings.not_coalesced - models.keys() - {"*"}):
        log.warning("LISTENER_NOT_COALESCED: no route of this service uses a model %r", name)
    handlers = await asyncio.to_thread(
        lambda: {name: loader.load(service, service.routes[name], classes[name], models, pool) for name in classes}
    )
    for handler in handlers.values():
        stack.callback(_close, handler)
    nodes = {name: graph.step(name, handler) for name, handler in handlers.items()}
    readiness = Readiness(client, models, _examples(nodes, handlers), settings.timeout)
    return graph.by_route(nodes, service.default), readiness, partial(room, memory)


def _memory(settings: Settings) -> SharedMemory | None:
    """Shared memory with a Triton on this machine."""
    return SharedMemory(default_size(workers=settings.worker_count)) if settings.triton_is_here else None


def _close(handler: Handler) -> None:
    """One handler's failure must not keep the others from closing."""
    try:
        handler.close()
    except Exception:
        log.exception("%s failed in close", type(handler).__name__)


def _models(service: Service, classes: dict[str, type[Handler]]) -> list[str]:
    return sorted({loader.model_name(service.routes[name], handler) for name, handler in classes.items()})


def _examples(nodes: dict[str, Node], handlers: dict[str, Handler]) -> dict[str, tuple[Node, Json]]:
    return {name: (nodes[name], handler.example) for name, handler in handlers.items() if handler.example is not None}
