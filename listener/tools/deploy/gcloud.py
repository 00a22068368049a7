"""The same requests as commands of gcloud, for those who deploy with scripts. Flags: gcloud 528.

Where gcloud has no flag for what a request says, the command sends the request itself, with gcloud's token.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from listener.tools.deploy import vertex
from listener.tools.deploy.request import Request
from listener.tools.deploy.wanted import Wanted

#: Tried in their order between the items of a list, where a comma is in one of them (`gcloud topic escaping`).
_DELIMITERS = (",", ";", "|", "#", "~~", "@@@")


def vertex_commands(wanted: Wanted, requests: Sequence[Request]) -> list[str]:
    """A command for each of `vertex.requests`."""
    return [_upload(wanted), _sent(requests[1]), _deploy(wanted)]


def legacy_commands(wanted: Wanted) -> list[str]:
    """A command for each of `legacy.requests`."""
    create = [
        *("gcloud", "beta", "ai-platform", "models", "create", wanted.name),
        *(f"--region={wanted.region}", f"--project={wanted.project}"),
        f"--description={wanted.description}",
        "--enable-console-logging",
    ]
    metric = "gpu-duty-cycle" if wanted.accelerators.kind else "cpu-usage"
    version = [
        *("gcloud", "beta", "ai-platform", "versions", "create", wanted.version, f"--model={wanted.name}"),
        *(f"--region={wanted.region}", f"--project={wanted.project}"),
        f"--image={wanted.image}",
        f"--ports={vertex.PORT}",
        f"--predict-route={vertex.route('predict')}",
        f"--health-route={vertex.route('health')}",
        f"--machine-type={wanted.machine_type}",
        f"--min-nodes={wanted.min_replicas}",
        f"--max-nodes={wanted.max_replicas}",
        f"--metric-targets={metric}={wanted.target}",
        *_accelerator(wanted),
        *([f"--origin={wanted.artifact_uri}"] if wanted.artifact_uri else []),
        *([f"--service-account={wanted.service_account}"] if wanted.service_account else []),
        *([f"--env-vars={_listed(wanted.env)}"] if wanted.env else []),
    ]
    return [_lines(create), _lines(version)]


def describe_operation(wanted: Wanted, operation: str) -> str:
    """Looks how far a long-running operation is."""
    return f"gcloud ai operations describe {operation.rpartition('/')[2]} {_place(wanted)}"


def delete_model(wanted: Wanted, version: str = "") -> str:
    """Takes a model away, or one version of it."""
    what = f"delete-version {wanted.name}@{version}" if version else f"delete {wanted.name}"
    return f"gcloud ai models {what} {_place(wanted)}"


def delete_endpoint(wanted: Wanted) -> str:
    """Takes an endpoint away, which has to be empty."""
    return f"gcloud ai endpoints delete {wanted.name} {_place(wanted)}"


def undeploy(wanted: Wanted, deployed: str) -> str:
    """Takes a model from its endpoint, which is what ends its costs."""
    return f"gcloud ai endpoints undeploy-model {wanted.name} --deployed-model-id={deployed} {_place(wanted)}"


def logs(wanted: Wanted) -> str:
    """Prints what the containers of an endpoint wrote."""
    which = f'resource.type="aiplatform.googleapis.com/Endpoint" resource.labels.endpoint_id="{wanted.name}"'
    return f"gcloud logging read {shlex.quote(which)} --project={wanted.project} --limit=50"


def _place(wanted: Wanted) -> str:
    return f"--region={wanted.region} --project={wanted.project}"


def _upload(wanted: Wanted) -> str:
    return _lines(
        [
            *("gcloud", "ai", "models", "upload", f"--model-id={wanted.name}", f"--display-name={wanted.name}"),
            *(f"--region={wanted.region}", f"--project={wanted.project}"),
            f"--container-image-uri={wanted.image}",
            f"--container-ports={vertex.PORT}",
            f"--container-predict-route={vertex.route('predict')}",
            f"--container-health-route={vertex.route('health')}",
            f"--container-shared-memory-size-mb={wanted.shared_memory}",
            f"--container-deployment-timeout-seconds={wanted.deployment_timeout}",
            f"--description={wanted.description}",
            f"--labels={_listed(vertex.MADE_BY)}",
            "--version-aliases=default",
            *([f"--artifact-uri={wanted.artifact_uri}"] if wanted.artifact_uri else []),
            *([f"--container-env-vars={_listed(wanted.env)}"] if wanted.env else []),
        ]
    )


def _sent(request: Request) -> str:
    body = json.dumps(request.body)
    return (
        'curl -sS -X POST -H "Authorization: Bearer $(gcloud auth print-access-token)" \\\n'
        f"    -H 'Content-Type: application/json' -d {shlex.quote(body)} \\\n"
        f"    {shlex.quote(request.address)}"
    )


def _deploy(wanted: Wanted) -> str:
    metric = "gpu-duty-cycle" if wanted.accelerators.kind else "cpu-usage"
    return _lines(
        [
            *("gcloud", "ai", "endpoints", "deploy-model", wanted.name, f"--model={wanted.name}"),
            *(f"--region={wanted.region}", f"--project={wanted.project}"),
            f"--display-name={wanted.name}",
            f"--machine-type={wanted.machine_type}",
            *_accelerator(wanted),
            f"--min-replica-count={wanted.min_replicas}",
            f"--max-replica-count={wanted.max_replicas}",
            f"--autoscaling-metric-specs={metric}={wanted.target}",
            "--traffic-split=0=100",
            *([f"--service-account={wanted.service_account}"] if wanted.service_account else []),
            *(["--spot"] if wanted.spot else []),
        ]
    )


def _accelerator(wanted: Wanted) -> list[str]:
    held = wanted.accelerators
    return [f"--accelerator=type={held.kind.lower().replace('_', '-')},count={held.count}"] if held.kind else []


def _listed(values: Mapping[str, str]) -> str:
    items = [f"{name}={value}" for name, value in values.items()]
    delimiter = next((d for d in _DELIMITERS if not any(d in item for item in items)), _DELIMITERS[-1])
    prefix = "" if delimiter == "," and not items[0].startswith("^") else f"^{delimiter}^"
    return prefix + delimiter.join(items)


def _lines(words: Sequence[str]) -> str:
    """A command with a flag a line."""
    quoted = [shlex.quote(word) for word in words]
    flags = next(i for i, word in enumerate(words) if word.startswith("--"))
    return " \\\n    ".join([" ".join(quoted[:flags]), *quoted[flags:]])
