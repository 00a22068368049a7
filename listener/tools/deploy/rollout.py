"""Puts a service on Vertex AI, from whatever an earlier run left: what is there already is taken up, not made again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from listener.errors import ConfigError
from listener.tools.deploy import fingerprint, following, gcloud, vertex
from listener.tools.deploy.calls import Api, Refused
from listener.tools.deploy.request import Request
from listener.tools.deploy.shown import Shown
from listener.tools.deploy.wanted import Wanted

_CONFLICT = 409


@dataclass(slots=True)
class Left:
    """What is there at some moment of a run.

    Attributes:
        things: in words, and the command that takes each away, '' where that would end what serves; in the order in
            which they were made.
        operation: the name of the one that is under way; '' = none is.
        deploys: that one costs money when it has ended.
        logs: containers ran and did not become ready, so they may have said why.
    """

    things: dict[str, str] = field(default_factory=dict)
    operation: str = ""
    deploys: bool = False
    logs: bool = False


class Rollout:
    """One run.

    Args:
        wanted: what is to be there in the end.
        api: of its region.
        shown: told how far it is.
    """

    def __init__(self, wanted: Wanted, api: Api, shown: Shown) -> None:
        self._wanted, self._api, self._shown = wanted, api, shown
        self.left = Left()

    def run(self) -> str:
        """All of it.

        Returns:
            What is there now, where to ask, and how to end it, for people.

        Raises:
            ConfigError: something failed; `left` says what is there.
        """
        version = self._version(fingerprint.of(self._wanted, self._api))
        self._endpoint()
        return self._deployed(version)

    # The model

    def _version(self, print_: str) -> str:
        """The number of a version that is what is wanted now."""
        name = vertex.model_name(self._wanted)
        self._settle("models", name, "wait for the upload of an earlier run")
        model = self._api.look(self._api.models.get(name=name))
        if model is None:
            return self._uploaded(vertex.upload(self._wanted, print_))
        self._require_ours(model, "a model")
        versions = list(self._api.pages(self._api.models, "listVersions", "models", name=name)) if print_ else []
        same = [each["versionId"] for each in versions if each.get("versionDescription") == vertex.described(print_)]
        if not same:
            return self._uploaded(vertex.upload(self._wanted, print_, to_existing=True))
        version = str(max(same, key=int))
        self._shown.say(f"version {version} of the model {self._wanted.name} is there already, and is taken up")
        self._keep_model(version, is_alone=len(versions) == 1)
        return version

    def _uploaded(self, request: Request) -> str:
        call = self._api.models.upload(parent=self._wanted.parent, body=request.body)
        response = self._followed(self._api.begin(call), request)
        version = str(response.get("modelVersionId") or "1")
        self._shown.say(f"uploaded version {version} of the model {self._wanted.name}")
        self._keep_model(version, is_alone="modelId" in request.body)
        return version

    def _keep_model(self, version: str, *, is_alone: bool) -> None:
        self.left.things[
            f"the model {self._wanted.name}, version {version} (it costs nothing while it is not deployed)"
        ] = gcloud.delete_model(self._wanted, "" if is_alone else version)

    # The endpoint

    def _endpoint(self) -> None:
        name = vertex.endpoint_name(self._wanted)
        self._settle("endpoints", name, "wait for what an earlier run began on the endpoint")
        found = self._api.look(self._api.endpoints.get(name=name))
        if found is None:
            self._create_endpoint()
        else:
            self._require_ours(found, "an endpoint")
            self._shown.say(f"the endpoint {self._wanted.name} is there already, and is taken up")
            self._tell_other_time_out(found)
        if found and found.get("deployedModels"):
            self.left.things[f"the endpoint {self._wanted.name}, which serves as it did before"] = ""
        else:
            self.left.things[f"the endpoint {self._wanted.name} (it costs nothing while nothing is deployed on it)"] = (
                gcloud.delete_endpoint(self._wanted)
            )

    def _create_endpoint(self) -> None:
        request = vertex.endpoint(self._wanted)
        call = self._api.endpoints.create(parent=self._wanted.parent, body=request.body, **request.query)
        try:
            operation = self._api.begin(call)
        except Refused as error:
            if error.status != _CONFLICT:
                raise
            # gone from our sight only: an earlier run's, whose creation ends about now
            raise ConfigError(
                f"the endpoint {self._wanted.name} is being made or removed just now; try again soon"
            ) from None
        self._followed(operation, request)
        self._shown.say(f"created the endpoint {self._wanted.name}")

    def _tell_other_time_out(self, found: Mapping[str, Any]) -> None:
        has = found.get("clientConnectionConfig", {}).get("inferenceTimeout", "600s")
        if self._wanted.timeout is not None and has.partition(".")[0].rstrip("s") != str(self._wanted.timeout):
            self._shown.say(
                f"the endpoint keeps its own time-out of {has}: --timeout counts where an endpoint is created"
            )

    # The deployment

    def _deployed(self, version: str) -> str:
        found = self._look_at_endpoint()
        deployed = next((each for each in found.get("deployedModels", []) if self._is_wanted(each, version)), None)
        if deployed is None:
            request = vertex.deployment(self._wanted, version)
            call = self._api.endpoints.deployModel(endpoint=vertex.endpoint_name(self._wanted), body=request.body)
            self.left.deploys = True
            response = self._followed(self._api.begin(call), request)
            deployed = response.get("deployedModel", {})
            found = self._look_at_endpoint()
            did = "is deployed"
        else:
            did = "was deployed already, with these machines; nothing was changed"
        return self._summary(found, version, str(deployed.get("id", "")), did)

    def _look_at_endpoint(self) -> dict[str, Any]:
        return self._api.look(self._api.endpoints.get(name=vertex.endpoint_name(self._wanted))) or {}

    def _is_wanted(self, deployed: Mapping[str, Any], version: str) -> bool:
        body = vertex.deployment(self._wanted, version).body["deployedModel"]
        model, _, named = str(deployed.get("model", "")).rpartition("/")[2].partition("@")
        is_version = (model, str(deployed.get("modelVersionId", named))) == (self._wanted.name, version)
        return is_version and all(
            _holds(deployed.get(key), body.get(key)) for key in ("dedicatedResources", "serviceAccount")
        )

    def _summary(self, endpoint: Mapping[str, Any], version: str, deployed: str, did: str) -> str:
        wanted, name = self._wanted, vertex.endpoint_name(self._wanted)
        host = endpoint.get("dedicatedEndpointDns") or f"{wanted.region}-aiplatform.googleapis.com"
        url = f"https://{host}/v1/{name}:predict"
        lines = [
            f"Version {version} of {wanted.name} {did}. Predictions:",
            "",
            '  curl -sS -H "Authorization: Bearer $(gcloud auth print-access-token)" \\',
            "    -H 'Content-Type: application/json' -d @request.json \\",
            f"    {url}",
            "",
            "It costs money until it is taken away:",
            "",
            f"  {gcloud.undeploy(wanted, deployed)}",
        ]
        idle = [str(each["id"]) for each in endpoint.get("deployedModels", []) if str(each.get("id")) != deployed]
        split = endpoint.get("trafficSplit", {})
        if unused := [each for each in idle if not split.get(each)]:
            lines += ["", "What got its traffic before costs money as well; when it is not needed any more:", ""]
            lines += [f"  {gcloud.undeploy(wanted, each)}" for each in unused]
        return "\n".join(lines)

    # All of them

    def _settle(self, collection: str, name: str, does: str) -> None:
        """Waits for what another run began there; whether it ended well shows by what is there then."""
        for operation in self._api.running(collection, name):
            self.left.operation = operation["name"]
            try:
                following.follow(self._api, operation, does, self._shown)
            except following.Ended as ended:
                self._shown.say(str(ended))
            self.left.operation = ""

    def _followed(self, operation: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
        self.left.operation = "" if operation.get("done") else str(operation["name"])
        try:
            response = following.follow(self._api, operation, request.does, self._shown)
        except following.Ended as ended:
            logs = self.left.deploys and ended.has_run
            self.left = dataclasses.replace(self.left, operation="", deploys=False, logs=logs)
            raise
        self.left.operation, self.left.deploys = "", False
        return response

    def _require_ours(self, found: Mapping[str, Any], kind: str) -> None:
        if found.get("labels", {}).get("made-by") != vertex.MADE_BY["made-by"]:
            raise ConfigError(
                f"--name: there is {kind} {self._wanted.name!r} in {self._wanted.region} already, which "
                "`listener deploy` did not make; choose another name"
            )


def _holds(theirs: Any, ours: Any) -> bool:
    """Whether what the platform has is what we would send; it adds fields of its own."""
    if isinstance(ours, Mapping):
        return isinstance(theirs, Mapping) and all(_holds(theirs.get(key), value) for key, value in ours.items())
    return ours is None or theirs == ours or (isinstance(ours, list) and list(ours) == theirs)


def sentences(left: Left, wanted: Wanted) -> list[str]:
    """What a run that did not come to its end leaves, and how to go on."""
    found = [f"what its containers wrote: {gcloud.logs(wanted)}"] if left.logs else []
    for thing, command in left.things.items():
        found.append(f"left there: {thing}" + (f"; to take it away: {command}" if command else ""))
    if left.operation:
        costs = ", and costs money from then on" if left.deploys else ""
        found.append(
            f"the platform goes on with it by itself{costs}; to see how far it is: "
            f"{gcloud.describe_operation(wanted, left.operation)}"
        )
    if left.things or left.operation:
        found.append("the same command again goes on from here, with what is there already")
    return found
