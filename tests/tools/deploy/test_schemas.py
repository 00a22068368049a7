"""Bodies against the discovery documents that google-api-python-client ships."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from listener.tools.deploy import documents
from listener.tools.deploy.schemas import Schemas

VERTEX, LEGACY = (Schemas(documents.load(api)) for api in ("aiplatform.v1", "ml.v1"))
UPLOAD = "GoogleCloudAiplatformV1UploadModelRequest"
DEPLOY = "GoogleCloudAiplatformV1DeployModelRequest"

RIGHT: dict[str, Any] = {
    "model": {
        "displayName": "a",
        "labels": {"a": "b"},
        "metadata": {"any": ["thing"]},
        "containerSpec": {
            "imageUri": "a",
            "ports": [{"containerPort": 8080}],
            "env": [{"name": "A", "value": "1"}],
            "sharedMemorySizeMb": "64",
            "deploymentTimeout": "1800s",
        },
    }
}


def test_what_is_right_has_no_mistakes() -> None:
    assert VERTEX.mistakes(UPLOAD, RIGHT) == []


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("modle",), {}, f"modle: is no field of {UPLOAD}; did you mean model?"),
        (
            ("model", "containerSpec", "predictroute"),
            "/",
            "model.containerSpec.predictroute: is no field of GoogleCloudAiplatformV1ModelContainerSpec; did you mean "
            "predictRoute?",
        ),
        (
            ("model", "containerSpec", "qq"),
            1,
            "model.containerSpec.qq: is no field of GoogleCloudAiplatformV1ModelContainerSpec",
        ),
        (("model",), [], "model: is to be an object, not []"),
        (("model", "containerSpec", "ports"), {}, "model.containerSpec.ports: is to be a list, not {}"),
        (
            ("model", "containerSpec", "ports", 0, "containerPort"),
            "8080",
            "model.containerSpec.ports[0].containerPort: is to be a whole number, not '8080'",
        ),
        (
            ("model", "containerSpec", "ports", 0, "containerPort"),
            True,
            "model.containerSpec.ports[0].containerPort: is to be a whole number, not True",
        ),
        (
            ("model", "containerSpec", "ports", 0, "containerPort"),
            1 << 31,
            "model.containerSpec.ports[0].containerPort: 2147483648 does not fit into int32",
        ),
        (("model", "displayName"), 7, "model.displayName: is to be text, not 7"),
        (("model", "labels"), {"a": 1}, "model.labels.a: is to be text, not 1"),
        (
            ("model", "containerSpec", "sharedMemorySizeMb"),
            64,
            "model.containerSpec.sharedMemorySizeMb: is to be text, not 64",
        ),
        (
            ("model", "containerSpec", "sharedMemorySizeMb"),
            "64 MB",
            "model.containerSpec.sharedMemorySizeMb: '64 MB' is not a whole number as text",
        ),
        (
            ("model", "containerSpec", "deploymentTimeout"),
            "30m",
            "model.containerSpec.deploymentTimeout: '30m' is not a duration such as '30s'",
        ),
        (("model", "createTime"), "2026-11-26T12:00:00Z", "model.createTime: only the platform says it"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(place: tuple[Any, ...], value: Any, sentence: str) -> None:
    body = copy.deepcopy(RIGHT)
    inner: Any = body
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert VERTEX.mistakes(UPLOAD, body) == [sentence]


def test_a_value_that_is_none_of_the_list_is_told_with_a_near_one() -> None:
    body = {"deployedModel": {"dedicatedResources": {"machineSpec": {"acceleratorType": "NVIDIA_T4"}}}}
    (sentence,) = VERTEX.mistakes(DEPLOY, body)
    assert sentence.startswith(
        "deployedModel.dedicatedResources.machineSpec.acceleratorType: 'NVIDIA_T4' is none of its"
    )
    assert "did you mean NVIDIA_" in sentence


def test_values_of_a_map_are_looked_at() -> None:
    assert VERTEX.mistakes(DEPLOY, {"trafficSplit": {"0": "100"}}) == [
        "trafficSplit.0: is to be a whole number, not '100'"
    ]


def test_what_the_platform_says_may_stand_in_an_answer() -> None:
    answer = {"name": "a", "createTime": "2026-11-26T12:00:00Z"}
    assert VERTEX.mistakes("GoogleCloudAiplatformV1Endpoint", answer, sent=False) == []
    assert VERTEX.mistakes("GoogleCloudAiplatformV1Endpoint", answer) == ["createTime: only the platform says it"]


def test_the_older_document_says_in_words_what_only_the_platform_fills_in() -> None:
    assert LEGACY.mistakes("GoogleCloudMlV1__Version", {"isDefault": True}) == ["isDefault: only the platform says it"]


def test_several_mistakes_are_told_at_once() -> None:
    assert len(VERTEX.mistakes(UPLOAD, {"a": 1, "model": {"b": 2}})) == 2
