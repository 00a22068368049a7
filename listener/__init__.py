"""Listener: a sidecar in front of NVIDIA Triton. What handlers import is here; it is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from listener._version import __version__

if TYPE_CHECKING:
    from listener.call import Arrays, Call, Context, Reply
    from listener.errors import BadRequest, ConfigError, InstanceError, ListenerError
    from listener.handler import Handler

_HOME = {
    "Arrays": "call",
    "BadRequest": "errors",
    "Call": "call",
    "ConfigError": "errors",
    "Context": "call",
    "Handler": "handler",
    "InstanceError": "errors",
    "ListenerError": "errors",
    "Reply": "call",
}

__all__ = [
    "Arrays",
    "BadRequest",
    "Call",
    "ConfigError",
    "Context",
    "Handler",
    "InstanceError",
    "ListenerError",
    "Reply",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Keeps `import listener` cheap: the command line and the first health answer need neither numpy nor handlers."""
    if name not in _HOME:
        raise AttributeError(f"module 'listener' has no attribute {name!r}")
    return getattr(importlib.import_module(f"listener.{_HOME[name]}"), name)
