"""One worker process: `python -m listener.worker`, started by `workers.py` with the listening socket as a descriptor.

Order: the server answers first, then the service loads. At a stop: refuse new requests, finish the running ones, close
the server, take the service down. When everything stops, new connections are told so; when one of several workers stops
alone, they are left to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from listener import app, observe, settings
from listener.errors import ConfigError
from listener.metrics.segment import Segment
from listener.process import (
    EX_CONFIG,
    LATE_VARIABLE,
    METRICS_SOCKET_VARIABLE,
    OPENS_AFTER,
    SEGMENT_VARIABLE,
    SOCKET_VARIABLE,
    STOP_ALL,
    first_end,
)
from listener.settings import Settings

log = logging.getLogger("listener.worker")

#: Seconds in which requests that are cut off get their refusal.
_REFUSING = 1.0
#: Seconds in which a replaced worker answers 503 to what came over connections that it took in the last moment.
_LAST_REQUESTS = 0.3
#: Seconds between two looks whether a late worker is ready.
_LOOK = 0.05
#: Of the garbage collector: objects of the youngest generation, and how often a younger one goes before an older one.
_THRESHOLDS = (20_000, 10, 10)
#: Seconds for which a thread that computes in Python may keep the others waiting. The event loop waits for it several
#: times for each request; with Python's own 5 ms, health takes three times as long while hooks compute.
_SWITCH = 0.0005


def main() -> int:
    """Runs until SIGTERM. Returns the exit status: 0, or EX_CONFIG with the reasons in the log."""
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    sys.setswitchinterval(_SWITCH)
    listening = socket.socket(fileno=int(os.environ[SOCKET_VARIABLE]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the parent, which decides the order
    runner = asyncio.Runner(loop_factory=_fast_loop())  # not closed: that waits for threads, which `_exit` does not
    metrics = socket.socket(fileno=int(number)) if (number := os.environ.get(METRICS_SOCKET_VARIABLE)) else None
    segment = Segment(int(number) if (number := os.environ.get(SEGMENT_VARIABLE)) else None)
    return runner.run(_run(configured, listening, metrics, segment, late=LATE_VARIABLE in os.environ))


async def _run(
    configured: Settings, listening: socket.socket, metrics: socket.socket | None, segment: Segment, late: bool
) -> int:
    listener = app.Listener(configured, segment)
    listener.loaded.add_done_callback(lambda _: spare_the_collector())
    everything, stop = _stops()
    async with app.serving(listener, listening, metrics, open_at_once=not late) as ports:
        orphaned = asyncio.create_task(_close_after(os.getppid(), ports))
        # under --reload a worker with a mistake stays, and answers 503 until the next save replaces it
        listener.failure.add_done_callback(_tell if configured.reload else lambda _: stop.set())
        opening = asyncio.create_task(_open(listener, ports)) if late else None
        await stop.wait()
        if opening:
            opening.cancel()
        if listener.failure.done() and not configured.reload:
            _tell(listener.failure)
            return EX_CONFIG
        if not everything.is_set() and (configured.worker_count > 1 or configured.reload):
            ports.close()  # whoever connects from now on is another worker's
        await _drain(listener)
        if configured.reload and not everything.is_set():
            await asyncio.sleep(_LAST_REQUESTS)
        orphaned.cancel()
        return 0


async def _close_after(parent: int, ports: app.Ports) -> None:
    """Leaves the ports to the parent's successor once the parent has died, while what is running is still answered.

    Not by a look at `os.getppid()` when SIGTERM comes: that comes with the death of the thread that started us, and
    until the parent's last thread is gone the number stays.
    """
    await first_end([parent])
    ports.close()


def _tell(failure: asyncio.Future[ConfigError]) -> None:
    for mistake in failure.result().mistakes:
        log.error("%s", mistake)


def _stops() -> tuple[asyncio.Event, asyncio.Event]:
    """Set when everything stops; and when this worker does, for whatever reason."""
    everything, stop = asyncio.Event(), asyncio.Event()

    def stop_all() -> None:
        everything.set()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(STOP_ALL, stop_all)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    return everything, stop


async def _open(listener: app.Listener, ports: app.Ports) -> None:
    """Takes connections once there are answers for them; another worker has them meanwhile."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(OPENS_AFTER):
            while listener.missing():
                await asyncio.sleep(_LOOK)
    await ports.open()


def spare_the_collector() -> None:
    """The loaded code is never garbage, so the collector need not look through it again and again.

    With the sample service these are 55,000 objects, and a full collection took 37 to 49 ms in which nobody was
    answered; once they are frozen it takes 0.5 ms with 2,048 requests waiting. Each request makes and drops dozens of
    tasks, futures and dicts, so with the default threshold of 700 a burst of requests alone sets the collector off.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


async def _drain(listener: app.Listener) -> None:
    inside = listener.gate.inside
    log.info("draining; requests running: %d", inside)
    patience = listener.settings.drain_timeout
    if not await listener.gate.drain(patience):
        log.warning("requests cut off after %g s: %d", patience, listener.gate.cut_off())
        await listener.gate.drain(_REFUSING)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (docs/adr/0002-dependencies.md)."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def _exit(status: int) -> NoReturn:
    """Ends the process now: a hook that never returns would keep its thread, and the interpreter waits for threads."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    _exit(main())
