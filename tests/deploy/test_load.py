"""loadtest/kubernetes.yaml, beside its schemas: its parts find each other, run what is there, and have no rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_manifests import of_kind
from tests.test_container_files import COMPOSE, variables

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(yaml.safe_load_all((ROOT / "loadtest/kubernetes.yaml").read_text()))
PODS = [each["spec"]["template"]["spec"] for each in DOCUMENTS if each["kind"] == "Deployment"]
MASTER, WORKER = PODS


def arguments(pod: Any) -> list[str]:
    return list(pod["containers"][0]["args"])


@pytest.mark.parametrize("pod", PODS, ids=["master", "worker"])
def test_it_runs_without_rights_and_on_a_read_only_file_system(pod: Any) -> None:
    (container,) = pod["containers"]
    context = {**pod["securityContext"], **container["securityContext"]}
    assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True)
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert (context["capabilities"], context["seccompProfile"]) == ({"drop": ["ALL"]}, {"type": "RuntimeDefault"})
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)


@pytest.mark.parametrize("pod", PODS, ids=["master", "worker"])
def test_what_is_mounted_is_what_is_run(pod: Any) -> None:
    (container,) = pod["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"]}
    given = {each["name"]: each["value"] for each in container["env"]}
    for path in (arguments(pod)[arguments(pod).index("-f") + 1], given["BODIES"]):
        inside = Path(container["workingDir"]) / path
        assert mounted[str(inside.parent)] == "loadtest"
        assert (ROOT / "loadtest" / inside.name).is_file()


def test_both_are_the_image_of_compose_and_know_the_same() -> None:
    master, worker = (pod["containers"][0] for pod in PODS)
    assert master["image"] == worker["image"] == variables(COMPOSE.read_text())["LOCUST_IMAGE"]
    assert master["env"] == worker["env"]


def test_the_workers_find_the_master_and_all_find_the_listener() -> None:
    (service,) = [each for each in DOCUMENTS if each["kind"] == "Service"]
    deployment = DOCUMENTS[0]
    assert "--master" in arguments(MASTER)
    assert arguments(WORKER)[-3:] == ["--worker", "--master-host", service["metadata"]["name"]]
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in MASTER["containers"][0]["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert ports == {"web": 8089, "workers": 5557}  # Locust's own defaults
    listener = of_kind("Service", "gke/service.yaml")
    (host,) = [each["value"] for each in WORKER["containers"][0]["env"] if each["name"] == "LOCUST_HOST"]
    assert (host, listener["spec"]["ports"][0]["port"]) == (f"http://{listener['metadata']['name']}", 80)


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each["kind"] == "Deployment"])
def test_a_deployment_selects_its_own_pods_alone(document: Any) -> None:
    labels = document["spec"]["template"]["metadata"]["labels"]
    assert document["spec"]["selector"]["matchLabels"] == labels
    others = [each["spec"]["template"]["metadata"]["labels"] for each in DOCUMENTS if each["kind"] == "Deployment"]
    assert others.count(labels) == 1
