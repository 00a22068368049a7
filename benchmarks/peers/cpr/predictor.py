"""Predictors and the handler that the custom prediction routines server loads, in front of a Triton.

The server knows its classes from environment variables and calls Predictor.load in each of its worker processes.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from google.cloud.aiplatform.prediction import handler_utils
from google.cloud.aiplatform.prediction.handler import PredictionHandler
from google.cloud.aiplatform.prediction.predictor import Predictor
from google.cloud.aiplatform.prediction.serializer import DefaultSerializer
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

sys.path.append(str(Path(__file__).parents[2]))
from pictures import pixels

RAW = "application/octet-stream"


class TritonPredictor(Predictor):
    """Sends the array of `preprocess` to one Triton model."""

    model: str

    def load(self, artifacts_uri: str, **kwargs: Any) -> None:
        """There are no artifacts: the model is Triton's."""
        self._address = os.environ["TRITON"]
        self._local = threading.local()

    def predict(self, instances: np.ndarray) -> np.ndarray:
        tensor = InferInput("X", instances.shape, "FP32")
        tensor.set_data_from_numpy(instances)
        wanted = InferRequestedOutput("Y", binary_data=True)
        return self._client().infer(self.model, [tensor], outputs=[wanted]).as_numpy("Y")

    def postprocess(self, prediction_results: np.ndarray) -> dict[str, Any]:
        return {"predictions": prediction_results.tolist()}

    def _client(self) -> InferenceServerClient:
        """One client for each thread: tritonclient's are not thread-safe."""
        if not hasattr(self._local, "client"):
            self._local.client = InferenceServerClient(self._address)
        return self._local.client


class Numbers(TritonPredictor):
    model = "affine"

    def preprocess(self, prediction_input: dict[str, Any]) -> np.ndarray:
        return np.asarray(prediction_input["instances"], np.float32)


class Pictures(TritonPredictor):
    model = "pool"

    def preprocess(self, prediction_input: dict[str, Any]) -> np.ndarray:
        return np.stack([pixels(base64.b64decode(instance["b64"])) for instance in prediction_input["instances"]])


class Tensor(TritonPredictor):
    model = "sum3"

    def preprocess(self, prediction_input: bytes) -> np.ndarray:
        return np.frombuffer(prediction_input, np.float32).reshape(1, 3, 512, 512)


class ThreadedHandler(PredictionHandler):
    """The default handler's steps, with two things that it leaves to handlers of one's own.

    Predictors are not asynchronous, and the default handler calls them in the event loop: a worker that waits for
    Triton then takes no other request. This one calls them in a thread. And it hands a raw body on as it is, where the
    default serializer knows JSON alone.
    """

    async def handle(self, request: Request) -> Response:
        body = await request.body()
        kind = handler_utils.get_content_type_from_headers(request.headers)
        accept = handler_utils.get_accept_from_headers(request.headers)
        answer = await run_in_threadpool(self._answer, body, kind, accept)
        return Response(content=answer, media_type=accept)

    def _answer(self, body: bytes, kind: str | None, accept: str) -> str:
        predictor = self._predictor
        given = body if kind == RAW else DefaultSerializer.deserialize(body, kind)
        found = predictor.postprocess(predictor.predict(predictor.preprocess(given)))
        return DefaultSerializer.serialize(found, accept)
