"""`--reload`: watches a service's files while people edit them, and has replaced what a saved change concerns.

The port stays open throughout: new workers take connections while the old ones finish their requests. Mistakes never
end the parent; they are logged, health says 503, and the next save is another chance. Which files count: `watched.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from listener import probe
from listener import settings as settings_table
from listener.artifacts import choice
from listener.errors import ConfigError
from listener.kept import GaveUp, Kept
from listener.service import FILE
from listener.settings import Settings
from listener.watched import Kind, Watched

if TYPE_CHECKING:
    from watchfiles import Change

log = logging.getLogger("listener.reload")

#: At most so long do running requests keep a replaced worker; it has no part in how soon the new one answers.
_DRAIN = 5.0
#: The same for a replaced Triton, which would else wait its whole exit timeout for the workers' open connections. Then
#: it is killed; what it leaves is removed at the next start, as after a death.
TRITON_PATIENCE = 1.0
#: Milliseconds of quiet that end a row of saves, and how long a row may be.
_QUIET_MS, _ROW_MS = 100, 2_000
#: Milliseconds between two looks whether a folder has come that was not there.
_LOOK_MS = 1_000


def prepared(configured: Settings) -> Settings:
    """The settings with the short patience of this mode; those of others as they are.

    Raises:
        ConfigError: the extra `reload` is missing, or there is nothing to edit.
    """
    if not configured.reload:
        return configured
    if configured.fetches:
        raise ConfigError(
            f"--reload: {configured.place} is fetched from Cloud Storage, so there is nothing to edit; name a folder "
            "on this machine with --repository, or leave --reload out"
        )
    if importlib.util.find_spec("watchfiles") is None:
        raise ConfigError("--reload needs watchfiles: pip install 'triton-listener[reload]'")
    _first(configured)
    if settings_table.on_the_platform():
        log.warning("--reload is for development and costs availability; leave LISTENER_RELOAD out on the platform")
    return dataclasses.replace(configured, drain_timeout=min(configured.drain_timeout, _DRAIN))


def repository(configured: Settings) -> Path:
    """The model repository as listener.yaml has it now.

    Raises:
        ConfigError: there is none. Without a sentence where listener.yaml is wrong: the workers say that.
    """
    try:
        service = choice.local(configured)
    except ConfigError:
        raise ConfigError from None
    return choice.with_repository(service).repository


class Reload:
    """Has replaced what saved changes concern.

    Args:
        configured: all settings, with the real port.
        workers: all of them.
        triton: ours, or None where it runs elsewhere.
    """

    def __init__(self, configured: Settings, workers: Sequence[Kept], triton: Kept | None) -> None:
        self._settings, self._workers, self._triton = configured, workers, triton
        self._watched = _first(configured)
        self._missing: set[Path] = set()  # folders that are to be watched as soon as they come
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watches until cancelled.

        Raises:
            GaveUp: the files cannot be watched.
        """
        while True:
            try:
                await self._watch_as_it_is()
            except FileNotFoundError:  # a folder went in this moment
                await asyncio.sleep(_QUIET_MS / 1000)
            except OSError as error:
                raise GaveUp(
                    f"--reload: the files cannot be watched: {error}; WATCHFILES_FORCE_POLLING=true does without the "
                    "kernel's help"
                ) from None

    async def _watch_as_it_is(self) -> None:
        """Returns when there are other folders to be watched: listener.yaml names them, or one came or went."""
        import watchfiles

        watched, roots = self._watched, self._roots()
        log.info("watching %s", ", ".join(map(str, sorted(roots))))
        if appeared := self._missing & roots:  # what is in them came before anybody watched
            self._act(appeared)
        self._missing = set(watched.roots) - roots
        saves = watchfiles.awatch(
            *roots,
            watch_filter=self._counts,
            debounce=_ROW_MS,
            step=_QUIET_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        async with contextlib.aclosing(saves):
            async for changes in saves:
                if paths := {Path(path) for _, path in changes}:
                    self._act(paths)
                self._missing |= paths & roots  # not watched any more, even if another folder has the name now
                if self._watched.roots != watched.roots or self._missing & self._roots():
                    return

    def _roots(self) -> set[Path]:
        return {root for root in self._watched.roots if root.is_dir()}

    def _counts(self, change: Change, path: str) -> bool:
        """Whether a change is one. Polling calls a folder modified when a file in it comes or goes."""
        modified = change.name == "modified"
        return self._watched.kind(Path(path)) is not Kind.NOTHING and not (modified and Path(path).is_dir())

    def _act(self, paths: set[Path]) -> None:
        began, before = time.monotonic(), self._watched
        ours = {path for path in paths if before.kind(path) is Kind.WORKERS}
        models = paths - ours
        moved = False
        if before.folder / FILE in ours:
            self._watched = _now(self._settings) or before
            moved = self._watched.repository != before.repository
        renewed: list[Kept] = []
        if ours:
            renewed += self._workers
        if self._triton and (models or moved or (ours and self._triton.waiting)):
            renewed.append(self._triton)
        elif models:
            log.info("%s changed: models are served by a Triton that runs elsewhere; restart it", before.shown(models))
        if not renewed:
            return
        counted = _there(paths if self._triton else ours)
        what = " and ".join([*(["the workers"] if ours else []), *(["Triton"] if self._triton in renewed else [])])
        log.info("%s changed: restarting %s", before.shown(counted), what)
        for each in renewed:
            each.renew()
        if self._telling:
            self._telling.cancel()
        self._telling = asyncio.create_task(self._tell(before.shown(counted), began))

    async def _tell(self, what: str, began: float) -> None:
        """Says how long it took, once health says 200; what has a mistake never comes so far."""
        for worker in self._workers:  # the one before has been told to end then, and calls itself ready no more
            await worker.begun.wait()
        if self._triton:
            await self._triton.ready.wait()
        await probe.until_ok(self._settings.local_url(self._settings.health_route))
        log.info("reloaded in %.1f s: %s", time.monotonic() - began, what)


def _there(paths: set[Path]) -> set[Path]:
    """Those that exist: editors write beside a file and rename that. All of them where all are gone."""
    return {path for path in paths if path.exists()} or paths


def _now(configured: Settings) -> Watched | None:
    """What is watched, or None where listener.yaml has a mistake."""
    try:
        service = choice.local(configured)
    except ConfigError:
        return None
    return Watched(service.folder, service.repository)


def _first(configured: Settings) -> Watched:
    """What is watched at the start, where a mistake in listener.yaml is waited for as later on.

    Raises:
        ConfigError: there is no listener.yaml, and nothing else that could be served: the folder is the wrong one.
    """
    if found := _now(configured):
        return found
    folder = Path(configured.service or configured.place or ".").resolve()
    if not (folder / FILE).is_file():
        choice.local(configured)
    return Watched(folder, folder / "triton_repo")
