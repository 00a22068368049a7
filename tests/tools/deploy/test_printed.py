"""What `listener deploy ... --dry-run` prints: bodies that can be read again, and commands that a shell can."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from listener import cli
from listener.tools.deploy import documents
from listener.tools.deploy.schemas import Schemas

ROOT = Path(__file__).parents[3]
IMAGE = "us-central1-docker.pkg.dev/my-project/serving/listener:1"


def printed(target: str, *more: str) -> str:
    known = ["--project", "my-project", "--region", "us-central1", "--image", IMAGE, "--dry-run"]
    found = CliRunner().invoke(cli.cli, ["deploy", target, "--service", str(ROOT), *known, *more])
    assert found.exit_code == 0, found
    return found.stdout


def bodies(text: str) -> list[Any]:
    return [json.loads(body) for body in re.findall(r"^POST \S+\n(\{.*?^\})$", text, re.M | re.S)]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(command) for command in re.findall(r"^# The same by gcloud.*\n((?:.+\n)+)", text, re.M)]


ALL = (
    *("--artifact-uri", "gs://bucket/models", "--service-account", "me@my-project.iam.gserviceaccount.com"),
    *("--accelerator", "T4:2", "--min-replicas", "2", "--max-replicas", "5", "--target", "70"),
    *("--env", "A=1,2", "--env", "B=it's; two"),
)


def test_the_requests_to_vertex() -> None:
    upload, endpoint, deployment = bodies(
        printed("vertex", *ALL, "--timeout", "120", "--deployment-timeout", "603", "--spot", "--shared-memory", "256")
    )
    health = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 5, "timeoutSeconds": 10}
    assert upload == {
        "modelId": "digits",
        "model": {
            "displayName": "digits",
            "description": "Served by triton-listener: digits",
            "labels": {"made-by": "listener-deploy"},
            "versionAliases": ["default"],
            "artifactUri": "gs://bucket/models",
            "containerSpec": {
                "imageUri": IMAGE,
                "ports": [{"containerPort": 8080}],
                "predictRoute": "/predict",
                "healthRoute": "/health",
                "sharedMemorySizeMb": "256",
                "startupProbe": {**health, "failureThreshold": 121},
                "healthProbe": {**health, "failureThreshold": 3},
                "deploymentTimeout": "603s",
                "env": [
                    {"name": "A", "value": "1,2"},
                    {"name": "B", "value": "it's; two"},
                    {"name": "LISTENER_TIMEOUT", "value": "120"},
                ],
            },
        },
    }
    assert endpoint == {
        "displayName": "digits",
        "labels": {"made-by": "listener-deploy"},
        "dedicatedEndpointEnabled": True,
        "clientConnectionConfig": {"inferenceTimeout": "120s"},
    }
    assert deployment == {
        "deployedModel": {
            "model": "projects/my-project/locations/us-central1/models/digits",
            "displayName": "digits",
            "serviceAccount": "me@my-project.iam.gserviceaccount.com",
            "dedicatedResources": {
                "machineSpec": {
                    "machineType": "n1-standard-4",
                    "acceleratorType": "NVIDIA_TESLA_T4",
                    "acceleratorCount": 2,
                },
                "minReplicaCount": 2,
                "maxReplicaCount": 5,
                "spot": True,
                "autoscalingMetricSpecs": [
                    {
                        "metricName": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle",
                        "target": 70,
                    }
                ],
            },
        },
        "trafficSplit": {"0": 100},
    }


def test_where_nothing_is_said_there_is_one_replica_and_the_endpoints_own_time_out() -> None:
    upload, endpoint, deployment = bodies(printed("vertex", "--min-replicas", "2"))
    assert not {"artifactUri", "versionDescription"} & set(upload["model"])
    assert upload["model"]["containerSpec"]["env"] == [{"name": "LISTENER_ENDPOINT", "value": "dedicated"}]
    assert "clientConnectionConfig" not in endpoint
    assert set(deployment["deployedModel"]) == {"model", "displayName", "dedicatedResources"}
    resources = deployment["deployedModel"]["dedicatedResources"]
    assert (resources["minReplicaCount"], resources["maxReplicaCount"]) == (2, 2)
    assert "spot" not in resources


def test_the_containers_own_time_out_may_be_another() -> None:
    upload, *_ = bodies(printed("vertex", "--timeout", "300", "--env", "LISTENER_TIMEOUT=100"))
    assert upload["model"]["containerSpec"]["env"] == [{"name": "LISTENER_TIMEOUT", "value": "100"}]


@pytest.mark.parametrize(
    ("accelerator", "machine", "kind", "count"),
    [
        ("L4:2", "g2-standard-24", "NVIDIA_L4", 2),
        ("L4:4", "g2-standard-48", "NVIDIA_L4", 4),
        ("L4:8", "g2-standard-96", "NVIDIA_L4", 8),
        ("T4:4", "n1-standard-16", "NVIDIA_TESLA_T4", 4),
        ("P4", "n1-standard-4", "NVIDIA_TESLA_P4", 1),
        ("P100:2", "n1-standard-4", "NVIDIA_TESLA_P100", 2),
        ("V100:8", "n1-standard-16", "NVIDIA_TESLA_V100", 8),
        ("A100", "a2-highgpu-1g", "NVIDIA_TESLA_A100", 1),
        ("A100:16", "a2-megagpu-16g", "NVIDIA_TESLA_A100", 16),
        ("A100-80GB:2", "a2-ultragpu-2g", "NVIDIA_A100_80GB", 2),
        ("H100:4", "a3-highgpu-4g", "NVIDIA_H100_80GB", 4),
        ("H200:8", "a3-ultragpu-8g", "NVIDIA_H200_141GB", 8),
        ("B200:8", "a4-highgpu-8g", "NVIDIA_B200", 8),
    ],
)
def test_an_accelerator_says_the_machine(accelerator: str, machine: str, kind: str, count: int) -> None:
    """https://cloud.google.com/compute/docs/gpus"""
    *_, deployment = bodies(printed("vertex", "--accelerator", accelerator))
    assert deployment["deployedModel"]["dedicatedResources"]["machineSpec"] == {
        "machineType": machine,
        "acceleratorType": kind,
        "acceleratorCount": count,
    }
    *_, again = bodies(printed("vertex", "--machine-type", machine, "--accelerator", accelerator))
    assert again == deployment


def test_without_a_gpu_the_cpu_is_the_signal() -> None:
    *_, deployment = bodies(printed("vertex", "--accelerator", "none"))
    resources = deployment["deployedModel"]["dedicatedResources"]
    assert resources["machineSpec"] == {"machineType": "n1-standard-4"}
    (metric,) = resources["autoscalingMetricSpecs"]
    assert metric["metricName"].endswith("/online/cpu/utilization")


def test_the_requests_to_legacy() -> None:
    model, version = bodies(printed("legacy", *ALL))
    assert model == {
        "name": "digits",
        "description": "Served by triton-listener: digits",
        "regions": ["us-central1"],
        "onlinePredictionConsoleLogging": True,
    }
    assert version == {
        "name": "v1",
        "deploymentUri": "gs://bucket/models",
        "container": {
            "image": IMAGE,
            "ports": [{"containerPort": 8080}],
            "env": [{"name": "A", "value": "1,2"}, {"name": "B", "value": "it's; two"}],
        },
        "routes": {"predict": "/predict", "health": "/health"},
        "machineType": "n1-standard-4",
        "acceleratorConfig": {"type": "NVIDIA_TESLA_T4", "count": "2"},
        "autoScaling": {"minNodes": 2, "maxNodes": 5, "metrics": [{"name": "GPU_DUTY_CYCLE", "target": 70}]},
        "serviceAccount": "me@my-project.iam.gserviceaccount.com",
    }


def test_legacy_has_a_t4_where_nothing_is_said_and_knows_no_newer_one() -> None:
    *_, version = bodies(printed("legacy"))
    assert version["machineType"] == "n1-standard-4"
    assert version["acceleratorConfig"] == {"type": "NVIDIA_TESLA_T4", "count": "1"}
    *_, version = bodies(printed("legacy", "--accelerator", "none"))
    assert "acceleratorConfig" not in version
    assert [metric["name"] for metric in version["autoScaling"]["metrics"]] == ["CPU_USAGE"]


@pytest.mark.parametrize(
    ("target", "api", "schemas"),
    [
        (
            "vertex",
            "aiplatform.v1",
            [f"GoogleCloudAiplatformV1{name}" for name in ("UploadModelRequest", "Endpoint", "DeployModelRequest")],
        ),
        ("legacy", "ml.v1", ["GoogleCloudMlV1__Model", "GoogleCloudMlV1__Version"]),
    ],
)
def test_bodies_are_what_the_apis_take(target: str, api: str, schemas: list[str]) -> None:
    known = Schemas(documents.load(api))
    found = bodies(printed(target, *ALL))
    assert [known.mistakes(name, body) for name, body in zip(schemas, found, strict=True)] == [[]] * len(schemas)


PLACE = {"--region": "us-central1", "--project": "my-project"}


def flags(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words if word.startswith("--"))}


def test_the_commands_for_vertex_say_the_same() -> None:
    text = printed("vertex", *ALL, "--spot", "--deployment-timeout", "603")
    upload, endpoint, deployment = commands(text)
    assert upload[:4] == ["gcloud", "ai", "models", "upload"]
    assert flags(upload) == {
        **PLACE,
        "--model-id": "digits",
        "--display-name": "digits",
        "--description": "Served by triton-listener: digits",
        "--labels": "made-by=listener-deploy",
        "--version-aliases": "default",
        "--artifact-uri": "gs://bucket/models",
        "--container-image-uri": IMAGE,
        "--container-ports": "8080",
        "--container-predict-route": "/predict",
        "--container-health-route": "/health",
        "--container-shared-memory-size-mb": "1024",
        "--container-deployment-timeout-seconds": "603",
        "--container-env-vars": "^|^A=1,2|B=it's; two|LISTENER_ENDPOINT=dedicated",
    }
    assert endpoint[0] == "curl"
    assert json.loads(endpoint[endpoint.index("-d") + 1]) == bodies(text)[1]
    assert endpoint[-1].endswith("/projects/my-project/locations/us-central1/endpoints?endpointId=digits")
    assert deployment[:5] == ["gcloud", "ai", "endpoints", "deploy-model", "digits"]
    assert flags(deployment) == {
        **PLACE,
        "--model": "digits",
        "--display-name": "digits",
        "--machine-type": "n1-standard-4",
        "--accelerator": "type=nvidia-tesla-t4,count=2",
        "--min-replica-count": "2",
        "--max-replica-count": "5",
        "--autoscaling-metric-specs": "gpu-duty-cycle=70",
        "--traffic-split": "0=100",
        "--service-account": "me@my-project.iam.gserviceaccount.com",
        "--spot": "",
    }


def test_the_commands_for_legacy_say_the_same() -> None:
    model, version = commands(printed("legacy", *ALL))
    assert model[:6] == ["gcloud", "beta", "ai-platform", "models", "create", "digits"]
    assert flags(model) == {
        **PLACE,
        "--description": "Served by triton-listener: digits",
        "--enable-console-logging": "",
    }
    assert version[:6] == ["gcloud", "beta", "ai-platform", "versions", "create", "v1"]
    assert flags(version) == {
        **PLACE,
        "--model": "digits",
        "--image": IMAGE,
        "--ports": "8080",
        "--predict-route": "/predict",
        "--health-route": "/health",
        "--machine-type": "n1-standard-4",
        "--min-nodes": "2",
        "--max-nodes": "5",
        "--metric-targets": "gpu-duty-cycle=70",
        "--accelerator": "type=nvidia-tesla-t4,count=2",
        "--origin": "gs://bucket/models",
        "--service-account": "me@my-project.iam.gserviceaccount.com",
        "--env-vars": "^|^A=1,2|B=it's; two",
    }


def test_the_end_says_what_would_cost_money() -> None:
    assert printed("vertex", "--max-replicas", "3").endswith(
        "# Nothing was sent. Without --dry-run, 'digits' is deployed on 1 to 3 x g2-standard-4 with 1 NVIDIA_L4 in "
        "us-central1, which costs money from then on.\n"
    )
