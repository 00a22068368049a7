"""Hooks in a process of their own, which can be killed."""

from __future__ import annotations

from typing import Any

import numpy as np

from listener import Handler


class Apart(Handler):
    """Triples the numbers of an instance."""

    model = "triple"
    offload = "process"

    def preprocess(self, instance: Any) -> dict[str, Any]:
        """A list of numbers becomes x, FP64 [-1]."""
        return {"x": np.asarray(instance, np.float64)}

    def postprocess(self, outputs: Any) -> list[float]:
        """y, FP64 [-1]; one list."""
        return list(map(float, outputs["y"]))
