"""`{"instances": [...], "parameters": {...}}` in, `{"predictions": [...]}` or `{"error": "..."}` out. Pure.

Rules and their sources: docs/reference/contract.md, "Request" and "Response".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
from typing import Any

import orjson
import pybase64

from listener.call import Body, Call, Context, Json, Reply
from listener.contract.numbers import numbers
from listener.errors import BadRequest, InstanceError, ListenerError

MEDIA_TYPE = "application/json"
#: One instance as its bytes: what {"instances": [{"b64": ...}]} says with a third more of them.
RAW = "application/octet-stream"
#: Tolerated beside JSON types: a missing one, and what curl sends with -d.
_LENIENT = ("", "application/x-www-form-urlencoded")
#: Triton's own JSON reader stops here too: docs/reference/contract.md, "Tensors".
_MAX_DEPTH = 100


def media_type(content_type: str) -> str:
    """What a Content-Type header says, without parameters such as charset."""
    return content_type.partition(";")[0].strip().lower()


@functools.lru_cache(256)
def is_raw(content_type: str) -> bool:
    """Whether a body is one instance's bytes as they are; else it is JSON.

    Args:
        content_type: the header's value, '' when missing; parameters such as charset are ignored.

    Raises:
        BadRequest: another media type.
    """
    media = media_type(content_type)
    if media == RAW:
        return True
    if media not in (MEDIA_TYPE, *_LENIENT) and not media.endswith("+json"):
        raise BadRequest(f"Content-Type {media!r} is not handled; send {MEDIA_TYPE}, or {RAW} for one instance's bytes")
    return False


def decode(body: bytes) -> tuple[list[Json], dict[str, Json], dict[str, Json]]:
    """Reads a request body.

    Returns:
        The instances, with `bytes` wherever a `{"b64": ...}` object stood; the parameters, empty if missing or null;
        other top-level keys.

    Raises:
        BadRequest: not JSON, not an object, or without a non-empty list of instances.
        InstanceError: base64 that is none, or nesting that is too deep.
    """
    document = _document(body)
    instances, parameters = _instances(document), _parameters(document)
    extras = {}
    if len(document) > 1:
        extras = {key: value for key, value in document.items() if key not in ("instances", "parameters")}
    # nothing to look for in the usual body of numbers, where no string comes after the list's beginning
    if body.find(b'"', body.find(b"[")) >= 0 and (b'"b64"' in body or b"\\u" in body):
        instances = [_with_bytes(instance, index, "", 0) for index, instance in enumerate(instances)]
    return instances, parameters, extras


def call(body: Body, raw: bool = False, **context: Any) -> Call:
    """`decode` as a `Call`, or a raw body as its one instance; keyword arguments are other fields of its `Context`."""
    if raw:
        return Call([body], Context(**context))
    assert isinstance(body, bytes)  # only raw bodies lie elsewhere
    if plain := numbers(body):
        return Call(plain, Context(**context), booleans=False)
    instances, parameters, extras = decode(body)
    # one letter of each first: a search for one byte is ten times as fast, and a body of numbers has none of them
    start = body.find(b"[")
    booleans = (body.find(b"u", start) >= 0 or body.find(b"s", start) >= 0) and (b"true" in body or b"false" in body)
    return Call(instances, Context(parameters=parameters, extras=extras, **context), booleans)


def encode(reply: Reply) -> bytes:
    """The response body. NaN and infinities become null: JSON has no word for them.

    Raises:
        TypeError: a prediction is something that JSON cannot say.
    """
    return orjson.dumps({"predictions": reply.predictions}, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_error(error: ListenerError) -> bytes:
    """The one error body: a single string, as the platform passes it on."""
    return orjson.dumps({"error": error.message})


def _listed(value: Any) -> Json:
    """Arrays that orjson leaves to us: without dimensions, or views with gaps, such as one column of a matrix."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        if value.dtype.kind != "f" or value.dtype.itemsize > 8:
            return value.tolist()
        # as a list of Python's floats 0.1 in 32 bits would be 0.10000000149011612
        return value.astype(value.dtype.newbyteorder("="), order="C")[()]
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


def _document(body: bytes) -> dict[str, Json]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise BadRequest('the body is empty; expected {"instances": [...]}') from None
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest(f'the body is {_kind(document)}, not an object; expected {{"instances": [...]}}')
    return document


def _instances(document: dict[str, Json]) -> list[Json]:
    if "instances" not in document:
        raise BadRequest("the body has no 'instances'; it needs a list of at least one instance")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise BadRequest(f"'instances' is {_kind(instances)}, not a list")
    if not instances:
        raise BadRequest("'instances' is empty; send at least one instance")
    return instances


def _parameters(document: dict[str, Json]) -> dict[str, Json]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"'parameters' is {_kind(parameters)}, not an object")
    return parameters


def _with_bytes(value: Json, index: int, path: str, depth: int) -> Json:
    """Every object whose only key is b64, at any depth, as bytes."""
    if depth > _MAX_DEPTH:
        raise InstanceError(f"nested deeper than {_MAX_DEPTH} levels", index)
    if isinstance(value, list):
        return [_with_bytes(item, index, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"}:
        return _base64(value["b64"], index, path)
    return {key: _with_bytes(item, index, f"{path}.{key}", depth + 1) for key, item in value.items()}


def _base64(text: Json, index: int, path: str) -> bytes:
    where = f"{path.lstrip('.')}: " if path else ""
    if not isinstance(text, str):
        raise InstanceError(f"{where}'b64' is {_kind(text)}, not a string", index)
    with contextlib.suppress(ValueError):  # of which the standard library has more to say, at 25 times the price
        return pybase64.b64decode(text, validate=True)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InstanceError(f"{where}'b64' is not valid base64: {error}", index) from None


def _kind(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
