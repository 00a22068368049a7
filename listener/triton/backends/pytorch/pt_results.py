"""What a TorchScript model gave: a Tensor, a List[str] or a tuple of these, held against what is declared."""

from __future__ import annotations

import re
from typing import Any

from pt_config import STRING, TRITON_TYPES, Plan


def results_of(value: Any) -> tuple[Any, ...]:
    """The results of a call, each a tensor or a list of strings.

    Raises:
        ValueError: there is something else among them.
    """
    found = value if isinstance(value, tuple) else (value,)
    for place, result in enumerate(found):
        if not _is_tensor(result) and not _is_strings(result):
            raise ValueError(
                f"result {place} of forward() is a {type(result).__name__}; Triton can take a Tensor, a List[str] or a "
                "tuple of these"
            )
    return found


def check_results(plan: Plan, results: tuple[Any, ...]) -> None:
    """Holds the results against every output that is declared, whichever were asked for, as the native backend does.

    Raises:
        ValueError: an output has no result, one of another type than is declared, or one without dimensions.
    """
    for name, place in plan.outputs.items():
        if place >= len(results):
            raise ValueError(
                f"output '{name}' refers to an output index which doesn't exist, {place}: forward() gave "
                f"{len(results)}, from 0 on"
            )
        given, declared = _data_type(results[place]), plan.data_types[name]
        if given != declared:
            raise ValueError(f"config.pbtxt declares output '{name}' as {declared}, but the model gave {given}")
        if _is_tensor(results[place]) and not results[place].dim():
            raise ValueError(f"output '{name}' is a scalar, which Triton's PyTorch backends do not have: make it a [1]")


def reason(error: Exception) -> str:
    """What went wrong in a model, in one line: without TorchScript's traceback and torch's stack of C++ functions."""
    text = str(error).partition("\nException raised from ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Traceback of TorchScript" in text:
        # the message is the last line that no frame of the traceback is
        lines = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)][-1:] or lines[-1:]
    return " ".join(lines) or type(error).__name__


def _is_tensor(result: Any) -> bool:
    return hasattr(result, "dtype")


def _is_strings(result: Any) -> bool:
    return isinstance(result, list) and all(isinstance(item, str) for item in result)


def _data_type(result: Any) -> str:
    return TRITON_TYPES.get(str(result.dtype), str(result.dtype)) if _is_tensor(result) else STRING
