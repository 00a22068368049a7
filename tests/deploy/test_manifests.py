"""The manifests in deploy/ and loadtest/: right by Kubernetes' own schemas, and in agreement with the listener.

KServe's resource has no package with a schema. Its own fields are held against its documentation,
https://kserve.github.io/website/docs/reference/crd-api, and what it has of a pod's against Kubernetes' schema of pods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
import pytest
import yaml

from listener import service, settings
from listener.tools.deploy.wanted import Options

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
DEFAULTS = settings.Settings()
#: What `listener deploy vertex` asks for where nothing is said.
DEPLOYED = Options()
#: Those that are not out of support everywhere.
VERSIONS = [version for version in kubernetes_validate.utils.all_versions() if int(version.split(".")[1]) >= 29]

#: https://kserve.github.io/website/docs/reference/crd-api, by the names that its page gives the types.
KSERVE: dict[str, set[str]] = {
    "InferenceServiceSpec": {"predictor", "explainer", "transformer"},
    "ComponentExtensionSpec": {
        *("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "containerConcurrency", "timeout", "logger"),
        *("canaryTrafficPercent", "batcher", "labels", "annotations", "deploymentStrategy", "autoScaling"),
    },
    "ModelSpec": {"modelFormat", "runtime", "storageUri", "storage", "protocolVersion", "runtimeVersion"},
    "ModelFormat": {"name", "version"},
    "ScaleMetric": {"cpu", "memory", "concurrency", "rps"},
    "InferenceServiceProtocol": {"v1", "v2", "grpc-v1", "grpc-v2"},
}


def documents() -> Iterator[Any]:
    for file in [*sorted(FOLDER.rglob("*.yaml")), ROOT / "loadtest/kubernetes.yaml"]:
        for number, document in enumerate(yaml.safe_load_all(file.read_text())):
            yield pytest.param(document, id=f"{file.relative_to(ROOT)}-{number}")


ALL = list(documents())
PLAIN = [each for each in ALL if not each.values[0]["apiVersion"].startswith("serving.kserve.io")]
SERVED = [each for each in ALL if each not in PLAIN]


def of_kind(kind: str, document: str) -> Any:
    (found,) = [each for each in yaml.safe_load_all((FOLDER / document).read_text()) if each["kind"] == kind]
    return found


def containers() -> Iterator[Any]:
    """Each container of ours, and the pod that it stands in."""
    pod = of_kind("Deployment", "gke/deployment.yaml")["spec"]["template"]["spec"]
    yield pytest.param(pod["containers"][0], pod, id="gke")
    for name in ("predictor", "transformer"):
        pod = of_kind("InferenceService", f"kserve/{name}.yaml")["spec"][name]
        yield pytest.param(pod["containers"][0], pod, id=name)


OURS = list(containers())
#: Those with Triton in them.
WHOLE = OURS[:2]


def quantity(text: str) -> float:
    """Of Kubernetes: `256Mi` in bytes, `500m` in whole ones, `3`."""
    number, unit = re.fullmatch(r"([\d.]+)(|m|Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "m": 0.001, "Mi": 1 << 20, "Gi": 1 << 30}[unit]


# Schemas


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize("document", PLAIN)
def test_it_is_what_kubernetes_takes(document: Any, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_would_find_a_field_that_is_misspelt() -> None:
    document = of_kind("Deployment", "gke/deployment.yaml")
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 40
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def kserve_mistakes(document: Any) -> list[str]:
    """What KServe's documentation does not have, or Kubernetes' schemas refuse."""
    found = [f"spec.{key}" for key in set(document["spec"]) - KSERVE["InferenceServiceSpec"]]
    for name in sorted(KSERVE["InferenceServiceSpec"] & set(document["spec"])):
        component = document["spec"][name]
        extension = {key: value for key, value in component.items() if key in KSERVE["ComponentExtensionSpec"]}
        if extension["scaleMetric"] not in KSERVE["ScaleMetric"]:
            found.append(f"{name}.scaleMetric")
        found += [
            f"{name}.{key}" for key in ("minReplicas", "maxReplicas", "scaleTarget") if type(extension[key]) is not int
        ]
        pod = {key: value for key, value in component.items() if key not in extension and key != "model"}
        if "model" in component:
            found += _model_mistakes(component["model"], pod)
        found += _refused({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod})
    return found


def _model_mistakes(model: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    """Of a model, which is a container with some fields more."""
    own = {key: value for key, value in model.items() if key in KSERVE["ModelSpec"]}
    pod["containers"] = [{"name": "kserve-container", **{key: value for key, value in model.items() if key not in own}}]
    found = [f"modelFormat.{key}" for key in set(own["modelFormat"]) - KSERVE["ModelFormat"]]
    found += [f"modelFormat.{key}" for key, value in own["modelFormat"].items() if not isinstance(value, str)]
    return found + (["protocolVersion"] if own["protocolVersion"] not in KSERVE["InferenceServiceProtocol"] else [])


def _refused(pod: Any) -> list[str]:
    try:
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error.message)]
    return []


@pytest.mark.parametrize("document", SERVED)
def test_it_is_what_kserve_documents(document: Any) -> None:
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert kserve_mistakes(document) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "transformers"), {"scaleMetric": "cpu", "minReplicas": 1, "maxReplicas": 1, "scaleTarget": 1}),
        (("spec", "transformer", "scaleMetrics"), "cpu"),
        (("spec", "transformer", "scaleMetric"), "gpu"),
        (("spec", "transformer", "minReplicas"), "1"),
        (("spec", "predictor", "model", "storageURI"), "gs://a"),
        (("spec", "predictor", "model", "modelFormat", "version"), 2),
        (("spec", "predictor", "model", "protocolVersion"), "v3"),
    ],
)
def test_a_field_that_kserve_does_not_document_is_found(place: tuple[str, ...], value: Any) -> None:
    document = of_kind("InferenceService", "kserve/transformer.yaml")
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert len(kserve_mistakes(document)) == 1


# What the listener needs, and what it is


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_it_runs_without_rights_and_on_a_read_only_file_system(container: Any, pod: Any) -> None:
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_what_is_mounted_is_there_and_tmp_can_be_written(container: Any, pod: Any) -> None:
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert len(mounted) == len(volumes)
    assert mounted["/tmp"]["medium"] == "Memory"
    if "command" not in container:  # Triton is in the same container
        assert mounted["/dev/shm"]["medium"] == "Memory"
        assert (
            quantity(mounted["/dev/shm"]["sizeLimit"]) > 128 << 20
        )  # or the listener warns: listener/triton/regions.py
        assert mounted[variables(container)["LISTENER_ARTIFACTS"]].get("medium") is None


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_the_memory_is_there_and_holds_what_lies_in_it(container: Any, pod: Any) -> None:
    asked, most = container["resources"]["requests"], container["resources"]["limits"]
    assert asked["memory"] == most["memory"]  # or the node may have no room for what is allowed
    in_memory = [each["emptyDir"] for each in pod["volumes"] if each["emptyDir"].get("medium") == "Memory"]
    assert sum(quantity(each["sizeLimit"]) for each in in_memory) < quantity(most["memory"]) / 2
    # a limit of CPU slows down decoding; without a request no scaler could tell how busy they are
    assert "cpu" not in most
    assert quantity(asked["cpu"]) >= 1


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_probes_ask_the_port_and_the_route_of_health(container: Any, pod: Any) -> None:
    (port,) = container["ports"]
    assert port["containerPort"] == DEFAULTS.port
    named = {port.get("name"), port["containerPort"]}
    for probe in {"readinessProbe"} | {"startupProbe"} & set(container):
        assert container[probe]["httpGet"] == {"path": DEFAULTS.health_route, "port": port.get("name", DEFAULTS.port)}
    # health is 503 while a Triton is started again, and that must not end the container
    assert container["livenessProbe"]["tcpSocket"]["port"] in named
    assert not {"httpGet", "exec"} & set(container["livenessProbe"])


def lasting(probe: Any) -> int:
    """Seconds of failures in a row after which a probe acts."""
    seconds = probe["periodSeconds"] * probe["failureThreshold"]
    assert isinstance(seconds, int)
    return seconds


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_probes_have_the_patience_that_they_need(container: Any, pod: Any) -> None:
    assert lasting(container["readinessProbe"]) <= 5  # after which requests go elsewhere
    assert lasting(container["livenessProbe"]) >= 30  # as the platform has it: docs/reference/contract.md


def test_models_have_half_an_hour_to_be_fetched_and_loaded() -> None:
    pod = of_kind("Deployment", "gke/deployment.yaml")["spec"]["template"]["spec"]
    assert lasting(pod["containers"][0]["startupProbe"]) >= DEPLOYED.deployment_timeout
    annotations = of_kind("InferenceService", "kserve/predictor.yaml")["spec"]["predictor"]["annotations"]
    assert annotations["serving.knative.dev/progress-deadline"] == f"{DEPLOYED.deployment_timeout}s"


def variables(container: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize(("container", "pod"), OURS)
def test_its_variables_are_settings_and_have_values_that_are_right(container: Any, pod: Any) -> None:
    given = variables(container)
    assert set(given) <= {settings.env_name(field) for field in settings.Settings.__dataclass_fields__.values()}
    settings.read(given)


def test_the_grace_period_covers_the_stop() -> None:
    pod = of_kind("Deployment", "gke/deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    closing, killing = 5, 3  # docs/reference/contract.md, "Stop"
    stop = DEFAULTS.drain_timeout + closing + DEFAULTS.triton_exit_timeout + killing
    assert before >= lasting(container["readinessProbe"])  # until no load balancer sends anything here any more
    assert pod["terminationGracePeriodSeconds"] >= before + stop


def test_the_parts_for_gke_belong_together() -> None:
    deployment = of_kind("Deployment", "gke/deployment.yaml")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    offered = of_kind("Service", "gke/service.yaml")["spec"]
    assert offered["selector"] == labels
    (port,) = pod["spec"]["containers"][0]["ports"]
    assert [each["targetPort"] for each in offered["ports"]] == [port["name"]]
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    assert of_kind("PodDisruptionBudget", "gke/pdb.yaml")["spec"]["selector"]["matchLabels"] == labels
    account = of_kind("ServiceAccount", "gke/service.yaml")
    assert account["metadata"]["name"] == pod["spec"]["serviceAccountName"]
    assert account["automountServiceAccountToken"] is False  # it asks nothing of Kubernetes
    assert pod["spec"]["enableServiceLinks"] is False  # or LISTENER_* variables would be made of the Service's name
    scaler = of_kind("HorizontalPodAutoscaler", "gke/hpa.yaml")["spec"]
    assert scaler["scaleTargetRef"] == {
        **{key: deployment[key] for key in ("apiVersion", "kind")},
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]  # or each `kubectl apply` would undo what the scaler did
    # one pod may always go, or no node could be upgraded, and one stays
    assert 0 < of_kind("PodDisruptionBudget", "gke/pdb.yaml")["spec"]["maxUnavailable"] < scaler["minReplicas"]
    assert scaler["minReplicas"] < scaler["maxReplicas"]
    # an update goes with a pod more, not with one less
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_are_added_by_the_duty_cycle_and_the_cpu() -> None:
    """At once, and taken away slowly: a node with a GPU takes minutes to come."""
    scaler = of_kind("HorizontalPodAutoscaler", "gke/hpa.yaml")["spec"]
    external, resource = (metric[metric["type"].lower()] for metric in scaler["metrics"])
    # https://cloud.google.com/kubernetes-engine/docs/how-to/machine-learning/inference/autoscaling
    assert external["metric"]["name"] == "kubernetes.io|container|accelerator|duty_cycle"
    pod = of_kind("Deployment", "gke/deployment.yaml")["spec"]["template"]["spec"]
    assert external["metric"]["selector"]["matchLabels"] == {
        "resource.labels.container_name": pod["containers"][0]["name"],
        "resource.labels.namespace_name": "default",
    }
    assert external["target"] == {"type": "AverageValue", "averageValue": str(DEPLOYED.target)}
    assert (resource["name"], resource["target"]["type"]) == ("cpu", "Utilization")
    assert 50 <= resource["target"]["averageUtilization"] <= 80  # docs/scaling.md: what a replica can still take
    assert scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_kserve_scales_by_what_docs_scaling_says() -> None:
    predictor = of_kind("InferenceService", "kserve/predictor.yaml")["spec"]["predictor"]
    assert predictor["scaleMetric"] == "concurrency"
    assert predictor["timeout"] >= DEFAULTS.timeout  # or the ingress would give up before the listener
    transformer = of_kind("InferenceService", "kserve/transformer.yaml")
    # concurrency is Knative's; plain Deployments have the CPU
    assert transformer["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "RawDeployment"}
    assert {part["scaleMetric"] for part in transformer["spec"].values()} == {"cpu"}
    for part in (predictor, *transformer["spec"].values()):
        assert 1 <= part["minReplicas"] < part["maxReplicas"]


def test_a_gpu_is_asked_for_where_triton_is() -> None:
    pod = of_kind("Deployment", "gke/deployment.yaml")["spec"]["template"]["spec"]
    for container, _ in (each.values for each in WHOLE):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    transformer = of_kind("InferenceService", "kserve/transformer.yaml")["spec"]
    assert transformer["predictor"]["model"]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in transformer["transformer"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("document", SERVED)
def test_the_name_for_kserve_is_a_route(document: Any) -> None:
    assert document["metadata"]["name"] in service.read(ROOT).routes


def test_the_transformer_finds_triton() -> None:
    made = of_kind("Service", "kserve/transformer.yaml")
    transformer = of_kind("InferenceService", "kserve/transformer.yaml")
    (container,) = transformer["spec"]["transformer"]["containers"]
    (port,) = made["spec"]["ports"]
    assert variables(container)["LISTENER_TRITON_URL"] == f"http://{made['metadata']['name']}:{port['port']}"
    # labels that KServe gives the pods of each part, and Triton's port in the runtime that it brings:
    # https://github.com/kserve/kserve/blob/03451632fd19d864eceab05869cc83b3fdd84157/config/runtimes/kserve-tritonserver.yaml
    assert made["spec"]["selector"] == {
        "serving.kserve.io/inferenceservice": transformer["metadata"]["name"],
        "component": "predictor",
    }
    assert port["targetPort"] == 8080
    model = transformer["spec"]["predictor"]["model"]
    assert (model["modelFormat"]["name"], model["runtime"]) == ("triton", "kserve-tritonserver")
    assert container["command"][-1] == "exec listener serve"  # without a Triton of its own


@pytest.mark.parametrize("folder", ["gke", "kserve"])
def test_the_files_of_a_folder_can_be_joined(folder: str) -> None:
    files = [file.read_text() for file in sorted((FOLDER / folder).glob("*.yaml"))]  # `sed ... *.yaml | kubectl apply`
    apart = [document for file in files for document in yaml.safe_load_all(file)]
    assert list(yaml.safe_load_all("".join(files))) == apart


def test_what_is_to_be_replaced_is_told_in_one_way() -> None:
    for file in FOLDER.rglob("*.yaml"):
        images = re.findall(r"^\s+image: (.+)$", file.read_text(), re.M)
        assert set(images) <= {"IMAGE"}
