"""The Open Inference Protocol's inference requests, as far as they must be understood to pass them on. Pure.

Triton reads them; here they are told from other JSON, their lengths are checked before Triton sees them, and what would
reach into shared memory is refused. Sources: docs/reference/contract.md, "Open Inference Protocol".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    header = request.body if request.header_length is None else request.body[: request.header_length]
    if b'"parameters"' not in header:
        return {}
    try:
        found = orjson.loads(header)["parameters"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def checked(body: bytes, length: int | None = None) -> Infer:
    """The request, without what must not reach Triton: shared memory, whose regions are ours, and nesting that ends it.

    What had to be looked into is written anew, so that Triton reads what was looked at.

    Raises:
        BadRequest: it names shared memory, or, where that had to be looked for, is not JSON or deeper than 1024 levels.
    """
    header = body if length is None else body[:length]
    deep = header.count(b"[") + header.count(b"{") > _SHALLOW
    if b"shared_memory" not in header and b"\\u" not in header and not deep:
        return Infer(body, length)
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    _refuse_shared_memory(document)
    written = orjson.dumps(document)
    return Infer(written) if length is None else Infer(written + body[length:], len(written))


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
