"""What every node of the graph is: a request goes in, its predictions come out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from listener.call import Call, Reply

#: A step, or one that combines others.
Node: TypeAlias = Callable[[Call], Awaitable[Reply]]
