"""Bodies of the Open Inference Protocol as JSON schemas: what Triton takes and gives below /v2. Pure.

Requests are described for callers, answers as they come: Triton says more than the protocol demands, so other keys are
allowed everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from listener.contract.schema import Schema, any_of
from listener.tensors import ModelSpec, TensorSpec

_TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}


def _object(required: Sequence[str] = (), **properties: Schema) -> Schema:
    made: Schema = {"type": "object", "properties": properties}
    return {**made, "required": list(required)} if required else made


def _list(item: Schema, **limits: int) -> Schema:
    return {"type": "array", **limits, "items": item}


SERVER = _object(("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=_list(_TEXT))
_TENSOR = _object(
    ("name", "datatype", "shape"), name=_TEXT, datatype=_TEXT, shape=_list({"type": "integer", "minimum": -1})
)
METADATA = _object(
    ("name", "versions", "platform", "inputs", "outputs"),
    name=_TEXT,
    versions=_list(_TEXT),
    platform=_TEXT,
    inputs=_list(_TENSOR),
    outputs=_list(_TENSOR),
)
CONFIG = _object(("name",), name=_TEXT, max_batch_size={"type": "integer"}, input=_list(_OBJECT), output=_list(_OBJECT))
STATISTICS = _object(
    ("model_stats",),
    model_stats=_list(_object(("name", "version"), name=_TEXT, version=_TEXT, inference_stats=_OBJECT)),
)
INDEX = _list(_object(("name",), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT))
INDEX_REQUEST: Schema = {"description": 'Nothing for all models; {"ready": true} for those that are.'}


def _item(datatype: str) -> Schema:
    """One element in the protocol's own JSON, which has no FP16 and no BF16."""
    if datatype in ("BOOL", "BYTES"):
        return {"type": "boolean"} if datatype == "BOOL" else _TEXT
    return {"type": "integer"} if "INT" in datatype else {"type": "number"}


def infer_request(spec: ModelSpec | None) -> Schema:
    """A request whose tensors stand in JSON. That `data` has as many items as `shape` says, no schema can demand."""
    inputs, outputs = _object(("name", "shape", "datatype")), _object(("name",))
    if spec is not None and spec.inputs:
        inputs = any_of(*(_input(tensor, spec) for tensor in spec.inputs))
    if spec is not None and spec.outputs:
        outputs = _object(("name",), name=_names(spec.outputs), parameters=_OBJECT)
    return _object(("inputs",), id=_TEXT, parameters=_OBJECT, inputs=_list(inputs, minItems=1), outputs=_list(outputs))


def _input(tensor: TensorSpec, spec: ModelSpec) -> Schema:
    rank = len(tensor.shape) + (1 if spec.max_batch_size else 0)
    item = _item(tensor.datatype)
    return _object(
        ("name", "shape", "datatype", "data"),
        name=_names([tensor]),
        shape=_list({"type": "integer", "minimum": 1}, minItems=rank, maxItems=rank),
        datatype={"type": "string", "enum": [tensor.datatype]},
        parameters=_OBJECT,
        data=_list(any_of(item, {"type": "array", "items": {}})),
    )


def _names(tensors: Sequence[TensorSpec]) -> Schema:
    return {"type": "string", "enum": [tensor.name for tensor in tensors]}


def infer_response(spec: ModelSpec | None) -> Schema:
    """An answer; an output's `data` is missing where it follows the JSON as bytes."""
    name = _names(spec.outputs) if spec is not None and spec.outputs else _TEXT
    shape = _list({"type": "integer", "minimum": 0})
    output = _object(
        ("name", "datatype", "shape"), name=name, datatype=_TEXT, shape=shape, parameters=_OBJECT, data=_list({})
    )
    return _object(
        ("model_name", "model_version", "outputs"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_OBJECT,
        outputs=_list(output),
    )


def generate_request(spec: ModelSpec | None) -> Schema:
    """A request of `generate`: inputs by name, each a value or a list; other keys are parameters."""
    inputs = () if spec is None else spec.inputs
    made = _object([tensor.name for tensor in inputs if not tensor.optional], id=_TEXT, parameters=_OBJECT)
    for tensor in inputs:
        item = _item(tensor.datatype)
        made["properties"][tensor.name] = any_of(item, _list(item))
    return made


#: An answer of `generate`: outputs by name.
GENERATED = _object(("model_name", "model_version"), model_name=_TEXT, model_version=_TEXT)
