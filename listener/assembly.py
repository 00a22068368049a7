"""Builds the service: each part once, from Triton's client up to the graph. Imported late, because it needs numpy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from listener import importing, loader, needs, shapes
from listener.endpoints.serving import Serving
from listener.graph.build import Builder
from listener.graph.router import Router
from listener.graph.step import Step
from listener.handler import Handler
from listener.metrics.meter import Meter
from listener.pool import Pool
from listener.readiness import Readiness, WarmUp
from listener.service import Service
from listener.settings import Settings
from listener.triton.catalogue import Catalogue
from listener.triton.client import TritonClient
from listener.triton.pages import default_size
from listener.triton.placing import room
from listener.triton.relay import Relay
from listener.triton.shm import SharedMemory

log = logging.getLogger("listener.app")


async def build(settings: Settings, service: Service, stack: AsyncExitStack, meter: Meter | None = None) -> Serving:
    """Builds the floors between Triton and the endpoints.

    Args:
        settings: all of them.
        service: what is served.
        stack: takes everything down again, in reverse.
        meter: counts; None = nobody does.

    Raises:
        ConfigError: a handler is wrong.
    """
    memory = _memory(settings)
    client = TritonClient(settings.triton_url, memory, settings.busy_wait, meter)
    await client.open()
    stack.push_async_callback(client.close)
    pool = Pool(settings.thread_count, settings.process_count)
    stack.callback(pool.close)
    if meter:
        _gauges(meter, pool, memory)
    # users' code is imported and loaded in a thread: it may take long, and health must answer meanwhile
    service = await asyncio.to_thread(importing.expanded, service)
    leaves = service.steps
    classes, functions = await asyncio.to_thread(importing.imported, service)
    _warn_of_near_misses(service, classes)
    asked = {name: frozenset(loader.model_names(leaves[name], handler)) for name, handler in classes.items()}
    catalogue = Catalogue(client, settings.coalesces, sorted(frozenset().union(*asked.values())))
    models = catalogue.routed
    for name in sorted(settings.not_coalesced - models.keys() - {"*"}):
        log.warning("LISTENER_NOT_COALESCED: no route of this service uses a model %r", name)
    handlers: dict[str, Handler] = {}
    for name, route in leaves.items():
        handlers[name] = await loader.load(service, route, classes[name], models, pool, route.offload)
        stack.push_async_callback(loader.close, handlers[name])
    relay = Relay(settings.triton_url, settings.triton_metrics_url, lambda: catalogue.refusal)
    await relay.open()
    stack.push_async_callback(relay.close)
    steps = {name: Step(name, handler, relay, leaves[name].version, catalogue) for name, handler in handlers.items()}
    builder = Builder(service.graphs, steps, functions.__getitem__, pool, settings.timeout)
    graphs = await asyncio.to_thread(builder.all)
    for shadow in builder.shadows:
        stack.push_async_callback(shadow.close)
    routes = {name: steps[name] for name in service.routes}
    chosen = {name: graphs[name] for name in service.choices if name in graphs}
    router = Router(routes, service.default, catalogue, relay, pool, chosen, service.alone, builder.single())
    needed = needs.of_service(service, {name: step.model for name, step in steps.items()}, asked)
    readiness = Readiness(client, catalogue, models, needed, _warm_up(steps, asked), settings.timeout)
    return Serving(router, readiness, catalogue, relay, partial(room, memory), steps, service.graphs)


def _gauges(meter: Meter, pool: Pool, memory: SharedMemory | None) -> None:
    meter.gauge("listener_pool_threads", lambda: pool.busy, "busy")
    meter.gauge("listener_pool_threads", lambda: pool.idle, "idle")
    meter.gauge("listener_pool_waiting", lambda: pool.waiting)
    if memory:
        meter.gauge("listener_shared_memory_bytes", lambda: memory.held, "held")
        meter.gauge("listener_shared_memory_bytes", lambda: memory.parked, "parked")
        meter.gauge("listener_shared_memory_bytes", lambda: memory.size, "all")


def _memory(settings: Settings) -> SharedMemory | None:
    """Shared memory with a Triton on this machine."""
    return SharedMemory(default_size(workers=settings.worker_count)) if settings.triton_is_here else None


def _warn_of_near_misses(service: Service, classes: Mapping[str, type[Handler]]) -> None:
    found = [sentence for handler in classes.values() for sentence in shapes.near_misses(service, handler)]
    for sentence in dict.fromkeys(found):  # several may have a base class in common
        log.warning("%s", sentence)


def _warm_up(steps: Mapping[str, Step], asked: Mapping[str, frozenset[str]]) -> dict[str, WarmUp]:
    examples = {name: step.handler.example for name, step in steps.items()}
    return {name: WarmUp(steps[name], given, asked[name]) for name, given in examples.items() if given is not None}
