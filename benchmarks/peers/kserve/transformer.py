"""KServe transformers in front of a Triton: pre- and post-processing here, the call by kserve.Model itself (OIP v2)."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest, InferResponse, Model
from kserve.logging import KSERVE_LOG_CONFIG
from kserve.predictor_config import PredictorConfig
from kserve.protocol.infer_type import RequestedOutput

# At the end, and without __init__.py there: this folder is named like the package.
sys.path.append(str(Path(__file__).parents[2]))
from pictures import pixels

# No line for each request. Here, because every worker process imports this file before it configures its log.
KSERVE_LOG_CONFIG["loggers"]["uvicorn.access"]["handlers"] = []


class Transformer(Model):
    """One Triton model behind the name that it has there."""

    model: str

    def __init__(self, triton: str) -> None:
        super().__init__(self.model)
        self._predictor = PredictorConfig(predictor_host=triton, predictor_protocol="v2")
        self.ready = True

    @property
    def predictor_config(self) -> PredictorConfig:
        """KServe keeps it in a variable of the first process, which its further worker processes do not get."""
        return self._predictor

    async def postprocess(self, result: InferResponse, headers: Any = None, response_headers: Any = None) -> Any:
        return {"predictions": result.outputs[0].as_numpy().tolist()}

    def _request(self, array: np.ndarray) -> InferRequest:
        """Binary both ways, which is the cheapest form that KServe's client has."""
        tensor = InferInput("X", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array, binary_data=True)
        wanted = RequestedOutput("Y", {"binary_data": True})
        return InferRequest(self.name, [tensor], request_outputs=[wanted])


class Numbers(Transformer):
    model = "affine"

    async def preprocess(self, payload: dict[str, Any], headers: Any = None) -> InferRequest:
        return self._request(np.asarray(payload["instances"], np.float32))


class Pictures(Transformer):
    model = "pool"

    async def preprocess(self, payload: dict[str, Any], headers: Any = None) -> InferRequest:
        # in a thread: Pillow works without the interpreter lock, and the event loop goes on meanwhile
        return self._request(await asyncio.to_thread(self._pictures, payload["instances"]))

    @staticmethod
    def _pictures(instances: list[dict[str, str]]) -> np.ndarray:
        return np.stack([pixels(base64.b64decode(instance["b64"])) for instance in instances])


class Tensor(Transformer):
    """Takes W3 in both binary forms: the bare bytes at the v1 path, the protocol's binary extension at the v2 path."""

    model = "sum3"

    async def preprocess(self, payload: bytes | InferRequest, headers: Any = None) -> InferRequest:
        if isinstance(payload, InferRequest):
            return self._request(payload.inputs[0].as_numpy())
        return self._request(np.frombuffer(payload, np.float32).reshape(1, 3, 512, 512))

    async def postprocess(self, result: InferResponse, headers: Any = None, response_headers: Any = None) -> Any:
        if headers and "inference-header-content-length" in headers:
            return result
        return await super().postprocess(result, headers)
