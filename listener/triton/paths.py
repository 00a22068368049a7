"""A model's paths in Triton's protocol. Pure."""

from __future__ import annotations

import urllib.parse


def model_path(model: str, version: str = "") -> str:
    """The path, percent-encoded; bytes of the name that are no text come as lone surrogates.

    Args:
        model: its name.
        version: digits; "" = Triton chooses.
    """
    which = f"/versions/{version}" if version else ""
    return f"/v2/models/{urllib.parse.quote(model, safe='', errors='surrogateescape')}{which}"


def generate_path(model: str, version: str = "", stream: bool = True) -> str:
    """The path of the generate extension, for an answer in pieces or a single one."""
    return f"{model_path(model, version)}/generate{'_stream' if stream else ''}"
