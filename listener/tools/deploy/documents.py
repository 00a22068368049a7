"""Discovery documents: what an API of Google's takes, as google-api-python-client ships it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from listener.errors import ConfigError

MISSING = "listener deploy needs google-api-python-client: pip install 'triton-listener[deploy]'"


def load(api: str) -> Mapping[str, Any]:
    """The document of one API.

    Args:
        api: with its version, such as `aiplatform.v1`.

    Raises:
        ConfigError: the extra `deploy` is not installed.
    """
    try:
        from googleapiclient import discovery_cache
    except ImportError:
        raise ConfigError(MISSING) from None
    text = discovery_cache.get_static_doc(*api.split("."))
    if text is None:
        raise ConfigError(
            f"google-api-python-client has no document of {api}; install it anew, with the extra `deploy`"
        )
    document: Mapping[str, Any] = json.loads(text)
    return document


def regions(document: Mapping[str, Any]) -> Sequence[str]:
    """Where the API of Vertex is, without the multi-regions, in which no model can be deployed."""
    return sorted({each["location"] for each in document["endpoints"] if "-" in each["location"]})
