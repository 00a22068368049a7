"""Following a long-running operation until it ends, and saying how far it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from listener.errors import ConfigError, one_line
from listener.tools.deploy import calls
from listener.tools.deploy.calls import Api
from listener.tools.deploy.shown import Shown

#: Seconds between two looks: at first, and at most.
_FIRST, _LONGEST, _FACTOR = 0.5, 10.0, 1.4
#: google.rpc.Code
_CANCELLED, _DEADLINE, _DENIED, _EXHAUSTED = 1, 4, 7, 8


class Ended(ConfigError):
    """An operation ended with an error.

    Args:
        sentence: what it said, and what to do.
        has_run: containers were started, and may have said why they were not ready.
    """

    def __init__(self, sentence: str, has_run: bool) -> None:
        super().__init__(sentence)
        self.has_run = has_run


def follow(api: Api, operation: Mapping[str, Any], does: str, shown: Shown) -> Mapping[str, Any]:
    """Waits for the end of an operation.

    Args:
        api: which runs it.
        operation: as it was answered at its beginning.
        does: what it does: "upload the model".
        shown: told how far it is.

    Returns:
        Its response.

    Raises:
        Ended: with the operation's own reason.
        ConfigError: nobody can be asked any more.
    """
    pauses = _pauses()
    while not operation.get("done"):
        shown.stage(does, _stage(operation))
        time.sleep(next(pauses))
        operation = api.operation(operation["name"])
    if error := operation.get("error"):
        has_run = error.get("code") not in (_CANCELLED, _DENIED, _EXHAUSTED)
        raise Ended(_sentence(does, error, api.project), has_run)
    response: Mapping[str, Any] = operation.get("response", {})
    return response


def _pauses() -> Iterator[float]:
    return (min(_FIRST * _FACTOR**n, _LONGEST) for n in itertools.count())


def _stage(operation: Mapping[str, Any]) -> str:
    stage = str(operation.get("metadata", {}).get("deploymentStage", ""))
    return "" if stage.endswith("UNSPECIFIED") else stage.lower().replace("_", " ")


def _sentence(does: str, error: Mapping[str, Any], project: str) -> str:
    code, reason = error.get("code"), one_line(str(error.get("message") or "no reason was given"))
    if code == _EXHAUSTED and "quota" in reason.lower():
        return f"could not {does}: {calls.quota(reason, project)}"
    if code == _EXHAUSTED:
        return f"could not {does}: {reason} - this region has no such machine free now; try later, or another one"
    if code == _CANCELLED:
        return f"could not {does}: somebody cancelled it"
    if code == _DEADLINE:
        return f"could not {does}: {reason} - if the models are large, give it longer with --deployment-timeout"
    if code == _DENIED:
        return f"could not {does}: {reason} - the platform's own account has to be able to read image and artefacts"
    return f"could not {does}: {reason}"
