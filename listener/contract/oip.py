"""The Open Inference Protocol's inference requests, as far as they must be understood to pass them on. Pure.

Triton reads them; here they are told from other JSON, their lengths are checked before Triton sees them, and what would
reach into shared memory is refused. Sources: docs/reference/contract.md, "Open Inference Protocol".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

import orjson

from listener.call import Json
from listener.contract import vertex_triton
from listener.contract.media import HEADER_LENGTH
from listener.errors import BadRequest

#: The largest that Triton's parser stands; beyond it some versions end.
_INT32 = 2**31 - 1
#: Brackets that cannot be nested too deeply. Triton 2.51 reads JSON by recursion, and dies of 100,000 levels; the
#: reader here stops at 1024.
_SHALLOW = 1000
_NUMBER = re.compile(r"[0-9]+", re.ASCII)
#: Where these are, it matters which of two members of one name counts; an escape may spell any of them.
_LOOKED_INTO = (b"shared_memory", b'"classification"', b"\\u")
#: A tensor's shape; Triton takes no other numbers in it.
_KEY, _SHAPE = b'"shape"', re.compile(rb'"shape"\s*:\s*\[((?:\s*[0-9]{1,20}\s*,)*\s*[0-9]{1,20}\s*)\]')


class Infer(NamedTuple):
    """An inference request that may be passed on.

    Attributes:
        body: JSON, then binary tensors.
        header_length: bytes of the JSON; None = all of it is JSON.
    """

    body: bytes
    header_length: int | None = None


def is_request(inputs: Json) -> bool:
    """Whether the `inputs` of a JSON body are this protocol's, and not columns: all have name, shape and datatype."""
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(entry, dict) and {"name", "shape", "datatype"} <= entry.keys() for entry in inputs)
    )


def header_length(text: str, size: int, where: str = HEADER_LENGTH) -> int:
    """The length of the JSON in a body, in bytes.

    Args:
        text: what the request says.
        size: of the whole body.
        where: it says so.

    Raises:
        BadRequest: that is no number from 0 to `size`.
    """
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{where}: {text[:40]!r} is not a number of bytes")
    length = int(text) if len(text) < 12 else _INT32 + 1
    if length > min(size, _INT32):
        raise BadRequest(f"{where}: {text[:40]} is more than the body's {size} bytes")
    return length


def request(body: bytes, headers: Mapping[str, str]) -> Infer:
    """A body that may be passed on, by what its headers say of it.

    Args:
        body: whole.
        headers: names in lower case.

    Raises:
        BadRequest: a length that is none or too large; otherwise as `checked`.
    """
    content_type = headers.get("content-type", "")
    if vertex_triton.is_meant(content_type):
        return checked(body, header_length(vertex_triton.header_size(content_type), len(body), "json-header-size"))
    text = headers.get(HEADER_LENGTH)
    return checked(body, None if text is None else header_length(text, len(body)))


def parameters(request: Infer) -> Mapping[str, Json]:
    """What the request's `parameters` say; empty where they cannot be read, which Triton will say."""
    header = _header(request)
    if b'"parameters"' not in header:
        return {}
    try:
        found = orjson.loads(header)["parameters"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def has_no_rows(request: Infer) -> bool:
    """Whether the first size of a tensor is 0. Triton never answers that where it is the batch's."""
    return any(shape[:1] == [0] for shape in _shapes(_header(request)))


def classified(request: Infer) -> list[str]:
    """Names of the outputs of which a request wants classes; none where it cannot be read."""
    header = _header(request)
    if b'"classification"' not in header:
        return []
    try:
        outputs = orjson.loads(header)["outputs"]
        return [str(output["name"]) for output in outputs if "classification" in output.get("parameters", {})]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return []


def _header(request: Infer) -> bytes:
    return request.body if request.header_length is None else request.body[: request.header_length]


def _shapes(header: bytes) -> Iterator[list[int]]:
    """Every shape in the JSON, as far as it is one."""
    at = header.find(_KEY)
    while at >= 0:
        if found := _SHAPE.match(header, at):
            yield [int(size) for size in found[1].split(b",")]
        at = header.find(_KEY, at + len(_KEY))


def checked(body: bytes, length: int | None = None) -> Infer:
    """The request, without what must not reach Triton: shared memory, whose regions are ours, and what ends it.

    What had to be looked into is written anew, so that Triton reads what was looked at.

    Raises:
        BadRequest: it names shared memory, or a shape of more elements than there are bytes; or, where it had to be
            looked into, it is not JSON or deeper than 1024 levels.
    """
    return _with_room(_looked_at(body, length))


def checked_json(body: bytes) -> bytes:
    """The same for a body that is no inference request, in which a `shape` is an input like any other."""
    return _looked_at(body, None).body


def _looked_at(body: bytes, length: int | None) -> Infer:
    header = body if length is None else body[:length]
    deep = header.count(b"[") + header.count(b"{") > _SHALLOW
    if not deep and not any(word in header for word in _LOOKED_INTO):
        return Infer(body, length)
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    _refuse_shared_memory(document)
    try:
        written = orjson.dumps(document)
    except TypeError as error:  # it reads more levels than it writes; Triton stops before either
        raise BadRequest(f"the body cannot be passed on: {error}") from None
    return Infer(written) if length is None else Infer(written + body[length:], len(written))


def _with_room(request: Infer) -> Infer:
    """Triton 2.51 makes room for what a shape says before it looks at the data, and ends where there is none."""
    size = len(request.body)
    for shape in _shapes(_header(request)):
        if 0 not in shape and any(count > size for count in accumulate(shape, mul)):
            raise BadRequest(f"a shape has more elements than the body has bytes, which are {size}: {shape}")
    return request


def _refuse_shared_memory(document: Any) -> None:
    tensors = []
    if isinstance(document, dict):
        tensors = [document, *_listed(document.get("inputs")), *_listed(document.get("outputs"))]
    for tensor in tensors:
        parameters = tensor.get("parameters")
        if isinstance(parameters, dict) and any(key.startswith("shared_memory") for key in parameters):
            raise BadRequest("shared memory cannot be used through the listener; send the tensors with the request")


def _listed(value: Json) -> list[dict[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
