"""What a config.pbtxt of a TorchScript model must say, as far as it can be told without torch and without the file.

The rules are those of Triton's native PyTorch backend. They stand for loading in
listener/triton/backends/pytorch/pt_config.py and pt_module.py; a test holds the two together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from listener.tools.model_config import ModelConfig, type_name

_TYPES = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING")
_SWITCHES = (
    *("INFERENCE_MODE", "DISABLE_OPTIMIZED_EXECUTION", "DISABLE_CUDNN", "ENABLE_CACHE_CLEANING", "ENABLE_TENSOR_FUSER"),
    *("ENABLE_JIT_PROFILING", "ENABLE_JIT_EXECUTOR", "ENABLE_WEIGHT_SHARING"),
)
_COUNTS = ("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT")
_BOOLEANS = ("true", "false", "on", "off", "1", "0")
#: High enough for a letter or two that are wrong, as a model may have parameters of its own.
_NEAR = 0.85


def check(config: ModelConfig) -> Iterator[str]:
    """What is wrong with the configuration of a TorchScript model; a sentence per mistake."""
    for kind in ("input", "output"):
        if not getattr(config.message, kind):
            sentence = "is missing; a TorchScript file does not hold what would complete it"
            yield config.mistake(kind, sentence, kind)
        yield from _check_names(config, kind)
    for kind, index, entry in config.tensors:
        yield from _check_tensor(config, kind, index, entry)
    yield from _check_parameters(config)


def _check_names(config: ModelConfig, kind: str) -> Iterator[str]:
    """Inputs and outputs whose names are all `<name>__<index>` go by the index."""
    entries = getattr(config.message, kind)
    seen: dict[int, str] = {}
    without = [entry.name for entry in entries if index_of(entry.name) is None]
    for place, entry in enumerate(entries):
        index = index_of(entry.name)
        if index is None:
            continue
        what = f'{kind} "{entry.name}"'
        if without:
            sentence = f"ends in an index, and {without[0]!r} does not, so that the order here counts and no index"
            yield config.mistake(what, f"{sentence}; give all names of {kind}s one, or none", kind, place, "name")
            return
        if index in seen:
            yield config.mistake(what, f"has the same index as {seen[index]!r}", kind, place, "name")
        elif kind == "input" and index >= len(entries):
            sentence = f"has the index {index}, but there are {len(entries)} inputs, from 0 on"
            yield config.mistake(what, sentence, kind, place, "name")
        seen[index] = entry.name


def index_of(name: str) -> int | None:
    """The whole number behind the first `__`, none there being 0; None = there is no index."""
    _, mark, digits = name.partition("__")
    return int(digits or 0) if mark and (not digits or (digits.isascii() and digits.isdigit())) else None


def _check_tensor(config: ModelConfig, kind: str, index: int, entry: Any) -> Iterator[str]:
    what = f'{kind} "{entry.name}"'
    for name in ("data_type", "dims"):
        if not getattr(entry, name):
            sentence = "is missing, which a TorchScript file does not hold"
            yield config.mistake(f"{what}.{name}", sentence, kind, index, name)
    data_type = type_name(entry)
    if entry.data_type and data_type.removeprefix("TYPE_") not in _TYPES:
        sentence = f"is {data_type}, which Triton's PyTorch backends do not have"
        yield config.mistake(f"{what}.data_type", sentence, kind, index, "data_type")


def _check_parameters(config: ModelConfig) -> Iterator[str]:
    known = (*_SWITCHES, *_COUNTS)
    for name, value in sorted(config.message.parameters.items()):
        text, near = value.string_value, difflib.get_close_matches(name.upper(), known, n=1, cutoff=_NEAR)
        if name in _SWITCHES and text.lower() not in _BOOLEANS:
            yield config.mistake("parameters", f"{name} is {text!r}, but it must be 'true' or 'false'", "parameters")
        elif name in _COUNTS and not (text.isascii() and text.isdigit()):
            yield config.mistake("parameters", f"{name} is {text!r}, but it must be a whole number", "parameters")
        elif name not in known and near:
            yield config.mistake("parameters", f"{name!r} has no effect; did you mean {near[0]!r}?", "parameters")
