"""Asks NVIDIA's driver what Triton will find, in a process of its own: `python -m listener.triton.driver` prints JSON.

The driver keeps tens of MB and open devices in whoever asks it, and another library path may apply to Triton than to
us. Functions and codes: https://docs.nvidia.com/cuda/cuda-driver-api/ (CUresult; initialization, version and devices).
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libcuda.so.1"
_NAME_SIZE = 256


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU.

    Attributes:
        name: as its maker calls it.
        memory: bytes.
    """

    name: str
    memory: int


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says.

    Attributes:
        status: CUresult of cuInit; None where the library cannot be loaded.
        version: of CUDA that it knows, 1000 * major + 10 * minor; 0 = unknown.
        devices: that it shows to us.
        reason: why the library cannot be loaded.
    """

    status: int | None
    version: int = 0
    devices: tuple[Device, ...] = ()
    reason: str = ""

    @classmethod
    def read(cls, text: str) -> Driver:
        """From what `main` prints.

        Raises:
            ValueError: it is not that.
        """
        try:
            told = json.loads(text)
            return cls(**{**told, "devices": tuple(Device(**device) for device in told["devices"])})
        except (TypeError, KeyError) as error:
            raise ValueError(text) from error


def ask(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Asks the driver's library; `load` opens it."""
    try:
        cuda = load(_LIBRARY)
    except OSError as error:
        return Driver(None, reason=str(error))
    status, version = cuda.cuInit(0), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return Driver(status, version.value, () if status else tuple(_devices(cuda)))


def _devices(cuda: Any) -> list[Device]:
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return [_device(cuda, ordinal) for ordinal in range(count.value)]


def _device(cuda: Any, ordinal: int) -> Device:
    handle, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_SIZE)
    cuda.cuDeviceGet(ctypes.byref(handle), ordinal)
    cuda.cuDeviceGetName(name, _NAME_SIZE, handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    return Device(name.value.decode(errors="replace"), memory.value)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(ask())))
