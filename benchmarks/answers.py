"""One request, and the numbers in its answer, in whichever form the server gives them."""

from __future__ import annotations

import http.client
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.loads import Body, Load, Numbers
from benchmarks.processes import CellFailed

_HEADER_SIZE = re.compile(r"json-header-size=(\d+)")


def post(url: str, body: Body, timeout: float = 60.0) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers with lower-case names and body of an answer; status 0 and the reason where there is none."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("POST", parts.path, body.data, dict(body.headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, {}, (str(error) or type(error).__name__).encode()
    finally:
        connection.close()


def check(url: str, load: Load, bodies: list[Body]) -> None:
    """Sends every body and compares every answer.

    Raises:
        CellFailed: an answer is not 200, cannot be read or is wrong.
    """
    for index, (body, expected) in enumerate(zip(bodies, load.expected, strict=True)):
        status, headers, data = post(url, body)
        if status != 200:
            raise CellFailed(f"body {index} was answered {status}: {shown(data)}")
        try:
            found = numbers(headers, data)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise CellFailed(f"the answer to body {index} cannot be read ({error}): {shown(data)}") from None
        if found.size != expected.size or not np.allclose(
            found, expected.ravel(), rtol=load.tolerance, atol=load.tolerance
        ):
            raise CellFailed(f"body {index} was answered wrongly: {shown(data)}")


def shown(data: bytes) -> str:
    """The beginning of an answer, in one line."""
    return " ".join(data[:200].decode("utf-8", "replace").split())


def numbers(headers: Mapping[str, str], data: bytes) -> Numbers:
    """All numbers of an answer in one row.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it has another form.
    """
    media = headers.get("content-type", "")
    marked = headers.get("inference-header-content-length") or "".join(_HEADER_SIZE.findall(media))
    if not marked and media.startswith("application/octet-stream"):
        return _floats(data)
    length = int(marked) if marked else len(data)
    answer = json.loads(data[:length])
    if "outputs" in answer:
        output = answer["outputs"][0]
        return _floats(data[length:]) if "data" not in output else np.array(output["data"], np.float64).ravel()
    return np.array([_bare(one) for one in answer["predictions"]], np.float64).ravel()


def _bare(prediction: Any) -> Any:
    """Some servers name the only output of a prediction."""
    return next(iter(prediction.values())) if isinstance(prediction, dict) else prediction


def _floats(data: bytes) -> Numbers:
    return np.frombuffer(data, "<f4").astype(np.float64)
