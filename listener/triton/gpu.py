"""Whether Triton's models can use a GPU, told once at the start: what is there, or what is missing and what to do.

Nothing ends because of it: a model that does without a GPU computes on the CPU, and one that does not is Triton's to
refuse. But without this line the first is only slow, and the second fails with a sentence about instance groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from listener.triton.driver import Driver

log = logging.getLogger("listener.triton")

#: Seconds that the driver may take; a machine with eight GPUs that sleep takes some.
_PATIENCE = 30.0
_WANTS_GPU = re.compile(r"^[^#]*\bKIND_GPU\b", re.MULTILINE)
#: CUresult: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
_STUB, _NO_DEVICE, _MISMATCH, _NO_COMPATIBILITY = 34, 100, 803, 804


def has_driver() -> bool:
    """Whether an NVIDIA driver is there; without one Triton need not look for it, and should not complain."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


async def tell(environment: Mapping[str, str], repository: Path) -> None:
    """Logs what Triton will find; nothing where there is no GPU and nobody asked for one.

    Args:
        environment: Triton's.
        repository: its models.
    """
    if not has_driver():
        if wanting := _who_wants(environment, repository):
            log.warning("%s", absent(wanting))
        return
    if driver := await _asked(environment):
        sentence = fault(driver, environment)
        log.log(logging.WARNING if sentence else logging.INFO, "%s", sentence or found(driver))


def absent(wanting: str) -> str:
    """The sentence for a machine, or a container, without a driver."""
    return (
        f"no NVIDIA driver is visible, but {wanting}: models of KIND_GPU do not load, others compute on the CPU. "
        "A container is given GPUs by `docker run --gpus all` or, on Kubernetes, the limit nvidia.com/gpu; "
        "whether the host has a driver is shown by `nvidia-smi` there"
    )


def fault(driver: Driver, environment: Mapping[str, str]) -> str:
    """What keeps Triton from using a GPU whose driver is there, and what helps; '' = nothing.

    Too old is a driver that knows only an older major version of CUDA than the image is made for (`CUDA_VERSION`, set
    by NVIDIA's images): https://docs.nvidia.com/deploy/cuda-compatibility/. Where the image's compatibility libraries
    are in use they are what answers, with their version.
    """
    wanted = environment.get("CUDA_VERSION", "")
    if driver.status is None:
        return (
            f"an NVIDIA driver is there, but not its library ({driver.reason}): models compute on the CPU. "
            "A container needs NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )
    if _major(wanted) > driver.version // 1000 > 0:
        return (
            f"the NVIDIA driver is too old: it knows CUDA {_spelled(driver.version)}, and this image is made for CUDA "
            f"{wanted}. Install a newer one on the host, or build on an older image (BASE_IMAGE, docs/compatibility.md)"
        )
    if driver.status:
        return f"the NVIDIA driver cannot be used: {_REASONS.get(driver.status, f'cuInit returned {driver.status}')}"
    return "" if driver.devices else f"the NVIDIA driver cannot be used: {_REASONS[_NO_DEVICE]}"


_REASONS = {
    _STUB: "libcuda.so.1 is the one for building without a GPU; it must not stand first in LD_LIBRARY_PATH",
    _NO_DEVICE: "it shows no GPU. CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES say which ones it may show",
    _MISMATCH: "its library and its kernel module are of different versions; restart the host after a driver update",
    _NO_COMPATIBILITY: "CUDA's forward compatibility is not made for this GPU; the host needs a newer driver",
}


def found(driver: Driver) -> str:
    """The line for a machine on which all is well."""
    gpus = ", ".join(f"{n}: {gpu.name}, {gpu.memory / 2**30:.1f} GiB" for n, gpu in enumerate(driver.devices))
    return f"GPU {gpus}; the driver knows CUDA {_spelled(driver.version)}"


async def _asked(environment: Mapping[str, str]) -> Driver | None:
    """The driver's answer; None where it gives none, which Triton will say in its own words."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "listener.triton.driver",
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            output, _ = await child.communicate()
        return Driver.read(output.decode())
    except (TimeoutError, ValueError):
        log.warning("the NVIDIA driver did not say which GPUs there are; `nvidia-smi` may tell more")
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()


def _who_wants(environment: Mapping[str, str], repository: Path) -> str:
    """Who asks for a GPU, as the end of "but ..."; '' = nobody."""
    for config in sorted(repository.glob("*/config.pbtxt")):
        with contextlib.suppress(OSError):
            if _WANTS_GPU.search(config.read_text(errors="replace")):
                return f"{config} asks for KIND_GPU"
    if "CUDA_VERSION" in environment:
        return f"this image is made for CUDA {environment['CUDA_VERSION']}"
    return ""


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdigit() else 0


def _spelled(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
