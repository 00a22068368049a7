"""What a model takes and gives, as JSON schemas in the dialect of OpenAPI 3.0: `nullable`, boolean `exclusiveMaximum`.

Each says what `tensors.py` accepts and what `rows.py` gives, as far as a schema can: that rows of any size have to be
alike within a request, and lists within a tensor, it cannot. Rules: docs/reference/contract.md, "Tensors". Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from listener.tensors import CLASSIFIED, NUMPY, ModelSpec, TensorSpec, dims, itemsize

#: A Schema Object of OpenAPI 3.0.
Schema: TypeAlias = dict[str, Any]

#: The least number that rounds to infinity: half a step above the greatest finite one.
_INFINITE = {
    "FP16": float(2**16 - 2**4),
    "BF16": float(2**128 - 2**119),
    "FP32": float(2**128 - 2**103),
}
#: What JSON has no number for.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_FORMATS = {"INT32": "int32", "INT64": "int64", "FP32": "float", "FP64": "double"}

#: One of the best classes of a labelled output.
_CLASS: Schema = {
    "type": "object",
    "properties": {
        "label": {"nullable": True, "description": "Text, or an object with b64 where it is none."},
        "index": {"type": "integer", "minimum": 0},
        "score": {"type": "number", "nullable": True},
    },
    "required": ["label", "index", "score"],
    "additionalProperties": False,
}
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
    return {"title": f"An instance of {spec.name}", **_instance(spec)}


def _instance(spec: ModelSpec) -> Schema:
    only = spec.only_input
    by_name = _by_name(spec, value)
    return any_of(*value(only)["anyOf"], by_name) if only is not None else by_name


def prediction(spec: ModelSpec) -> Schema:
    """One prediction: the bare value of a model's only output, or an object by output name.

    Of a decoupled model it is the list of its responses.
    """
    title = f"A prediction of {spec.name}"
    if spec.decoupled:
        return {"title": title, "type": "array", "items": {}, "description": "All responses of the model."}
    return {"title": title, **_by_output(spec, given)}


def columns(spec: ModelSpec) -> Schema:
    """A request's `inputs` by columns: a list of instances, or each input with a value for each row.

    What is no list is one row. A model without batching gets each input as one whole tensor.
    """
    title = f"Inputs of {spec.name}"
    if not spec.max_batch_size:
        return {"title": title, **_instance(spec)}
    rows = {"type": "array", "minItems": 1, "items": _instance(spec)}
    bare = [] if spec.only_input is None else _bare(spec.only_input)
    return {"title": title, **any_of(rows, *bare, _by_name(spec, _column))}


def _column(tensor: TensorSpec) -> Schema:
    return any_of({"type": "array", "minItems": 1, "items": value(tensor)}, *_bare(tensor))


def column_outputs(spec: ModelSpec) -> Schema:
    """The columnar form of an answer's `outputs`."""
    title = f"Outputs of {spec.name}"
    if spec.decoupled:
        return {"title": title, "type": "array", "items": {}}
    if not spec.max_batch_size:
        return {"title": title, **_by_output(spec, given)}
    return {"title": title, **_by_output(spec, lambda tensor: {"type": "array", "minItems": 1, "items": given(tensor)})}


def parameters(
    model: str = "",
    versions: Sequence[str] | Literal[False] | None = (),
    classes: bool | None = None,
    required: bool = False,
) -> Schema:
    """The parameters of a request; `null` is as good as none.

    Args:
        model: what `model` has to say; "" = it does not count.
        versions: those that `version` may say, empty for any number; False = none; None = it does not count.
        classes: whether `top_k` can be asked for; None = that is the handler's business.
        required: whether `model` has to be there.
    """
    known: dict[str, Schema] = {}
    if model:
        names = [model] if required else [model, None]
        known["model"] = {
            "type": "string",
            "nullable": not required,
            "enum": names,
            "description": "Which one answers.",
        }
    if versions is False:
        known["version"] = {"nullable": True, "enum": [None], "description": "There are no versions of several steps."}
    elif versions is not None:
        said = "Which version answers; the newest, or as its configuration says, if missing."
        known["version"] = {"description": said, **_version(versions)}
    if classes:
        said = "The best so many classes of each labelled output, instead of all its numbers."
        known["top_k"] = {"type": "integer", "minimum": 1, "nullable": True, "description": said}
    elif classes is False:
        known["top_k"] = {"nullable": True, "enum": [None], "description": "None of the outputs has labels."}
    made: Schema = {"title": "Parameters", "type": "object", "properties": known}
    return {**made, "required": ["model"]} if required else {**made, "nullable": True}


def _version(known: Sequence[str]) -> Schema:
    if known:
        return {"nullable": True, "enum": [*map(int, known), *known, None]}
    return any_of({"type": "integer", "minimum": 0, "nullable": True}, {"type": "string", "pattern": "^[0-9]{1,19}$"})


def _by_name(spec: ModelSpec, of: Callable[[TensorSpec], Schema]) -> Schema:
    made: Schema = {
        "type": "object",
        "properties": {tensor.name: of(tensor) for tensor in spec.inputs},
        "additionalProperties": False,
    }
    if required := [tensor.name for tensor in spec.inputs if not tensor.optional]:
        return {**made, "required": required}
    # nothing would tell how many rows there are
    return {**made, "minProperties": 1} if spec.inputs and spec.max_batch_size else made


def _by_output(spec: ModelSpec, of: Callable[[TensorSpec], Schema]) -> Schema:
    made = {tensor.name: of(tensor) for tensor in spec.outputs}
    if len(made) == 1:
        return next(iter(made.values()))
    return {"type": "object", "properties": made, **({"required": list(made)} if made else {})}


#: In place of the prediction of an instance that is at fault, where instances fail alone.
FAILED: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What is wrong with the instance."}},
    "required": ["error"],
    "additionalProperties": False,
}


def any_of(*schemas: Schema) -> Schema:
    """One of several."""
    return {"anyOf": list(schemas)}


# Inputs


def value(tensor: TensorSpec) -> Schema:
    """What one input takes: nested lists, a bare element where that is all of it, or the bytes of a tensor of numbers.

    The bytes may also stand in lists, each in the place of the dimensions that are left.
    """
    return any_of(*_lists(tensor, tensor.shape), *_bare(tensor))


def _bare(tensor: TensorSpec) -> list[Schema]:
    """The forms that are no list."""
    element = [_element_of(tensor)] if all(size in (1, -1) for size in tensor.shape) else []
    return [*element, *_raw(tensor.datatype, tensor.shape)]


def _lists(tensor: TensorSpec, shape: Sequence[int]) -> list[Schema]:
    """The forms that are lists: of numbers, and of the bytes of so many dimensions as are left."""
    if not shape:
        return []
    size, rest = shape[0], shape[1:]
    said = {"description": f"{tensor.datatype} {dims(shape)}"} if len(shape) == len(tensor.shape) else {}
    limits = {} if size < 0 else {"minItems": size, "maxItems": size}
    inner = [*(_lists(tensor, rest) or [_element_of(tensor)]), *_raw(tensor.datatype, rest)]
    return [{**said, "type": "array", **limits, "items": item} for item in inner]


def _element_of(tensor: TensorSpec) -> Schema:
    return {"$ref": REFERENCE + tensor.datatype}


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
    """A number that does not round to infinity; of FP64 that is every number that a JSON reader has."""
    if datatype == "FP64":
        return {"type": "number"}
    limit = _INFINITE[datatype]
    return {
        "type": "number",
        "minimum": -limit,
        "exclusiveMinimum": True,
        "maximum": limit,
        "exclusiveMaximum": True,
    }


def _bounds(datatype: str) -> tuple[int, int]:
    limits = np.iinfo(NUMPY[datatype])
    return int(limits.min), int(limits.max)


def _decimal(low: int, high: int) -> str:
    """A pattern of the whole numbers from `low`, which is 0 or one below -`high`, to `high`; -0 is one."""
    positive = "|".join(_up_to(str(high)))
    return f"-?(?:{positive})|{low}" if low < 0 else f"{positive}|-0"


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


def _raw(datatype: str, shape: Sequence[int]) -> list[Schema]:
    """Base64 of a tensor of numbers, little-endian; one of its sizes may be free, then the length tells it."""
    if datatype == "BYTES":
        return []
    free = sum(size < 0 for size in shape)
    fixed = math.prod(size for size in shape if size >= 0) * itemsize(datatype)
    if free > 1 or (free and not fixed):
        return []
    text = {"type": "string", "format": "byte", "description": f"{datatype} {dims(shape)}, little-endian"}
    if free:
        return [_object_of_bytes({**text, "pattern": _repeated(fixed)})]
    length = 4 * math.ceil(fixed / 3)
    pattern = f"^[A-Za-z0-9+/]*{'=' * (-fixed % 3)}$"
    return [_object_of_bytes({**text, "pattern": pattern, "minLength": length, "maxLength": length})]


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
    """What one output looks like: nested lists, or the best classes where a request asks for these."""
    if tensor.labelled and tensor.datatype in CLASSIFIED:
        return any_of(_given_lists(tensor), {"type": "array", "items": _CLASS})
    return _given_lists(tensor)


def _given_lists(tensor: TensorSpec) -> Schema:
    schema = _given_element(tensor)
    for size in reversed(tensor.shape):
        limits = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", **limits, "items": schema}
    return {"description": f"{tensor.datatype} {dims(tensor.shape)}", **schema}


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
