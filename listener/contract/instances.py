"""`{"instances": [...], "parameters": {...}}` in, `{"predictions": [...]}` or `{"error": "..."}` out. Pure.

A JSON body that has `inputs` in their place is told apart here as well.

Rules and their sources: docs/reference/contract.md, "Request" and "Response".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any

import orjson
import pybase64

from listener.call import Call, Context, Json, Reply
from listener.contract import columnar, oip
from listener.contract.numbers import numbers
from listener.errors import BadRequest, InstanceError, ListenerError
from listener.said import listed

#: Triton's own JSON reader stops here too: docs/reference/contract.md, "Tensors".
_MAX_DEPTH = 100
_NO_CONTEXT = Context()


def decode(body: bytes) -> tuple[list[Json], dict[str, Json], dict[str, Json]]:
    """Reads a request body.

    Returns:
        The instances, with `bytes` wherever a `{"b64": ...}` object stood; the parameters, empty if missing or null;
        other top-level keys.

    Raises:
        BadRequest: not JSON, not an object, or without a non-empty list of instances.
        InstanceError: base64 that is none, or nesting that is too deep.
    """
    return _decode(body, document(body))


def _decode(body: bytes, said: dict[str, Json]) -> tuple[list[Json], dict[str, Json], dict[str, Json]]:
    instances, parameters = _instances(said), _parameters(said)
    extras = {}
    if len(said) > 1:
        extras = {key: value for key, value in said.items() if key not in ("instances", "parameters")}
    # nothing to look for in the usual body of numbers, where no string comes after the list's beginning
    if body.find(b'"', body.find(b"[")) >= 0 and _may_have_bytes(body):
        instances = [_with_bytes(instance, index, "", 0) for index, instance in enumerate(instances)]
    return instances, parameters, extras


def call(body: bytes, context: Context = _NO_CONTEXT) -> Call | None:
    """A JSON body as a `Call`, by instances or by columns; what it says besides goes into a context of its own.

    Returns:
        The call; None for a request of the Open Inference Protocol, which Triton reads (`oip.py`).

    Raises:
        BadRequest, InstanceError: as `decode`.
    """
    if plain := numbers(body):
        return Call(plain, context, booleans=False)
    said = document(body)
    if "inputs" in said and "instances" not in said:
        return None if oip.is_request(said["inputs"]) else _columns(body, said, context)
    instances, parameters, extras = _decode(body, said)
    # one letter of each first: a search for one byte is ten times as fast, and a body of numbers has none of them
    start = body.find(b"[")
    booleans = (body.find(b"u", start) >= 0 or body.find(b"s", start) >= 0) and (b"true" in body or b"false" in body)
    return Call(instances, _said(context, parameters, extras), booleans)


def _columns(body: bytes, said: dict[str, Json], context: Context) -> Call:
    parameters = _parameters(said)
    extras = {key: value for key, value in said.items() if key not in ("inputs", "parameters")}
    inputs = said["inputs"]
    if _may_have_bytes(body):
        inputs = _with_bytes(inputs, None, "", 0)
    return Call(columnar.columns(inputs), _said(context, parameters, extras))


def _said(context: Context, parameters: dict[str, Json], extras: dict[str, Json]) -> Context:
    return context._replace(parameters=parameters, extras=extras) if parameters or extras else context


def encode(reply: Reply, by_columns: bool = False) -> bytes:
    """The response body. NaN and infinities become null, for which JSON has no word; bytes become `{"b64": "..."}`.

    Args:
        reply: the predictions.
        by_columns: say them as `outputs`, for a request that came as `inputs`.

    Raises:
        TypeError: a prediction is something that JSON cannot say.
    """
    said: dict[str, Any] = {"predictions": reply.predictions}
    if by_columns:
        said = {"outputs": columnar.outputs(reply.predictions, reply.whole)}
    return orjson.dumps(said, default=listed, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_error(error: ListenerError) -> bytes:
    """The one error body: a single string, as the platform passes it on."""
    return encode_message(error.message)


def encode_message(message: str) -> bytes:
    """The same for a sentence of Triton's."""
    return orjson.dumps({"error": message})


def document(body: bytes) -> dict[str, Json]:
    """The object that a body is.

    Raises:
        BadRequest: it is not JSON, or none.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise BadRequest('the body is empty; expected {"instances": [...]}') from None
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise BadRequest(f'the body is {_kind(said)}, not an object; expected {{"instances": [...]}}')
    return said


def _may_have_bytes(body: bytes) -> bool:
    return b'"b64"' in body or b"\\u" in body


def _instances(said: dict[str, Json]) -> list[Json]:
    if "instances" not in said:
        raise BadRequest("the body has no 'instances'; it needs a list of at least one instance")
    instances = said["instances"]
    if not isinstance(instances, list):
        raise BadRequest(f"'instances' is {_kind(instances)}, not a list")
    if not instances:
        raise BadRequest("'instances' is empty; send at least one instance")
    return instances


def _parameters(said: dict[str, Json]) -> dict[str, Json]:
    parameters = said.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"'parameters' is {_kind(parameters)}, not an object")
    return parameters


def _with_bytes(value: Json, index: int | None, path: str, depth: int) -> Json:
    """Every object whose only key is b64, at any depth, as bytes; without an index it is in the columns."""
    if depth > _MAX_DEPTH:
        raise _complaint(f"nested deeper than {_MAX_DEPTH} levels", index)
    if isinstance(value, list):
        return [_with_bytes(item, index, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"}:
        return _base64(value["b64"], index, path)
    return {key: _with_bytes(item, index, f"{path}.{key}", depth + 1) for key, item in value.items()}


def _base64(text: Json, index: int | None, path: str) -> bytes:
    where = f"{path.lstrip('.')}: " if path else ""
    if not isinstance(text, str):
        raise _complaint(f"{where}'b64' is {_kind(text)}, not a string", index)
    with contextlib.suppress(ValueError):  # of which the standard library has more to say, at 25 times the price
        return pybase64.b64decode(text, validate=True)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _complaint(f"{where}'b64' is not valid base64: {error}", index) from None


def _complaint(text: str, index: int | None) -> BadRequest:
    return BadRequest(f"inputs: {text}") if index is None else InstanceError(text, index)


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
