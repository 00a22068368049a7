"""Google's custom prediction routines server in front of a Triton: the benchmark's first comparison.

What `python -m google.cloud.aiplatform.prediction.model_server` does in Google's containers, but on loopback alone, and
without a log line for each request.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

PREDICTORS = {"W1": "Numbers", "W2": "Pictures", "W3": "Tensor", "W4": "Numbers"}
PATH = "/predict"


def describe(load: str) -> str:
    """How a load is posted."""
    raw = load == "W3"
    kind = "application/octet-stream" if raw else "application/json"
    return json.dumps({"path": PATH, "headers": {"Content-Type": kind}, "body": "raw" if raw else "instances"})


def environment(load: str, port: int, triton: str, handler: str) -> dict[str, str]:
    """What Google's container would set, and where our Triton is."""
    own = {"HANDLER_MODULE": "predictor", "HANDLER_CLASS": "ThreadedHandler"}
    default = {"HANDLER_MODULE": "google.cloud.aiplatform.prediction.handler", "HANDLER_CLASS": "PredictionHandler"}
    return {
        **(own if handler == "threaded" else default),
        "PREDICTOR_MODULE": "predictor",
        "PREDICTOR_CLASS": PREDICTORS[load],
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": PATH,
        "AIP_STORAGE_URI": "",
        "TRITON": triton,
    }


def serve(port: int, workers: int) -> None:
    import uvicorn
    from google.cloud.aiplatform.prediction import model_server

    if workers:
        os.environ["VERTEX_CPR_WEB_CONCURRENCY"] = str(workers)
    model_server.set_number_of_workers_from_env()
    uvicorn.run(
        "google.cloud.aiplatform.prediction.model_server:CprModelServer",
        factory=True,
        host="127.0.0.1",
        port=port,
        app_dir=str(Path(__file__).parent),
        access_log=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--describe", choices=PREDICTORS, help="print how this load is posted, and end")
    parser.add_argument("--load", choices=PREDICTORS, default="W1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--triton", default="127.0.0.1:8000")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: the server's own choice, one per core")
    parser.add_argument("--handler", choices=("threaded", "default"), default="threaded", help="default: no W3")
    given = parser.parse_args()
    if given.describe:
        print(describe(given.describe))
        return
    os.environ.update(environment(given.load, given.port, given.triton, given.handler))
    serve(given.port, given.workers)


if __name__ == "__main__":
    main()
