"""The side of those who start Triton: has everything fetched, says where it lies, and clears up in the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from listener.artifacts import answer, bucket, choice
from listener.artifacts.handover import Handover
from listener.artifacts.store import Store
from listener.process import Backoff, Child, start
from listener.service import Service
from listener.settings import Settings

log = logging.getLogger("listener.artifacts")

#: Google's client asks for the bucket's location on the side, for traces that nobody takes here. That would need a
#: further permission.
_QUIET = {"DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true"}
#: Seconds that a fetch has to end when it is told to.
_PATIENCE = 2.0
#: Exit statuses of a process that was killed; a stop is not among them.
_KILLED = frozenset(128 + number for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT))


class Delivery:
    """What `settings.place` names in Cloud Storage, on this machine.

    Args:
        settings: all of them; `triton_url` is that of the Triton that will serve it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.artifacts, bucket.parse(settings.place).key)
        self._handover = Handover(settings.triton_url)
        self._child: Child | None = None

    async def service(self) -> Service:
        """Fetches it, and tells the workers.

        Raises:
            ConfigError: it cannot be fetched, or is nothing that can be served.
        """
        await asyncio.to_thread(self._store.use)
        folder = await self._fetched()
        service = choice.with_repository(choice.at(self._settings, folder))
        self._handover.announce(folder)
        return service

    async def close(self, *, remove: bool = True) -> None:
        """Ends a fetch that is under way and takes everything down.

        Args:
            remove: remove what was fetched as well, unless LISTENER_ARTIFACTS keeps it or others use it.
        """
        if self._child and self._child.running:
            await self._child.stop(_PATIENCE)
        self._handover.close()
        if remove:
            self._store.remove()
        self._store.release()

    async def _fetched(self) -> Path:
        """One that was killed, as where memory is short, goes on in the next one: nobody knows that it is in vain."""
        backoff = Backoff()
        while True:
            said, status = await self._said()
            delay = backoff.after_exit(was_ready=False) if status in _KILLED and not said else None
            if delay is None:
                return answer.read(said, self._settings.place, status)
            log.error("what fetches was killed (status %d); it goes on in %g s", status, delay)
            await asyncio.sleep(delay)

    async def _said(self) -> tuple[bytes, int]:
        """The answer and the exit status of one process that fetches."""
        ours, theirs = os.pipe()
        try:
            argv = [sys.executable, "-m", "listener.artifacts.fetch", str(theirs)]
            env = {**_QUIET, **os.environ, **self._settings.to_env()}
            self._child = await start("fetch", argv, env, pass_fds=[theirs])
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            status = await self._child.wait()
            # what it started has ended with it, so nobody has the other end open any more
            return pipe.read(), status


def quieten() -> None:
    """For a process that asks Cloud Storage by itself; before its first request."""
    os.environ.update(_QUIET)


def fetch_into(uri: str, folder: str, is_dry: bool) -> NoReturn:
    """Becomes the process that fetches into a folder that a person names (into.py)."""
    argv = [sys.executable, "-m", "listener.artifacts.into", uri, folder, "dry" if is_dry else ""]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it has imported all, and can answer
    os.execve(sys.executable, argv, {**_QUIET, **os.environ})
