"""What the process that asks is told, and what it says: a JSON object a line on its stdin and stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Where requests go, and what is in them.

    Attributes:
        url: http or https, with a path.
        bodies: JSON, which take turns.
        connections: at the most.
        timeout: seconds that a request may take.
    """

    url: str
    bodies: Sequence[str]
    connections: int
    timeout: float


@dataclass(frozen=True)
class Order:
    """One step.

    Attributes:
        rate: requests per second.
        seconds, warm_up: that count, and before them.
        late: seconds; a request that has waited for so long ends the step. 0 = it lasts as long as it was to.
        patience: seconds after its end for what is under way.
        slices: parts of the time that get figures of their own.
        headers: of requests.
        seed: of the arrivals.
    """

    rate: float
    seconds: float
    warm_up: float
    late: float = 0.0
    patience: float = 2.0
    slices: int = 1
    headers: Mapping[str, str] | None = None
    seed: int = 1


#: What the process says, in the field `says`: it can take a step; the window begins; how it is just now; the window
#: ends; what the step came to; it cannot reach the server.
READY, BEGINS, NOW, ENDS, DONE, FAILED = "ready", "begins", "now", "ends", "done", "failed"
