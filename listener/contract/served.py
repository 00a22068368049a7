"""What can be chosen, and the schemas of its requests and answers, each under a name of its own. Pure.

A part of `openapi.py`, which makes a document of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from listener.contract import media
from listener.contract import oip_schema as oip
from listener.contract import schema as schemas
from listener.contract.schema import Schema
from listener.tensors import ModelSpec

#: One of many whose bodies are one instance.
PICTURE = "image/*"


@dataclass(frozen=True, slots=True)
class Served:
    """One thing that a request can choose: a route of listener.yaml, or a model of the repository.

    Attributes:
        name: by which it is chosen, in `parameters.model` and below /v1.
        model: Triton's name of the model behind it, below /v2; "" = there are several, and no versions.
        spec: that model's tensors; None = not known yet.
        instance_schema: of one instance, `{}` for anything; None = the model's inputs as they are.
        prediction_schema: of one prediction, `{}` for anything; None = the model's outputs as they are.
        versions: of the model, as far as they are known.
        example: an instance, as callers send it; None = there is none, or it is too large to be shown.
        example_size: bytes of its JSON; 0 = there is none.
        datatypes_of_steps: of the inputs of models that its schemas are made of.
        alone: an instance that is at fault has an error for a prediction.
    """

    name: str
    model: str
    spec: ModelSpec | None = None
    instance_schema: Schema | None = None
    prediction_schema: Schema | None = None
    versions: tuple[str, ...] = ()
    example: Any = None
    example_size: int = 0
    datatypes_of_steps: frozenset[str] = frozenset()
    alone: bool = False

    @property
    def told_instance(self) -> Schema | None:
        """The schema of one instance without the example; None = nothing is known of it."""
        if self.instance_schema is None and self.spec is not None:
            return schemas.instance(self.spec)
        return self.instance_schema or None

    @property
    def told_prediction(self) -> Schema | None:
        """The schema of one prediction; None = nothing is known of it."""
        if self.prediction_schema is None and self.spec is not None:
            return schemas.prediction(self.spec)
        return self.prediction_schema or None

    @property
    def instance(self) -> Schema:
        """The schema of one instance."""
        told = self.told_instance or self._untold("instances", "instance_schema")
        if not self.example_size or "example" in told:
            return told
        if self.example is not None:
            return {**told, "example": self.example}
        left_out = f"The example is left out, as it has {self.example_size} bytes."
        return {**told, "description": f"{told['description']} {left_out}" if "description" in told else left_out}

    @property
    def prediction(self) -> Schema:
        """The schema of one prediction."""
        told = self.told_prediction or self._untold("predictions", "prediction_schema")
        return schemas.any_of(told, schemas.FAILED) if self.alone else told

    def _untold(self, what: str, attribute: str) -> Schema:
        """The schema of anything, which says why it is no better."""
        who = "Its handler" if self.model else "The handlers of its steps"
        return {
            "description": f"Anything: nothing is known of the {what} of {self.name}. {who} may tell by {attribute}."
        }

    @property
    def datatypes(self) -> frozenset[str]:
        """Those that the schemas refer to."""
        return self.datatypes_of_steps.union(tensor.datatype for tensor in (self.spec.inputs if self.spec else ()))

    def parameters(self, default: bool) -> Schema:
        """The schema of the parameters of a request that chooses this one by them, or gets it by default."""
        return schemas.parameters(self.name, self._asked_versions, self.classes, required=not default)

    @property
    def by_path(self) -> Schema:
        """The schema of the parameters of a request whose path names this one."""
        return schemas.parameters("", self._asked_versions, self.classes)

    @property
    def _asked_versions(self) -> tuple[str, ...] | Literal[False]:
        return self.versions if self.model else False

    @property
    def classes(self) -> bool | None:
        """Whether `parameters.top_k` can be asked for; None = that is somebody else's business, or not known yet."""
        if self.prediction_schema is not None or self.spec is None or self.spec.decoupled:
            return None
        return bool(self.spec.classified)

    @property
    def media(self) -> tuple[str, ...]:
        """The media types beside JSON: of one instance's bytes, and of arrays."""
        if self.instance_schema is not None or self.spec is None:
            return (media.RAW, media.NPY, PICTURE)
        only = self.spec.only_input
        if only is None:
            return ()
        return (media.RAW, PICTURE) if only.datatype == "BYTES" else (media.RAW, media.NPY)

    @property
    def columnar(self) -> ModelSpec | None:
        """The tensors of a request in columns, where instances and predictions are tensors as they are."""
        return self.spec if self.instance_schema is None and self.prediction_schema is None else None


class Components:
    """Schemas with a name, to which everything else refers.

    Attributes:
        schemas: by name.
    """

    def __init__(self, **schemas: Schema) -> None:
        self.schemas = schemas

    def add(self, name: str, schema: Schema) -> Schema:
        """Gives a schema a name, or one like it where that is taken; returns the reference."""
        allowed = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        free, number = allowed, 2
        while free in self.schemas:
            free, number = f"{allowed}_{number}", number + 1
        self.schemas[free] = schema
        return {"$ref": schemas.REFERENCE + free}


class Forms:
    """The bodies of requests to one served thing and of its answers.

    Args:
        served: what is served.
        components: get a schema for each part.
        default: whether a request that names nothing is one to it.
    """

    def __init__(self, served: Served, components: Components, default: bool) -> None:
        name = served.name
        self._default = default
        self.instance = components.add(f"{name}.instance", served.instance)
        self.prediction = components.add(f"{name}.prediction", served.prediction)
        self.parameters = components.add(f"{name}.parameters", served.parameters(default))
        self._of_path = [
            components.add(f"{name}.parameters.by_path", served.by_path),
            components.add(f"{name}.parameters.by_version", schemas.parameters("", None, served.classes)),
        ]
        self._columns: Schema | None = None
        if (spec := served.columnar) is not None:
            self._columns = components.add(f"{name}.inputs", schemas.columns(spec))
            self._outputs = components.add(f"{name}.outputs", schemas.column_outputs(spec))

    def requests(self) -> Iterator[Schema]:
        """The forms of a request in which `parameters.model` names this one."""
        return self._requests(self.parameters, () if self._default else ("parameters",))

    def requests_by_path(self, version: bool) -> Iterator[Schema]:
        """The forms of a request whose path names it, and the version as well or not."""
        return self._requests(self._of_path[version], ())

    def _requests(self, parameters: Schema, required: tuple[str, ...]) -> Iterator[Schema]:
        yield _object("instances", *required, instances=_list(self.instance), parameters=parameters)
        if self._columns is not None:
            made = _object("inputs", *required, inputs=self._columns, parameters=parameters)
            yield {**made, **NO_INSTANCES}

    def answers(self) -> Iterator[Schema]:
        """The forms of an answer."""
        yield {**_object("predictions", predictions=_list(self.prediction)), "additionalProperties": False}
        if self._columns is not None:
            yield {**_object("outputs", outputs=self._outputs), "additionalProperties": False}


#: Where there are instances, `inputs` are not read.
NO_INSTANCES: Schema = {"not": {"required": ["instances"]}}


class ModelForms:
    """The bodies of the Open Inference Protocol of one model.

    Attributes:
        decoupled: Triton refuses `infer`, which has one answer.
    """

    def __init__(self, name: str, spec: ModelSpec | None, components: Components) -> None:
        self.decoupled = spec is not None and spec.decoupled
        self.infer_request = components.add(f"{name}.infer.request", oip.infer_request(spec))
        self.infer_response = components.add(f"{name}.infer.response", oip.infer_response(spec))
        self.generate_request = components.add(f"{name}.generate.request", oip.generate_request(spec))

    def requests(self) -> Iterator[Schema]:
        """The forms of a request on a route for predictions."""
        if not self.decoupled:
            yield {"allOf": [self.infer_request], **NO_INSTANCES}

    def answers(self) -> Iterator[Schema]:
        """The forms of an answer there."""
        if not self.decoupled:
            yield self.infer_response


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(item: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": item}
