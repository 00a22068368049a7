"""The rest of a large body, read from the socket to where it will stay: no copy, and few wake-ups.

An ordinary protocol gets its data in pieces, which would have to be copied on. A buffered one says where they shall go,
but costs two calls for each piece; so a connection has one only as long as there is such a body to read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Owner(Protocol):
    """A connection's own protocol, which hears of everything."""

    def room(self) -> memoryview:
        """Where the next bytes of the body shall go; never empty."""

    def filled(self, nbytes: int) -> None:
        """So many have come."""

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Intake(asyncio.BufferedProtocol):
    """Stands in for a connection's own protocol until its body is whole."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._owner.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._owner.filled(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()


def switch(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Another protocol from the next byte on. uvloop asks how to read only where reading begins, hence the pause."""
    transport.set_protocol(protocol)
    transport.pause_reading()
    transport.resume_reading()
