"""Which machines take which accelerators, and how many.

From https://cloud.google.com/compute/docs/gpus and the page on configuring compute resources for inference. Families
that are not here are left to the platform, which knows the newest ones first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Short names, as people say them.
_SHORT = {
    "T4": "NVIDIA_TESLA_T4",
    "V100": "NVIDIA_TESLA_V100",
    "P100": "NVIDIA_TESLA_P100",
    "P4": "NVIDIA_TESLA_P4",
    "A100": "NVIDIA_TESLA_A100",
    "A100_80GB": "NVIDIA_A100_80GB",
    "L4": "NVIDIA_L4",
    "H100": "NVIDIA_H100_80GB",
    "H200": "NVIDIA_H200_141GB",
    "B200": "NVIDIA_B200",
}
#: Of N1 machines, to which accelerators are added: how many, and the most CPUs with so many.
_ADDED: Mapping[str, Mapping[int, int]] = {
    "NVIDIA_TESLA_T4": {1: 48, 2: 48, 4: 96},
    "NVIDIA_TESLA_P4": {1: 24, 2: 48, 4: 96},
    "NVIDIA_TESLA_P100": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_V100": {1: 12, 2: 24, 4: 48, 8: 96},
}
_N1 = re.compile(r"n1-(?:standard|highmem|highcpu)-(\d+)")
#: Machines that are made with accelerators in them.
_BUILT_IN: Mapping[str, tuple[str, int]] = {
    **{f"g2-standard-{cpus}": ("NVIDIA_L4", 1) for cpus in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
}
_WITHOUT = re.compile(r"(?:e2|[cn][234]d?|[cn]4a|t2[ad]|m[1-4]|h3|z3)-")

DEFAULT = "g2-standard-4"


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What is in one machine.

    Attributes:
        kind: as the API calls it; '' without any.
        count: how many.
    """

    kind: str = ""
    count: int = 0


def named(text: str) -> Accelerators:
    """`L4`, `NVIDIA_L4`, `T4:2` or `none`.

    Raises:
        ValueError: ends the sentence "'text' ...".
    """
    kind, _, count = text.partition(":")
    if kind.lower() == "none" and not count:
        return Accelerators()
    if count and (not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 16):
        raise ValueError("is no accelerator; write a type, or TYPE:COUNT such as T4:2")
    upper = kind.upper().replace("-", "_")
    return Accelerators(_SHORT.get(upper, upper), int(count or 1))


def machine_for(wanted: Accelerators | None) -> str:
    """A small machine for an accelerator, where nobody names a machine; '' where it has to be named."""
    if wanted is None:
        return DEFAULT
    if not wanted.kind:
        return "n1-standard-4"
    if wanted.kind in _ADDED:
        return "n1-standard-4" if wanted.count < 4 else "n1-standard-16"
    return next((name for name, held in _BUILT_IN.items() if held == (wanted.kind, wanted.count)), "")


def in_machine(machine: str) -> Accelerators:
    """Those that are built in; none where they have to be added, or the machine is not known."""
    return Accelerators(*_BUILT_IN.get(machine, ("", 0)))


def mistake(machine: str, wanted: Accelerators) -> str | None:
    """Why a machine cannot have these accelerators; None where it can, or nobody here knows."""
    if machine in _BUILT_IN:
        return _built_in_mistake(machine, wanted)
    if not wanted.kind:
        return None
    if found := _N1.fullmatch(machine):
        return _n1_mistake(machine, int(found[1]), wanted)
    if _WITHOUT.match(machine):
        fitting = machine_for(wanted)
        return f"{machine} takes no accelerators" + (f"; {wanted.kind} goes with {fitting}" if fitting else "")
    return None


def _built_in_mistake(machine: str, wanted: Accelerators) -> str | None:
    kind, count = _BUILT_IN[machine]
    if wanted.kind != kind:
        return f"{machine} has {count} {kind} in it, not {wanted.kind or 'none'}"
    # fewer are possible: the platform puts several replicas on one machine then
    return None if 1 <= wanted.count <= count else f"{machine} has {count} {kind} in it, not {wanted.count}"


def _n1_mistake(machine: str, cpus: int, wanted: Accelerators) -> str | None:
    counts = _ADDED.get(wanted.kind)
    if counts is None:
        fitting = machine_for(wanted)
        return f"{machine} does not take {wanted.kind}" + (f", which goes with {fitting}" if fitting else "")
    if wanted.count not in counts:
        return f"{machine} takes {', '.join(map(str, counts))} {wanted.kind}, not {wanted.count}"
    if cpus > counts[wanted.count]:
        return f"{machine} has more than the {counts[wanted.count]} CPUs that {wanted.count} {wanted.kind} go with"
    return None
