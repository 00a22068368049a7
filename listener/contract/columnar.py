"""`{"inputs": ...}` in and `{"outputs": ...}` out: TensorFlow Serving's form by columns. Pure.

Inputs have a leading dimension with an element for each row: one value where the model has one input, or an object by
input name. Source: docs/reference/contract.md, "Columns".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from listener.call import Columns, Json
from listener.errors import BadRequest


def columns(inputs: Json) -> Columns:
    """The rows of a body's `inputs`; what is no list is the one row.

    Looking at the rows raises BadRequest where there are none, or the inputs differ in their number. A model that does
    not batch takes the inputs as they are, and its tensors need not have anything in common.
    """
    return Columns(inputs, partial(_by_name if isinstance(inputs, dict) else _bare, inputs))


def _bare(inputs: Json) -> list[Json]:
    rows = inputs if isinstance(inputs, list) else [inputs]
    if not rows:
        raise BadRequest("'inputs' is empty; its leading dimension is the batch")
    return rows


def _by_name(inputs: dict[str, Json]) -> list[Json]:
    if not inputs:
        raise BadRequest("'inputs' is empty; name at least one input")
    listed = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    counts = {name: len(value) for name, value in listed.items()}
    first = next(iter(counts))
    if not counts[first]:
        raise BadRequest(f"'inputs' has no rows of {first!r}; its leading dimension is the batch")
    for name, count in counts.items():
        if count != counts[first]:
            raise BadRequest(
                f"'inputs' has {counts[first]} rows of {first!r} and {count} of {name!r}; all need as many"
            )
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def outputs(predictions: Sequence[Json] | Any, whole: bool) -> Json:
    """Predictions by columns: where each is an object with the same keys, an object of columns.

    Args:
        predictions: one for each row, or an array of them.
        whole: the only one is all outputs.
    """
    if whole:
        return predictions[0]
    if not isinstance(predictions, (list, tuple)) or not all(isinstance(each, dict) for each in predictions):
        return predictions
    names = predictions[0].keys()
    if names == {"b64"} or any(prediction.keys() != names for prediction in predictions):
        return predictions
    return {name: [prediction[name] for prediction in predictions] for name in names}
