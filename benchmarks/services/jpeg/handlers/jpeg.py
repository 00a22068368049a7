"""A JPEG file in, the means of its ten bands out."""

from __future__ import annotations

from typing import Any

from benchmarks.pictures import Floats, pixels
from listener import Handler, InstanceError


class Jpeg(Handler):
    """Does before the model what `repository/jpeg` does inside one."""

    model = "pool"

    def preprocess(self, instance: Any) -> dict[str, Floats]:
        if not isinstance(instance, bytes):
            raise InstanceError('an instance is {"b64": ...} with a JPEG file')
        return {"X": pixels(instance)}
