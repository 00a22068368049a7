"""What the Python-based backends read in a model's configuration the same way, and how they refuse one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Config = dict[str, Any]


class LoadError(Exception):
    """The model cannot be served. The text is one line that names the model and what to change."""


def one_line(error: Exception) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split())


def is_full(entry: Config) -> bool:
    """Whether an input or output is declared with data type and dims."""
    return bool(entry.get("dims")) and entry.get("data_type", "TYPE_INVALID") != "TYPE_INVALID"


def is_complete(config: Config) -> bool:
    """Whether all inputs and outputs are declared, so that nothing is left to be filled in."""
    return all(config.get(key) and all(map(is_full, config[key])) for key in ("input", "output"))


def shape_of(entry: Config) -> list[int]:
    """What the model itself sees of an input or output: `reshape` where there is one, else `dims`."""
    return [int(size) for size in entry.get("reshape", entry).get("shape", entry["dims"])]


def model_file(config: Config, version_folder: str, default: str) -> Path:
    """The file of a version: `default_model_filename`, or, where that is a folder, the file `default` in it.

    Raises:
        LoadError: there is no such file.
    """
    path = Path(version_folder) / (config.get("default_model_filename") or default)
    if path.is_dir():
        path /= default
    if not path.is_file():
        raise LoadError(f"model '{config['name']}': there is no file {path}")
    return path


def text_of(config: Config, name: str) -> str | None:
    """What config.pbtxt gives for a parameter; None = nothing."""
    text = config.get("parameters", {}).get(name, {}).get("string_value")
    return None if text is None else str(text)


def wrong_parameter(config: Config, name: str, wanted: str) -> LoadError:
    return LoadError(f"model '{config['name']}': the parameter {name} must be {wanted}, not '{text_of(config, name)}'")


def instance_count(config: Config) -> int:
    """How many instances of the model run side by side."""
    groups = config.get("instance_group", [])
    return max(1, sum(int(group.get("count", 1)) * max(1, len(group.get("gpus", []))) for group in groups))
