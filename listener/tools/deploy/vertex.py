"""The three requests that put a service on Vertex AI: upload the model, create the endpoint, deploy the one there.

What the platform makes of each field: docs/reference/contract.md, "Health" and "Environment".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from listener.settings import Settings
from listener.tools.deploy.request import Request
from listener.tools.deploy.wanted import Wanted

PORT = 8080
#: Who made an endpoint or a model, so that nothing of anybody else's is changed.
MADE_BY = {"made-by": "listener-deploy"}
_GOOGLE = "GoogleCloudAiplatformV1"
#: Seconds. The platform wants the time-out to be longer than the period.
_PERIOD, _PATIENCE = 5, 10
#: Health that is bad so often in a row stops the traffic to a replica: 15 s after a Triton died that does not return.
_BAD = 3
_METRICS = "aiplatform.googleapis.com/prediction/online"


def base(region: str) -> str:
    """Of the API's URLs."""
    return f"https://{region}-aiplatform.googleapis.com"


def requests(wanted: Wanted) -> list[Request]:
    """All of them, in the order in which they are sent; nothing is there yet."""
    return [upload(wanted), endpoint(wanted), deployment(wanted)]


def model_name(wanted: Wanted) -> str:
    return f"{wanted.parent}/models/{wanted.name}"


def endpoint_name(wanted: Wanted) -> str:
    return f"{wanted.parent}/endpoints/{wanted.name}"


def upload(wanted: Wanted, fingerprint: str = "", *, to_existing: bool = False) -> Request:
    """Makes the model, or another version of it.

    Args:
        wanted: all of it.
        fingerprint: by which a later run tells this version again.
        to_existing: there is a model of this name.
    """
    model: dict[str, Any] = {
        "displayName": wanted.name,
        "description": wanted.description,
        "labels": MADE_BY,
        "versionAliases": ["default"],
        "containerSpec": _container(wanted),
    }
    if fingerprint:
        model["versionDescription"] = described(fingerprint)
    if wanted.artifact_uri:
        model["artifactUri"] = wanted.artifact_uri
    body: dict[str, Any] = {"model": model}
    body |= {"parentModel": model_name(wanted)} if to_existing else {"modelId": wanted.name}
    url = f"{base(wanted.region)}/v1/{wanted.parent}/models:upload"
    return Request("upload the model", url, f"{_GOOGLE}UploadModelRequest", body)


def described(fingerprint: str) -> str:
    """What a version's description is, where a fingerprint is kept."""
    return f"listener deploy, {fingerprint}"


def _container(wanted: Wanted) -> Mapping[str, Any]:
    health = {"httpGet": {"path": route("health"), "port": PORT}, "periodSeconds": _PERIOD, "timeoutSeconds": _PATIENCE}
    # as often as fits into the time that a deployment has: a large model is no reason for a restart
    tries = -(-wanted.deployment_timeout // _PERIOD)
    spec: dict[str, Any] = {
        "imageUri": wanted.image,
        "ports": [{"containerPort": PORT}],
        "predictRoute": route("predict"),
        "healthRoute": route("health"),
        "sharedMemorySizeMb": str(wanted.shared_memory),
        "startupProbe": {**health, "failureThreshold": tries},
        "healthProbe": {**health, "failureThreshold": _BAD},
        "deploymentTimeout": f"{wanted.deployment_timeout}s",
    }
    if wanted.env:
        spec["env"] = [{"name": name, "value": value} for name, value in wanted.env.items()]
    return spec


def route(kind: str) -> str:
    """The listener's own for `predict` or `health`; named, so that they do not depend on the endpoint's id."""
    return f"{getattr(Settings(), f'{kind}_route')}"


def endpoint(wanted: Wanted) -> Request:
    """Makes the endpoint, with a host name of its own: payloads of 10 MB, and time-outs beyond a minute."""
    body: dict[str, Any] = {"displayName": wanted.name, "labels": MADE_BY, "dedicatedEndpointEnabled": True}
    if wanted.timeout is not None:
        body["clientConnectionConfig"] = {"inferenceTimeout": f"{wanted.timeout}s"}
    url = f"{base(wanted.region)}/v1/{wanted.parent}/endpoints"
    return Request("create the endpoint", url, f"{_GOOGLE}Endpoint", body, {"endpointId": wanted.name})


def deployment(wanted: Wanted, version: str = "") -> Request:
    """Puts the model on the endpoint, with all of its traffic from the moment it is ready.

    Args:
        wanted: all of it.
        version: of the model; '' = its default one.
    """
    model = model_name(wanted) + (f"@{version}" if version else "")
    deployed: dict[str, Any] = {"model": model, "displayName": wanted.name, "dedicatedResources": _resources(wanted)}
    if wanted.service_account:
        deployed["serviceAccount"] = wanted.service_account
    # "0" stands for what is being deployed
    body = {"deployedModel": deployed, "trafficSplit": {"0": 100}}
    url = f"{base(wanted.region)}/v1/{endpoint_name(wanted)}:deployModel"
    return Request("deploy the model", url, f"{_GOOGLE}DeployModelRequest", body)


def _resources(wanted: Wanted) -> Mapping[str, Any]:
    machine: dict[str, Any] = {"machineType": wanted.machine_type}
    metric = "cpu/utilization"
    if wanted.accelerators.kind:
        machine["acceleratorType"] = wanted.accelerators.kind
        machine["acceleratorCount"] = wanted.accelerators.count
        metric = "accelerator/duty_cycle"
    resources: dict[str, Any] = {
        "machineSpec": machine,
        "minReplicaCount": wanted.min_replicas,
        "maxReplicaCount": wanted.max_replicas,
        "autoscalingMetricSpecs": [{"metricName": f"{_METRICS}/{metric}", "target": wanted.target}],
    }
    if wanted.spot:
        resources["spot"] = True
    return resources
