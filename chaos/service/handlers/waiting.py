"""Requests that take a while, so that some are inside whenever something happens."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from listener import Handler


class Waiting(Handler):
    """Waits as long as the first number says, up to 0.4 s, and triples the numbers of an instance."""

    model = "triple"

    async def preprocess(self, instance: Any) -> dict[str, Any]:
        """A list of numbers becomes x, FP64 [-1]."""
        await asyncio.sleep(instance[0] % 0.4)
        return {"x": np.asarray(instance, np.float64)}
