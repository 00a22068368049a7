"""What form a request's body has, told by its head. Pure.

docs/reference/contract.md, "Bodies".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import NamedTuple

from listener.contract import vertex_triton

JSON = "application/json"
#: One instance as its bytes: what {"instances": [{"b64": ...}]} says with a third more of them.
RAW = "application/octet-stream"
NPY = "application/x-npy"
EVENTS = "text/event-stream"
#: The header that says where the JSON of a binary body ends; names of headers are in lower case.
HEADER_LENGTH = "inference-header-content-length"
#: Tolerated beside JSON types: a missing one, and what curl sends with -d.
_LENIENT = ("", "application/x-www-form-urlencoded")
#: The weight of what shall not come (RFC 9110, section 12.4.2).
_NOT_WANTED = re.compile(r";\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)", re.IGNORECASE)


class Form(enum.Enum):
    """How a body is to be read.

    JSON: instances, columns or the Open Inference Protocol; the document tells.
    BINARY: the Open Inference Protocol with its binary extension, for Triton as it is.
    NPY: an array.
    BYTES: one instance as it is.
    """

    JSON = enum.auto()
    BINARY = enum.auto()
    NPY = enum.auto()
    BYTES = enum.auto()


def media_type(content_type: str) -> str:
    """What a Content-Type header says, without parameters such as charset."""
    return content_type.partition(";")[0].strip().lower()


class Wanted(NamedTuple):
    """What the head of a request says of its body, and of the answer's.

    Attributes:
        form: of the body.
        as_npy: the predictions shall be an array.
    """

    form: Form
    as_npy: bool


def wanted(headers: Mapping[str, str]) -> Wanted:
    """What a request's headers say, names in lower case."""
    content_type, has_length = headers.get("content-type", ""), HEADER_LENGTH in headers
    return Wanted(form(content_type, has_length), accepts(headers.get("accept", ""), NPY))


def form(content_type: str, has_header_length: bool = False) -> Form:
    """The form of a body.

    Args:
        content_type: the header's value, '' when missing.
        has_header_length: whether there is an `Inference-Header-Content-Length`.
    """
    if has_header_length or vertex_triton.is_meant(content_type):
        return Form.BINARY
    media = media_type(content_type)
    if media == NPY:
        return Form.NPY
    if media == JSON or media in _LENIENT or media.endswith("+json"):
        return Form.JSON
    return Form.BYTES


def accepts(accept: str, media: str) -> bool:
    """Whether an Accept header asks for a media type by name; `*/*` does not, and a weight of 0 says no."""
    return any(media_type(entry) == media and not _NOT_WANTED.search(entry) for entry in accept.split(","))
