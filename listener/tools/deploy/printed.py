"""What `--dry-run` prints: each request, and the command that does the same."""

from __future__ import annotations

import json
from collections.abc import Sequence

from listener.tools.deploy.request import Request
from listener.tools.deploy.wanted import Wanted

_PROBES = (
    "gcloud has no flags for probes over HTTP. Without them the platform asks the health route and the port by itself, "
    "which serves as well."
)
_DEDICATED = "gcloud has no flag for a dedicated endpoint, so this sends the request."


def vertex(wanted: Wanted, requests: Sequence[Request], commands: Sequence[str]) -> str:
    """Those for Vertex, with what happens by itself when they are sent."""
    return _blocks(requests, commands, (_PROBES, _DEDICATED, "")) + (
        f"# Nothing was sent. Without --dry-run, {wanted.name!r} is deployed on {_replicas(wanted)} x "
        f"{_machine(wanted)} in {wanted.region}, which costs money from then on.\n"
    )


def legacy(requests: Sequence[Request], commands: Sequence[str]) -> str:
    """Those for Legacy."""
    return _blocks(requests, commands, ("", "")) + "# Nothing was sent: AI Platform Prediction was shut down.\n"


def _replicas(wanted: Wanted) -> str:
    low, high = wanted.min_replicas, wanted.max_replicas
    return str(low) if low == high else f"{low} to {high}"


def _machine(wanted: Wanted) -> str:
    held = wanted.accelerators
    return wanted.machine_type + (f" with {held.count} {held.kind}" if held.kind else " without a GPU")


def _blocks(requests: Sequence[Request], commands: Sequence[str], notes: Sequence[str]) -> str:
    text = ""
    for number, (request, command, note) in enumerate(zip(requests, commands, notes, strict=True), 1):
        text += (
            f"# {number}. {request.does.capitalize()}\nPOST {request.address}\n{json.dumps(request.body, indent=2)}\n\n"
        )
        text += "# The same by gcloud" + (f". {note}" if note else "") + f"\n{command}\n\n"
    return text
