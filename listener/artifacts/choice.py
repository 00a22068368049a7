"""Which service is served: the table in docs/reference/settings.md, "Where the models come from"."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from listener import service as services
from listener.artifacts import bucket, handover, layout, progress, single
from listener.artifacts.layout import Kind
from listener.artifacts.store import Store
from listener.errors import ConfigError
from listener.service import Service
from listener.settings import Settings

log = logging.getLogger("listener.artifacts")

#: What health says meanwhile.
BEING_FETCHED = "the model repository is being fetched"
#: Seconds between two looks whether it is there.
_LOOK = 0.1
#: So many of them lie between two looks how far it is.
_LOOKS = 5


def at(settings: Settings, folder: Path | None) -> Service:
    """The service that the settings ask for.

    Args:
        settings: all of them.
        folder: where on this machine that lies which `settings.place` names; None where it names nothing.

    Raises:
        ConfigError: what lies there cannot be served, or listener.yaml is missing or wrong.
    """
    given = Path(settings.service or ".")
    if folder is None:
        return services.read(given, settings.default_model)
    kind = layout.kind(layout.of_folder(folder, settings.place), settings.place)
    if kind in (Kind.MODEL, Kind.VERSION):
        folder = single.repository(kind, folder, settings.place, settings.artifacts)
    if kind is Kind.SERVICE:
        found = services.read(folder, settings.default_model)
        if not settings.service:
            return found
        return dataclasses.replace(services.read(given, settings.default_model), repository=found.repository)
    if settings.service or (_is_the_platforms(settings) and (given / services.FILE).exists()):
        return dataclasses.replace(services.read(given, settings.default_model), repository=folder.resolve())
    return services.bare(folder, settings.default_model)


def _is_the_platforms(settings: Settings) -> bool:
    """Whether the platform named the place and nobody else: then a service that is baked in is meant to use it."""
    return not settings.repository


def here(settings: Settings) -> Service | None:
    """The service, where nothing has to be fetched for it; else None.

    Raises:
        ConfigError: as of `at`.
    """
    if settings.fetches:
        return None
    return at(settings, Path(settings.place) if settings.place else None)


def local(settings: Settings) -> Service:
    """The service, for those who fetch nothing.

    Raises:
        ConfigError: it would have to be fetched; or as of `at`.
    """
    service = here(settings)
    if service is None:
        raise ConfigError(f"{settings.place}: lies in Cloud Storage; name a folder on this machine with --repository")
    return service


def present(settings: Settings) -> Service | None:
    """The service, or None while what it needs is being fetched.

    Raises:
        ConfigError: as of `at`.
    """
    if not settings.fetches:
        return here(settings)
    folder = handover.look(settings.triton_url)
    return None if folder is None else at(settings, folder)


async def arrived(settings: Settings, tell: Callable[[str], None] = lambda sentence: None) -> Service:
    """Waits until the service is there.

    Args:
        settings: all of them.
        tell: called now and then with how far the fetch is, for health.

    Raises:
        ConfigError: as of `at`.
    """
    service = present(settings)
    if service is None:
        log.info("waiting until %s is fetched", settings.place)
    looks = 0
    while service is None:
        if looks % _LOOKS == 0:
            tell(_how_far(settings))
        looks += 1
        await asyncio.sleep(_LOOK)
        service = present(settings)
    return service


def _how_far(settings: Settings) -> str:
    """Whoever fetches it, on this machine or on another one that shares the volume, writes that into a file."""
    state = progress.under_way(_store(settings).progress)
    return BEING_FETCHED if state is None else f"{BEING_FETCHED}: {state.percent} %"


def fetched(settings: Settings) -> progress.State | None:
    """How far the fetch is that the service needs, or how it ended; None: nothing is known, or nothing is fetched."""
    return progress.last(_store(settings).progress) if settings.fetches else None


def _store(settings: Settings) -> Store:
    return Store(settings.artifacts, bucket.parse(settings.place).key)


def with_repository(service: Service) -> Service:
    """The service, if its model repository exists.

    Raises:
        ConfigError: it does not.
    """
    if not service.repository.is_dir():
        raise ConfigError(
            f"{service.repository}: no such folder; 'repository' in {services.FILE} names the model repository"
        )
    return service
