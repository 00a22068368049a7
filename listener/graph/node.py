"""What every node of the graph is: a request goes in, its predictions come out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import Protocol, runtime_checkable

from listener.call import Call, Reply
from listener.decoupled import Piece


class Node(Protocol):
    """A step, or one that combines others; a function may be one."""

    def __call__(self, call: Call, /) -> Awaitable[Reply]: ...


@runtime_checkable
class Chooses(Protocol):
    """A node that does nothing but choose another one, and so can hand on a stream."""

    async def chosen(self, call: Call) -> tuple[Node, Call]: ...


@runtime_checkable
class Streams(Protocol):
    """A node with pieces of its own."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]: ...
