"""What is to be deployed, and how: a service and the options of `listener deploy`, checked all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from listener.errors import ConfigError
from listener.service import Service
from listener.tools.deploy import machines, rules
from listener.tools.deploy.machines import Accelerators

T = TypeVar("T")

#: Seconds; the platform's own limits: of a deployment, and of a request at a dedicated endpoint.
_LONGEST_DEPLOYMENT, _LONGEST_REQUEST = 7200, 3600
#: Megabytes that a container has without being asked.
_LEAST_SHARED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As they stand on the command line; '' and None where they do not.

    Attributes:
        project: the project's id.
        region: such as us-central1.
        image: in a registry.
        artifact_uri: gs://BUCKET/PREFIX with models or a service.
        name: of model and endpoint.
        machine_type: such as g2-standard-4.
        accelerator: `L4`, `T4:2` or `none`.
        min_replicas, max_replicas: bounds of the autoscaling; without the second, there is none.
        target: percent of use above which replicas are added.
        service_account: that the container runs as.
        env: `NAME=VALUE` each.
        shared_memory: megabytes of /dev/shm.
        deployment_timeout: seconds until a replica has to be ready.
        timeout: seconds for one request.
        spot: on machines that may be taken away.
        version: Legacy's.
    """

    project: str = ""
    region: str = ""
    image: str = ""
    artifact_uri: str = ""
    name: str = ""
    machine_type: str = ""
    accelerator: str = ""
    min_replicas: int = 1
    max_replicas: int | None = None
    target: int = 60
    service_account: str = ""
    env: Sequence[str] = ()
    shared_memory: int = 1024
    deployment_timeout: int = 1800
    timeout: int | None = None
    spot: bool = False
    version: str = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The same, checked; see Options. `description` says for people what is served."""

    project: str
    region: str
    image: str
    artifact_uri: str
    name: str
    description: str
    machine_type: str
    accelerators: Accelerators
    min_replicas: int
    max_replicas: int
    target: int
    service_account: str
    env: Mapping[str, str] = field(default_factory=dict)
    shared_memory: int
    deployment_timeout: int
    timeout: int | None
    spot: bool
    version: str

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"


def checked(given: Options, service: Service, regions: Sequence[str], *, legacy: bool = False) -> Wanted:
    """Reads the options.

    Args:
        given: the options.
        service: whose listener.yaml gives a name and a description.
        regions: where the platform is.
        legacy: for AI Platform Prediction, whose names are others.

    Raises:
        ConfigError: a sentence for each mistake, with the option that has it.
    """
    mistakes: list[str] = []

    def read(option: str, text: str, rule: Callable[[str], T], lacking: str = "") -> str | T:
        if not text:
            if lacking:
                mistakes.append(f"--{option} is missing: {lacking}")
            return text
        try:
            return rule(text)
        except ValueError as error:
            mistakes.append(f"--{option}: {text!r} {error}")
            return text

    project = read("project", given.project, rules.project, "the project's id; `gcloud projects list` has them")
    region = read(
        "region", given.region, lambda text: rules.region(text, regions), "where it is to run, such as us-central1"
    )
    image = read("image", given.image, rules.image, "the image in Artifact Registry, as `docker push` had it")
    place = read("artifact-uri", given.artifact_uri, rules.artifacts)
    account = read("service-account", given.service_account, rules.account)
    rule = rules.legacy_name if legacy else rules.name
    name = read("name", given.name or _name_of(service, legacy), rule, "nothing in listener.yaml makes one")
    read("version", given.version, rules.legacy_name)
    machine, held, wrong = _machine(given)
    env, wrong_env = rules.variables(given.env)
    mistakes += wrong + wrong_env + _number_mistakes(given)
    if mistakes:
        raise ConfigError(*mistakes)
    if given.timeout is not None:
        env.setdefault("LISTENER_TIMEOUT", str(given.timeout))
    elif not legacy:
        env.setdefault("LISTENER_ENDPOINT", "dedicated")  # the kind that is created
    return Wanted(
        project=project,
        region=region,
        image=image,
        artifact_uri=place,
        name=name,
        description=_description(service),
        machine_type=machine,
        accelerators=held,
        min_replicas=given.min_replicas,
        max_replicas=given.max_replicas or given.min_replicas,
        target=given.target,
        service_account=account,
        env=env,
        shared_memory=given.shared_memory,
        deployment_timeout=given.deployment_timeout,
        timeout=given.timeout,
        spot=given.spot,
        version=given.version,
    )


def _machine(given: Options) -> tuple[str, Accelerators, list[str]]:
    """Each of machine and accelerators says the other, where only one is named."""
    wanted = None
    if given.accelerator:
        try:
            wanted = machines.named(given.accelerator)
        except ValueError as error:
            return "", Accelerators(), [f"--accelerator: {given.accelerator!r} {error}"]
    machine = given.machine_type or machines.machine_for(wanted)
    if not machine:
        return "", Accelerators(), [f"--machine-type is missing: name one with {given.accelerator}"]
    held = machines.in_machine(machine) if wanted is None else wanted
    wrong = machines.mistake(machine, held)
    return machine, held, [f"--machine-type: {wrong}"] if wrong else []


def _number_mistakes(given: Options) -> list[str]:
    bounds = {
        "target": (given.target, 1, 100, "percent"),
        "deployment-timeout": (given.deployment_timeout, 1, _LONGEST_DEPLOYMENT, "seconds"),
        "timeout": (1 if given.timeout is None else given.timeout, 1, _LONGEST_REQUEST, "seconds"),
        "shared-memory": (given.shared_memory, _LEAST_SHARED, 1 << 20, "megabytes"),
        "min-replicas": (given.min_replicas, 1, 1000, "(scaling to none is a preview of the platform)"),
    }
    found = [
        f"--{option}: {value} is not between {low} and {high} {unit}"
        for option, (value, low, high, unit) in bounds.items()
        if not low <= value <= high
    ]
    if given.max_replicas is not None and given.max_replicas < given.min_replicas:
        found.append(f"--max-replicas: {given.max_replicas} is less than --min-replicas, {given.min_replicas}")
    return found


def _name_of(service: Service, legacy: bool) -> str:
    """Of the default route, else of the folder, with what no name may have replaced."""
    joint = "_" if legacy else "-"
    text = re.sub(r"[^a-z0-9]+", joint, (service.default or service.folder.name).lower())
    return text.strip(joint).lstrip("0123456789-_")[:63].rstrip(joint)


def _description(service: Service) -> str:
    names = ", ".join(service.choices) or "every model of its repository"
    return f"Served by triton-listener: {names}"[:500]
