"""A batch larger than the model takes, cut into parts and joined again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listener.call import Arrays


def parts(arrays: Arrays, max_batch_size: int) -> list[dict[str, NDArray[Any]]]:
    """Consecutive parts of at most `max_batch_size` rows, as views.

    Args:
        arrays: share a leading dimension of N >= 1 rows.
        max_batch_size: at least 1.
    """
    count = len(next(iter(arrays.values())))
    return [
        {name: array[start : start + max_batch_size] for name, array in arrays.items()}
        for start in range(0, count, max_batch_size)
    ]


def join(replies: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """The outputs of the parts, in their order, as one batch. One part is handed on without a copy."""
    if len(replies) == 1:
        return dict(replies[0])
    return {name: np.concatenate([reply[name] for reply in replies]) for name in replies[0]}
