"""Vertex AI on this machine, as far as `listener deploy` asks it: its REST calls, held against the discovery document.

A request whose method, path, parameters or body the document does not have is answered with 400 and kept as a mistake.
So is an answer of our own that it does not have, which would make the fake a liar.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from listener.tools.deploy import documents
from listener.tools.deploy.schemas import Schemas
from tests.http_server import Answering, serving

PROJECT = "projects/my-project/locations/us-central1"
DIGEST = "sha256:" + "a" * 64
_DOCUMENT = documents.load("aiplatform.v1")
_SCHEMAS = Schemas(_DOCUMENT)
_GOOGLE = "type.googleapis.com/google.cloud.aiplatform.v1"


@dataclass(frozen=True)
class Failure:
    """An answer that is none: a status with a message, or the connection's end (0).

    Attributes:
        done: the call had its effect all the same.
    """

    status: int
    message: str = ""
    done: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Vertex:
    """What is there, and what happens.

    Attributes:
        models: versions by the model's name, oldest first.
        endpoints: by name.
        operations: by name, with the looks that are left until it ends.
        asked: the methods' ids, in order, but for looks at operations.
        mistakes: what the document does not have.
        looks: how often an operation is said to be under way.
        failing: of a method's id, the answers in the stead of the next ones.
        ending: of a method's id, the error with which its next operation ends.
        digest: of the image in the registry; a number is the registry's status.
        missed: looks at operations to which nothing is answered.
    """

    models: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    looks: int = 2
    failing: dict[str, list[Failure]] = field(default_factory=dict)
    ending: dict[str, dict[str, Any]] = field(default_factory=dict)
    digest: str | int = DIGEST
    url: str = ""
    bodies: dict[str, Any] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(7))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, verb: str, target: str, body: bytes) -> tuple[dict[str, Any], dict[str, Any] | Failure]:
        """The method that was asked for, and its answer."""
        with self._lock:
            parts = urllib.parse.urlsplit(target)
            query = dict(urllib.parse.parse_qsl(parts.query))
            method, name = _method(verb, urllib.parse.unquote(parts.path).removeprefix("/"))
            if method is None:
                return {}, self._mistake(f"{verb} {target}: no such method")
            call = method["id"].removeprefix("aiplatform.projects.locations.")
            return method, self._called(method, call, name, query, json.loads(body) if body else None)

    def _called(self, method: Any, call: str, name: str, query: Mapping[str, str], body: Any) -> Any:
        if not call.endswith("operations.get"):
            self.asked.append(call)
        self.bodies[call] = body
        if unknown := set(query) - set(method["parameters"]) - {"alt"}:
            return self._mistake(f"{call}: no parameter {unknown}")
        if method.get("request") and (wrong := _SCHEMAS.mistakes(method["request"]["$ref"], body)):
            return self._mistake(f"{call}: {wrong[0]}")
        failure = next(iter(self.failing.get(call, [])), None)
        if failure is not None:
            self.failing[call].pop(0)
            if not failure.done:
                return failure
        given = _CALLS[call](self, name, query, body)
        if not isinstance(given, Failure):
            for found in _SCHEMAS.mistakes(method["response"]["$ref"], given, sent=False):
                self._mistake(f"answer of {call}: {found}")
        return given if failure is None else failure

    def _mistake(self, sentence: str) -> Failure:
        self.mistakes.append(sentence)
        return Failure(400, sentence)

    # Models

    def get_model(self, name: str, query: Any, body: Any) -> Any:
        return self.models[name][-1] if name in self.models else Failure(404, f"{name} is not found.")

    def list_versions(self, name: str, query: Any, body: Any) -> Any:
        start = int(query.get("pageToken", "0"))  # a page holds one, so that the pages are turned
        found = self.models[name][start : start + 1]
        more = {"nextPageToken": str(start + 1)} if start + 1 < len(self.models[name]) else {}
        return {"models": found, **more}

    def upload(self, parent: str, query: Any, body: Any) -> Any:
        name = body.get("parentModel") or f"{parent}/models/{body['modelId']}"
        if (name in self.models) != ("parentModel" in body):
            return Failure(409 if name in self.models else 404, f"{name}: it is there, or is not.")

        def made() -> dict[str, Any]:
            version = str(len(self.models.setdefault(name, [])) + 1)
            self.models[name].append({**body["model"], "name": name, "versionId": version})
            return {"@type": f"{_GOOGLE}.UploadModelResponse", "model": name, "modelVersionId": version}

        return self._begun("models.upload", name, "UploadModelOperationMetadata", made)

    # Endpoints

    def get_endpoint(self, name: str, query: Any, body: Any) -> Any:
        return self.endpoints.get(name) or Failure(404, f"{name} is not found.")

    def create_endpoint(self, parent: str, query: Any, body: Any) -> Any:
        name = f"{parent}/endpoints/{query['endpointId']}"
        if name in self.endpoints:
            return Failure(409, f"{name} is there already.")

        def made() -> dict[str, Any]:
            dns = f"{query['endpointId']}.us-central1-123.prediction.vertexai.goog"
            self.endpoints[name] = {**body, "name": name, "dedicatedEndpointDns": dns, "deployedModels": []}
            return {"@type": f"{_GOOGLE}.Endpoint", **self.endpoints[name]}

        return self._begun("endpoints.create", name, "CreateEndpointOperationMetadata", made)

    def deploy(self, name: str, query: Any, body: Any) -> Any:
        model, _, version = body["deployedModel"]["model"].partition("@")
        if name not in self.endpoints or version not in {each["versionId"] for each in self.models.get(model, [])}:
            return Failure(404, "no such endpoint, or no such model.")
        number = str(next(self._number))

        def made() -> dict[str, Any]:
            deployed = {**body["deployedModel"], "id": number, "model": model, "modelVersionId": version}
            self.endpoints[name]["deployedModels"].append(deployed)
            self.endpoints[name]["trafficSplit"] = {number: body["trafficSplit"]["0"]}
            return {"@type": f"{_GOOGLE}.DeployModelResponse", "deployedModel": deployed}

        return self._begun("endpoints.deployModel", name, "DeployModelOperationMetadata", made)

    # Operations

    def _begun(self, call: str, name: str, metadata: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "name": f"{name}/operations/{next(self._number)}",
            "metadata": {"@type": f"{_GOOGLE}.{metadata}"},
            "left": self.looks,
            "made": made,
            "error": self.ending.pop(call, None),
        }
        if "Deploy" in metadata:
            operation["metadata"]["deploymentStage"] = "STARTING_MODEL_SERVER"
        self.operations[operation["name"]] = operation
        return self._state(operation)

    def get_operation(self, name: str, query: Any, body: Any) -> Any:
        if name not in self.operations:
            return Failure(404, f"{name} is not found.")
        operation = self.operations[name]
        operation["left"] -= 1
        if operation["left"] <= 0 and operation["made"]:
            made, operation["made"] = operation["made"], None
            operation["response"] = None if operation["error"] else made()
        return self._state(operation)

    def list_operations(self, name: str, query: Any, body: Any) -> Any:
        return {"operations": [self._state(each) for each in self.operations.values() if each["name"].startswith(name)]}

    def _state(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        said = {"name": operation["name"], "metadata": operation["metadata"], "done": operation["made"] is None}
        if not said["done"]:
            return said
        return (
            {**said, "error": operation["error"]} if operation["error"] else {**said, "response": operation["response"]}
        )


_CALLS: dict[str, Callable[[Vertex, str, Any, Any], Any]] = {
    "models.get": Vertex.get_model,
    "models.listVersions": Vertex.list_versions,
    "models.upload": Vertex.upload,
    "endpoints.get": Vertex.get_endpoint,
    "endpoints.create": Vertex.create_endpoint,
    "endpoints.deployModel": Vertex.deploy,
    **{f"{each}.operations.get": Vertex.get_operation for each in ("models", "endpoints")},
    **{f"{each}.operations.list": Vertex.list_operations for each in ("models", "endpoints")},
}


def _methods() -> Iterator[tuple[str, re.Pattern[str], Any]]:
    """Those that are answered here: verb, path and the rest."""
    locations = _DOCUMENT["resources"]["projects"]["resources"]["locations"]["resources"]
    for call in _CALLS:
        *path, last = call.split(".")
        resource = locations[path[0]]
        for part in path[1:]:
            resource = resource["resources"][part]
        method = resource["methods"][last]
        yield method["httpMethod"], re.compile(re.sub(r"\{\w+\}", "[^/:]+", method["flatPath"])), method


_METHODS = list(_methods())


def _method(verb: str, path: str) -> tuple[Any, str]:
    for wanted, form, method in _METHODS:
        if wanted == verb and form.fullmatch(path):
            # what the method is about: without its verb, and without the collection that it adds to
            return method, re.sub(r":\w+$|/(models|endpoints|operations)$", "", path.removeprefix("v1/")).removesuffix(
                "/models"
            )
    return None, ""


class _Handler(Answering):
    vertex: Vertex

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_HEAD(self) -> None:
        """The registry."""
        digest = self.vertex.digest
        self.send_response(digest if isinstance(digest, int) else 200)
        if isinstance(digest, str):
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def _answer(self, verb: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _, given = self.vertex.answer(verb, self.path, body)
        if not isinstance(given, Failure):
            self.answer(200, json.dumps(given).encode())
        elif given.status == 0:
            self.close_connection = True
            self.connection.close()
        else:
            self._refuse(given)

    def _refuse(self, given: Failure) -> None:
        status = {"code": given.status, "message": given.message, "status": "FAILED"}
        self.send_response(given.status)
        for name, value in given.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"error": status}).encode())


@contextlib.contextmanager
def running() -> Iterator[Vertex]:
    """An empty one on a free port."""
    vertex = Vertex()
    with serving(type("Handler", (_Handler,), {"vertex": vertex})) as vertex.url:
        yield vertex
