"""One worker process: `python -m listener.worker`, started by `workers.py` with the listening socket as a descriptor.

Order: the server answers first, then the service loads. On SIGTERM: refuse new requests, finish the running ones, close
the server, take the service down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from listener import app, observe, settings
from listener.process import EX_CONFIG, SOCKET_VARIABLE
from listener.settings import Settings

log = logging.getLogger("listener.worker")

#: Seconds in which requests that are cut off get their refusal.
_REFUSING = 1.0


def main() -> int:
    """Runs until SIGTERM. Returns the exit status: 0, or EX_CONFIG with the reasons in the log."""
    configured = settings.read()
    observe.set_up(configured.log_level, configured.triton_log_level, configured.log_format)
    listening = socket.socket(fileno=int(os.environ[SOCKET_VARIABLE]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the parent, which decides the order
    runner = asyncio.Runner(loop_factory=_fast_loop())  # not closed: that waits for threads, which `_exit` does not
    return runner.run(_run(configured, listening))


async def _run(configured: Settings, listening: socket.socket) -> int:
    listener = app.Listener(configured)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app.serving(listener, listening):
        listener.failure.add_done_callback(lambda _: stop.set())
        await stop.wait()
        if listener.failure.done():
            for mistake in listener.failure.result().mistakes:
                log.error("%s", mistake)
            return EX_CONFIG
        await _drain(listener)
        return 0


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
