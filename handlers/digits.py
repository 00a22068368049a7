"""Says which digit a picture shows: the sample service.

An instance is either a picture (PNG or JPEG, as bytes) or a plain list of 64 numbers, an 8x8 picture row by row with 0
for paper and 16 for full ink, as in scikit-learn's `load_digits`. Both end as the same thing, an "ink map" with values
in 0..1, which is cropped to the digit, scaled with its aspect ratio kept, and centred in a 24x24 square (`ink.py`). The
network never learns how a picture was lit, framed or encoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handlers.ink import centred, numbers_ink, picture_ink
from handlers.picture import Floats, grey_levels
from listener import Handler, InstanceError

EXAMPLE = [
    *(0, 0, 5, 13, 9, 1, 0, 0),
    *(0, 0, 13, 15, 10, 15, 5, 0),
    *(0, 3, 15, 2, 0, 11, 8, 0),
    *(0, 4, 12, 0, 0, 8, 8, 0),
    *(0, 5, 8, 0, 0, 9, 8, 0),
    *(0, 4, 11, 0, 1, 12, 7, 0),
    *(0, 2, 14, 5, 10, 12, 0, 0),
    *(0, 0, 6, 13, 10, 0, 0, 0),
]
"""A zero, as a list of 64 numbers."""

_PICTURE = {
    "description": "A PNG or JPEG picture.",
    "type": "object",
    "properties": {"b64": {"type": "string", "format": "byte", "minLength": 4}},
    "required": ["b64"],
    "additionalProperties": False,
}
_NUMBERS = {
    "description": "An 8x8 picture, row by row; 0 is paper, 16 full ink.",
    "type": "array",
    "items": {"type": "number", "minimum": 0, "maximum": 16},
    "minItems": 64,
    "maxItems": 64,
}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_PROBABILITIES = {"type": "array", "items": _PROBABILITY, "minItems": 10, "maxItems": 10}

_ACCEPTED = "an instance is a PNG or JPEG picture or a list of 64 numbers"


class Digits(Handler):
    """Says which digit a picture shows."""

    model = "digits"
    example = EXAMPLE
    instance_schema = {"title": "A picture of a digit", "anyOf": [_PICTURE, _NUMBERS]}
    prediction_schema = {
        "title": "What the picture shows",
        "type": "object",
        "properties": {
            "digit": {"type": "integer", "minimum": 0, "maximum": 9},
            "score": {"description": "Its probability.", **_PROBABILITY},
            "scores": {"description": "Those of 0 to 9.", **_PROBABILITIES},
        },
        "required": ["digit", "score", "scores"],
        "additionalProperties": False,
    }
    max_pixels = 25_000_000

    def preprocess(self, instance: Any) -> dict[str, Floats]:
        """Turns one instance into the network's input.

        Args:
            instance: A PNG or JPEG file as bytes, or a list of 64 numbers in 0..16.

        Returns:
            ``{"X": array}`` of shape [1, 24, 24], float32: the digit's ink in 0..1, without the batch dimension.

        Raises:
            InstanceError: The instance is neither, is damaged or too large, or shows nothing.
        """
        if isinstance(instance, bytes):
            ink = picture_ink(grey_levels(instance, self.max_pixels))
        elif isinstance(instance, list):
            ink = numbers_ink(instance)
        else:
            raise InstanceError(_refusal(instance))
        return {"X": centred(ink)[np.newaxis]}

    def postprocess(self, outputs: dict[str, Floats]) -> dict[str, Any]:
        """Turns one instance's probabilities into the answer.

        Args:
            outputs: ``{"probabilities": array}`` of shape [10], float32.

        Returns:
            The digit (int), its probability (float) and all ten probabilities (list of float).
        """
        scores = [float(score) for score in np.asarray(outputs["probabilities"]).reshape(-1)]
        digit = max(range(len(scores)), key=scores.__getitem__)
        return {"digit": digit, "score": scores[digit], "scores": scores}


def _refusal(instance: Any) -> str:
    """Says why something that is neither picture nor list is refused, in one line."""
    if isinstance(instance, dict) and instance:
        # As ASCII, to keep line breaks and unprintable characters out of the sentence.
        return f"unknown input {str(next(iter(instance)))[:40]!a}; {_ACCEPTED}"
    kinds = {dict: "an empty object", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    kind = "null" if instance is None else kinds.get(type(instance), "something else")
    hint = '; a picture is sent as {"b64": "<base64>"}' if isinstance(instance, str) else ""
    return f"{_ACCEPTED}, not {kind}{hint}"
