"""The listener that one would write first: aiohttp, Triton's own client, the json module and numpy, in one file."""

from __future__ import annotations

import argparse
import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from aiohttp import web
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient

from benchmarks.pictures import pixels

MODELS = {"W1": "affine", "W2": "pool", "W3": "sum3", "W4": "affine"}


async def batch(request: web.Request, load: str) -> np.ndarray[Any, Any]:
    if load == "W3":
        return np.frombuffer(await request.read(), np.float32).reshape(1, 3, 512, 512)
    instances = (await request.json())["instances"]
    if load == "W2":
        return np.stack([pixels(base64.b64decode(instance["b64"])) for instance in instances])
    return np.array(instances, np.float32)


def application(load: str, triton: str) -> web.Application:
    app = web.Application(client_max_size=64 * 1024 * 1024)

    async def client(app: web.Application) -> AsyncIterator[None]:
        app["triton"] = InferenceServerClient(triton, conn_limit=2048)
        yield
        await app["triton"].close()

    async def predict(request: web.Request) -> web.Response:
        array = await batch(request, load)
        tensor = InferInput("X", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        result = await app["triton"].infer(MODELS[load], [tensor])
        return web.json_response({"predictions": result.as_numpy("Y").tolist()})

    app.cleanup_ctx.append(client)
    app.router.add_post("/predict", predict)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", choices=MODELS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--triton", required=True, metavar="HOST:PORT")
    given = parser.parse_args()
    web.run_app(application(given.load, given.triton), host="127.0.0.1", port=given.port, access_log=None)
