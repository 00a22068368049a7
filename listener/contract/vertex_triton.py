"""What Triton's own Vertex frontend understands on the predict route besides a plain body. Pure.

A media type that says how long the JSON is, and a header that says which of Triton's paths is meant. Sources:
docs/reference/contract.md, "rawPredict".
"""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

from listener.errors import BadRequest, Forbidden, ListenerError, WrongMethod

#: To this many characters it must begin so; the number follows.
_MEDIA = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
_NAME = _MEDIA.partition(";")[0]
REDIRECT = "x-vertex-ai-triton-redirect"

_MODEL = r"v2/models/[^/]+(?:/versions/[0-9]+)?"
_SHARED = r"v2/(?:system|cuda)sharedmemory(?:/region/[^/]+)?"
_GET = re.compile(
    rf"metrics|v2|v2/health/(?:live|ready)|v2/models/stats|{_MODEL}(?:/(?:ready|config|stats))?|{_SHARED}/status"
)
_POST = re.compile(rf"{_MODEL}/infer|v2/repository/index")
_FORBIDDEN = re.compile(rf"{_SHARED}/(?:un)?register|v2/repository(?:/[^/]+)?/models/[^/]+/(?:un)?load")


def is_meant(content_type: str) -> bool:
    """Whether the media type is Triton's, or tries to be."""
    return _NAME in content_type.lower()


def header_size(content_type: str) -> str:
    """The length of the JSON as the media type says it, unchecked.

    Raises:
        BadRequest: it does not say it where it has to.
    """
    if not content_type.startswith(_MEDIA):
        raise BadRequest(f"the Content-Type has to begin with {_MEDIA} and go on with the number of bytes of the JSON")
    return content_type.removeprefix(_MEDIA)


class Redirected(NamedTuple):
    """A request as the header means it.

    Attributes:
        method: GET or POST.
        path: one of Triton's, with its slash.
    """

    method: str
    path: str


def redirected(method: str, target: str) -> Redirected:
    """What `X-Vertex-Ai-Triton-Redirect` asks for.

    Raises:
        WrongMethod: the request is no POST.
        Forbidden: loading, unloading, registering.
        BadRequest: Triton does not serve that path so.
    """
    if method != "POST":
        raise WrongMethod(f"a request with {REDIRECT} has to be POST")
    if _GET.fullmatch(target):
        return Redirected("GET", _path(target))
    if _POST.fullmatch(target):
        return Redirected("POST", _path(target))
    raise _refusal(target)


def model_of(path: str) -> tuple[str, str]:
    """Model and version of a path as `redirected` gives it; "" = it names none."""
    if not path.startswith("/v2/models/"):
        return "", ""
    _, _, _, model, *rest = path.split("/")
    return urllib.parse.unquote(model, errors="surrogateescape"), rest[1] if rest[0] == "versions" else ""


def _path(target: str) -> str:
    """Names as they are, whatever characters they have: Triton does not decode the header. Some may be no text."""
    return "/" + urllib.parse.quote(target, safe="/", errors="surrogateescape")


def _refusal(target: str) -> ListenerError:
    kind = Forbidden if _FORBIDDEN.fullmatch(target) else BadRequest
    return kind(f"{REDIRECT}: {target[:100]!r} is not served")
