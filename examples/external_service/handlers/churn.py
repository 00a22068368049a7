"""Says how likely a customer leaves, whose features another service knows."""

import os
from urllib.parse import quote

import aiohttp
import numpy as np

from listener import Handler, InstanceError
from listener.errors import Unavailable


class Churn(Handler):
    model = "churn"

    async def load(self, artifacts):
        url = os.environ.get("CUSTOMERS_URL", "http://127.0.0.1:9000")
        self.session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(2))

    async def close(self):
        await self.session.close()

    async def preprocess(self, instance):  # for all instances of a request at once
        try:
            async with self.session.get(f"/customers/{quote(str(instance), safe='')}") as answer:
                if answer.status == 404:
                    raise InstanceError("an instance is the id of a customer")
                answer.raise_for_status()
                return {"x": np.array((await answer.json())["features"], np.float32)}
        except (aiohttp.ClientError, TimeoutError):
            raise Unavailable("the customers' service does not answer") from None

    def postprocess(self, outputs):
        return {"leaves": float(outputs["leaves"][0])}
