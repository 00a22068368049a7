"""What a model takes and gives, as JSON schemas in the dialect of OpenAPI 3.0: `nullable`, boolean `exclusiveMaximum`.

Each says what `tensors.py` accepts and what `rows.py` gives, as far as a schema can: that rows of any size have to be
alike within a request, and lists within a tensor, it cannot. Rules: docs/reference/contract.md, "Tensors". Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from listener.tensors import NUMPY, ModelSpec, TensorSpec, dims

#: A Schema Object of OpenAPI 3.0.
Schema: TypeAlias = dict[str, Any]

#: The least number that rounds to infinity: half a step above the greatest finite one.
_INFINITE = {
    "FP16": float(2**16 - 2**4),
    "BF16": float(2**128 - 2**119),
    "FP32": float(2**128 - 2**103),
}
_ITEM_SIZE = {"BF16": 2, **{name: dtype.itemsize for name, dtype in NUMPY.items()}}
#: What JSON has no number for.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_FORMATS = {"INT32": "int32", "INT64": "int64", "FP32": "float", "FP64": "double"}

#: Any number of bytes.
BASE64: Schema = {
    "type": "string",
    "format": "byte",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}


#: Where schemas find one another in a document.
REFERENCE = "#/components/schemas/"


def resolved(schema: Any, named: Mapping[str, Schema]) -> Any:
    """A schema that stands by itself: each reference to one of `named` replaced by it.

    Raises:
        KeyError: there is none of that name.
    """
    if isinstance(schema, list):
        return [resolved(item, named) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(REFERENCE):
        return resolved(named[reference.removeprefix(REFERENCE)], named)
    return {key: resolved(item, named) for key, item in schema.items()}


def instance(spec: ModelSpec) -> Schema:
    """One instance: an object by input name, or the bare value of a model's only input."""
    return _titled(f"An instance of {spec.name}", _by_input(spec, value))


def prediction(spec: ModelSpec) -> Schema:
    """One prediction: the bare value of a model's only output, or an object by output name."""
    return _titled(f"A prediction of {spec.name}", _by_output(spec, given))


def columns(spec: ModelSpec) -> Schema:
    """The columnar form of a request's `inputs`: each input with all its rows."""
    return _titled(f"Inputs of {spec.name}", _by_input(spec, lambda tensor: _rows(spec, value(tensor, False))))


def column_outputs(spec: ModelSpec) -> Schema:
    """The columnar form of an answer's `outputs`."""
    return _titled(f"Outputs of {spec.name}", _by_output(spec, lambda tensor: _rows(spec, given(tensor))))


def _rows(spec: ModelSpec, row: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": row} if spec.max_batch_size else row


def parameters(models: Sequence[str] = (), versions: Sequence[str] = (), required: bool = False) -> Schema:
    """The parameters of a request.

    Args:
        models: names that `model` may have; none = any.
        versions: those that `version` may have; none = any.
        required: whether the request has to say `model`.
    """
    model: Schema = {"type": "string", "description": "Which model answers."}
    version: Schema = {
        "description": "Which version of it answers; the newest if missing.",
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}],
    }
    if models:
        model["enum"] = list(models)
    if versions:
        version = {"description": version["description"], "enum": [*map(int, versions), *versions]}
    top_k = {
        "type": "integer",
        "minimum": 1,
        "description": "Of a model with labels: the best so many classes, instead of all numbers.",
    }
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {"model": model, "version": version, "top_k": top_k},
        **({"required": ["model"]} if required else {}),
    }


def _titled(title: str, schema: Schema) -> Schema:
    return {"title": title, **schema}


def _by_input(spec: ModelSpec, of: Callable[[TensorSpec], Schema]) -> Schema:
    made = {tensor.name: of(tensor) for tensor in spec.inputs}
    by_name: Schema = {
        "type": "object",
        "properties": made,
        "required": [tensor.name for tensor in spec.inputs if not tensor.optional],
        "additionalProperties": False,
    }
    if not by_name["required"]:
        del by_name["required"]  # OpenAPI 3.0 allows no empty list
    only = spec.only_input
    return by_name if only is None else any_of(*_alternatives(made[only.name]), by_name)


def _by_output(spec: ModelSpec, of: Callable[[TensorSpec], Schema]) -> Schema:
    made = {tensor.name: of(tensor) for tensor in spec.outputs}
    if len(made) == 1:
        return next(iter(made.values()))
    return {"type": "object", "properties": made, "required": list(made)}


def any_of(*schemas: Schema) -> Schema:
    """One of several; of a single one itself."""
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _alternatives(schema: Schema) -> list[Schema]:
    found: list[Schema] = schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]
    return found


# Inputs


def value(tensor: TensorSpec, scalar: bool = True) -> Schema:
    """What one input takes: nested lists, one number where that is all of it, or the bytes of the whole tensor.

    Args:
        tensor: the input.
        scalar: whether a bare element may stand for a tensor of one.
    """
    element: Schema = {"$ref": REFERENCE + tensor.datatype}
    forms = [_nested(tensor, element)] if tensor.shape else []
    if not tensor.shape or (scalar and all(size in (1, -1) for size in tensor.shape)):
        forms.append(element)
    if tensor.datatype != "BYTES":
        forms.append(_object_of_bytes(_raw(tensor)))
    return any_of(*forms)


def _nested(tensor: TensorSpec, element: Schema) -> Schema:
    """Lists in lists, as deep as the shape."""
    schema = element
    for size in reversed(tensor.shape):
        limits = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", **limits, "items": schema}
    return {"description": f"{tensor.datatype} {dims(tensor.shape)}", **schema}


def elements(datatypes: Iterable[str]) -> dict[str, Schema]:
    """The forms of one number, boolean or text of a datatype, by its name; all others refer to these."""
    return {datatype: _element(datatype) for datatype in sorted(set(datatypes))}


def _element(datatype: str) -> Schema:
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        return any_of({"type": "string"}, _object_of_bytes(BASE64))
    if datatype.startswith(("INT", "UINT")):
        low, high = _bounds(datatype)
        whole = {"type": "number", "multipleOf": 1, "minimum": low, "maximum": high}
        return any_of(whole, {"type": "string", "pattern": f"^(?:{_decimal(low, high)})$"})
    return any_of(_float(datatype), {"type": "string", "enum": list(NOT_FINITE)})


def _float(datatype: str) -> Schema:
    if datatype in _INFINITE:
        limit = _INFINITE[datatype]
        return {
            "type": "number",
            "minimum": -limit,
            "exclusiveMinimum": True,
            "maximum": limit,
            "exclusiveMaximum": True,
        }
    limit = float(np.finfo(np.float64).max)
    return {"type": "number", "minimum": -limit, "maximum": limit}


def _bounds(datatype: str) -> tuple[int, int]:
    limits = np.iinfo(NUMPY[datatype])
    return int(limits.min), int(limits.max)


def _decimal(low: int, high: int) -> str:
    """A pattern of the whole numbers from `low`, which is 0 or one below -`high`, to `high`."""
    positive = "|".join(_up_to(str(high)))
    return f"-?(?:{positive})|{low}" if low < 0 else positive


def _up_to(high: str) -> Iterator[str]:
    """Patterns of decimal numbers from 0 to `high`, without leading zeros."""
    yield "0"
    if len(high) > 1:
        yield f"[1-9][0-9]{{0,{len(high) - 2}}}"
    for index, digit in enumerate(high):
        least = 1 if index == 0 else 0
        rest = len(high) - index - 1
        if int(digit) > least:
            digits = f"[{least}-{int(digit) - 1}]"
            yield high[:index] + digits + (f"[0-9]{{{rest}}}" if rest else "")
    yield high


def _object_of_bytes(text: Schema) -> Schema:
    return {"type": "object", "properties": {"b64": text}, "required": ["b64"], "additionalProperties": False}


def _raw(tensor: TensorSpec) -> Schema:
    """Base64 of the whole tensor, little-endian: its length follows from the shape."""
    fixed = math.prod(size for size in tensor.shape if size >= 0) * _ITEM_SIZE.get(tensor.datatype, 1)
    free = sum(size < 0 for size in tensor.shape)
    schema = {
        "type": "string",
        "format": "byte",
        "description": f"{tensor.datatype} {dims(tensor.shape)}, little-endian",
    }
    if free:
        return {**schema, "pattern": _repeated(fixed)}
    length = 4 * math.ceil(fixed / 3)
    return {**schema, "pattern": f"^[A-Za-z0-9+/]*{'=' * (-fixed % 3)}$", "minLength": length, "maxLength": length}


def _repeated(size: int) -> str:
    """A pattern of base64 of any multiple of `size` bytes."""
    if size % 3 == 0:
        return f"^(?:{_encoded(size)})*$"
    return f"^(?:{_encoded(3 * size)})*(?:{_encoded(size)}|{_encoded(2 * size)})?$"


def _encoded(size: int) -> str:
    whole, rest = divmod(size, 3)
    return f"[A-Za-z0-9+/]{{{4 * whole}}}" * bool(whole) + ("", "[A-Za-z0-9+/]{2}==", "[A-Za-z0-9+/]{3}=")[rest]


# Outputs


def given(tensor: TensorSpec) -> Schema:
    """What one output looks like."""
    return _nested(tensor, _given_element(tensor))


def _given_element(tensor: TensorSpec) -> Schema:
    datatype = tensor.datatype
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        encoded = _object_of_bytes(BASE64)
        return encoded if tensor.name.endswith("_bytes") else any_of({"type": "string"}, encoded)
    said: Schema = {"format": _FORMATS[datatype]} if datatype in _FORMATS else {}
    if datatype.startswith(("INT", "UINT")):
        low, high = _bounds(datatype)
        return {"type": "integer", **said, "minimum": low, "maximum": high}
    return {"type": "number", **said, "nullable": True, "description": "null for NaN and infinities"}
