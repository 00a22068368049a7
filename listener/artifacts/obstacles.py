"""What another try does not mend, told from what it may: in the errors of Google's client, of requests and of ssl.

They come wrapped in one another, three deep and more, and most classes are shared by what passes and what stays.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

#: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_OTHER_HOST = (62, 64)
#: http.client's and urllib3's words for a proxy that does not connect, and has no hope of doing so.
_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: (4\d\d [\w ]+)")
_CONNECTION = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Hopeless(Exception):
    """Another try does not mend it. The text says why, and what to do."""


def lasting(error: BaseException, host: str | None = None) -> str | None:
    """Why another try is in vain and what to do instead, where certificates or a proxy are at fault.

    Args:
        error: what happened.
        host: with whom, where the error itself does not know.
    """
    host = host or next((inner.pool.host for inner in _wrapped(error) if hasattr(inner, "pool")), "the other side")
    for inner in _wrapped(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            if inner.verify_code in _OTHER_HOST:
                return f"the certificate is that of another host: {inner.verify_message}"
            return (
                f"the certificate of {host} is not trusted: {inner.verify_message}; name a file with that of its "
                "authority in REQUESTS_CA_BUNDLE"
            )
        if found := _REFUSED_BY_PROXY.search(str(inner)) if isinstance(inner, OSError) else None:
            return f"the proxy does not let us through: {found[1]}; check HTTPS_PROXY and its password"
    return None


def is_passing(status: int) -> bool:
    """Whether a status of HTTP asks for another try."""
    return status in (408, 429) or status >= 500


def passes(error: BaseException) -> bool:
    """Whether another try may help, of an error of Google's client; `reading` tells its own apart."""
    if lasting(error):
        return False
    if isinstance(error, api.GoogleAPICallError):
        return is_passing(error.code or 0)
    if isinstance(error, auth.RefreshError):
        return bool(error.retryable) or (isinstance(error.__cause__, auth.TransportError) and passes(error.__cause__))
    if isinstance(error, auth.TransportError):
        answer = error.args[1] if len(error.args) > 1 else None  # that of a metadata server
        return answer is None or bool(answer.status >= 500)
    return isinstance(error, _CONNECTION)


def reason(error: BaseException) -> str:
    """What was wrong in the first place, without what that led to."""
    *_, first = _wrapped(error)
    return str(first.args[0] if isinstance(first, auth.GoogleAuthError) and first.args else first)


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """An error, and those in it, to the innermost one."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        held = (inner.__cause__, getattr(inner, "reason", None), getattr(inner, "original_error", None), *inner.args)
        inner = next((other for other in held if isinstance(other, BaseException)), None)
