"""The two requests that put a service on AI Platform Prediction, whose contract the listener keeps as another form.

The product is gone, so these are printed and never sent.
"""

from __future__ import annotations

from typing import Any

from listener.tools.deploy import vertex
from listener.tools.deploy.request import Request
from listener.tools.deploy.wanted import Wanted

_GOOGLE = "GoogleCloudMlV1__"
GONE = (
    "AI Platform Prediction was shut down on 2025-01-31, so nothing can be deployed there; --dry-run prints the "
    "requests, and `listener deploy vertex` deploys on its successor"
)


def base(region: str) -> str:
    """Of the API's URLs."""
    return f"https://{region}-ml.googleapis.com"


def requests(wanted: Wanted) -> list[Request]:
    """Both of them, in their order."""
    return [_model(wanted), _version(wanted)]


def _model(wanted: Wanted) -> Request:
    body = {
        "name": wanted.name,
        "description": wanted.description,
        "regions": [wanted.region],
        "onlinePredictionConsoleLogging": True,
    }
    url = f"{base(wanted.region)}/v1/projects/{wanted.project}/models"
    return Request("create the model", url, f"{_GOOGLE}Model", body)


def _version(wanted: Wanted) -> Request:
    container: dict[str, Any] = {"image": wanted.image, "ports": [{"containerPort": vertex.PORT}]}
    if wanted.env:
        container["env"] = [{"name": name, "value": value} for name, value in wanted.env.items()]
    body: dict[str, Any] = {
        "name": wanted.version,
        "container": container,
        "routes": {"predict": vertex.route("predict"), "health": vertex.route("health")},
        "machineType": wanted.machine_type,
        "autoScaling": _scaling(wanted),
    }
    if wanted.artifact_uri:
        body["deploymentUri"] = wanted.artifact_uri
    if wanted.accelerators.kind:
        body["acceleratorConfig"] = {"type": wanted.accelerators.kind, "count": str(wanted.accelerators.count)}
    if wanted.service_account:
        body["serviceAccount"] = wanted.service_account
    url = f"{base(wanted.region)}/v1/projects/{wanted.project}/models/{wanted.name}/versions"
    return Request("create the version", url, f"{_GOOGLE}Version", body)


def _scaling(wanted: Wanted) -> dict[str, Any]:
    metric = "GPU_DUTY_CYCLE" if wanted.accelerators.kind else "CPU_USAGE"
    return {
        "minNodes": wanted.min_replicas,
        "maxNodes": wanted.max_replicas,
        "metrics": [{"name": metric, "target": wanted.target}],
    }
