"""KServe's Python model server as a transformer in front of a Triton: the benchmark's second comparison."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

# Before its import, which reads it: no log lines for each request. Further worker processes inherit it.
os.environ.setdefault("KSERVE_LOGLEVEL", "WARNING")

MODELS = {"W1": "affine", "W2": "pool", "W3": "sum3", "W3-oip": "sum3", "W4": "affine"}


def describe(load: str) -> str:
    """How a load is posted.

    W3 goes to the v1 path as bare bytes. That is the fast way: the protocol's binary extension (W3-oip, answered as the
    protocol says) is read into a Python list of every number, some fifty times slower. For W3-oip whoever posts adds
    Inference-Header-Content-Length.
    """
    path, kind, body = f"/v1/models/{MODELS[load]}:predict", "application/json", "instances"
    if load == "W3":
        # any type that KServe does not take for JSON, as it does with application/octet-stream
        kind, body = "application/x-tensor", "raw"
    elif load == "W3-oip":
        path, kind, body = "/v2/models/sum3/infer", "application/octet-stream", "oip-binary"
    return json.dumps({"path": path, "headers": {"Content-Type": kind}, "body": body})


def on_loopback() -> None:
    """KServe listens on every address and has no setting for that; the benchmark's servers are on loopback."""
    from kserve import model_server
    from kserve.protocol.rest.multiprocess import server

    model_server.RESTServer = server.RESTServer = _loopback_server


def _loopback_server(*given: Any, **named: Any) -> Any:
    from kserve.protocol.rest.server import RESTServer

    made = RESTServer(*given, **named)
    made.config.host = "127.0.0.1"
    return made


def serve(load: str, port: int, triton: str, workers: int) -> None:
    from kserve import ModelServer
    from transformer import Numbers, Pictures, Tensor

    on_loopback()
    transformers = {"affine": Numbers, "pool": Pictures, "sum3": Tensor}
    model = transformers[MODELS[load]](triton)
    workers = workers or len(os.sched_getaffinity(0))
    ModelServer(http_port=port, workers=workers, enable_grpc=False, enable_latency_logging=False).start([model])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--describe", choices=MODELS, help="print how this load is posted, and end")
    parser.add_argument("--load", choices=MODELS, default="W1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--triton", default="127.0.0.1:8000")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core, KServe's own is 1")
    given = parser.parse_args()
    if given.describe:
        print(describe(given.describe))
    else:
        serve(given.load, given.port, given.triton, given.workers)


if __name__ == "__main__":
    main()
