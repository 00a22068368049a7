"""What is said of the GPU at the start: a driver's answers, and the sentences that come of them."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from listener.triton import gpu
from listener.triton.driver import Device, Driver, ask

L4 = Device("NVIDIA L4", 23_665_836_032)
T4 = Device("Tesla T4", 15_828_320_256)
IMAGE = {"CUDA_VERSION": "13.0.2.006"}
#: A program in the place of Python, which prints what a driver would have told.
PROGRAM = """#!{python}
import os, sys
assert sys.argv[1:] == ["-m", "listener.triton.driver"], sys.argv
print(os.environ["ANSWER"])
"""


class Library:
    """libcuda with two GPUs, as its documentation describes the calls."""

    def __init__(self, status: int = 0, version: int = 12040, devices: tuple[Device, ...] = (L4, T4)) -> None:
        self._status, self._version, self._devices = status, version, devices

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._status

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self._version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        assert self._status == 0
        count._obj.value = len(self._devices)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal + 40  # a handle is not a position
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:
        assert size == ctypes.sizeof(name)
        name.value = self._devices[device.value - 40].name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: ctypes.c_int) -> int:
        memory._obj.value = self._devices[device.value - 40].memory
        return 0


def test_a_driver_is_asked_for_its_version_and_its_gpus() -> None:
    assert ask(lambda name: Library()) == Driver(0, 12040, (L4, T4))


def test_a_driver_that_cannot_start_is_not_asked_for_gpus() -> None:
    assert ask(lambda name: Library(status=803)) == Driver(803, 12040, ())


def test_a_library_that_is_not_there() -> None:
    driver = ask(lambda name: ctypes.CDLL("libcuda-that-is-not-there.so.1"))
    assert driver.status is None
    assert driver.reason.startswith("libcuda-that-is-not-there.so.1: cannot open shared object file")


def test_what_is_printed_is_read() -> None:
    driver = Driver(0, 12040, (L4, T4), "why")
    assert Driver.read(json.dumps(dataclasses.asdict(driver))) == driver


@pytest.mark.parametrize("text", ["", "[]", "{}", "Segmentation fault", '{"status": 0, "devices": [1]}'])
def test_what_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Driver.read(text)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (Driver(None, reason="libcuda.so.1: no such file"), ["libcuda.so.1: no such file", "=compute,utility"]),
        (Driver(0, 12080, (L4,)), ["too old", "knows CUDA 12.8", "made for CUDA 13.0.2.006", "BASE_IMAGE"]),
        (Driver(100, 13000), ["shows no GPU", "CUDA_VISIBLE_DEVICES"]),
        (Driver(0, 13000), ["shows no GPU", "CUDA_VISIBLE_DEVICES"]),
        (Driver(803, 13000), ["of different versions", "restart the host"]),
        (Driver(804, 13000), ["forward compatibility", "newer driver"]),
        (Driver(34, 13000), ["LD_LIBRARY_PATH"]),
        (Driver(999, 0), ["cuInit returned 999"]),
    ],
)
def test_each_fault_has_its_sentence(driver: Driver, words: list[str]) -> None:
    sentence = gpu.fault(driver, IMAGE)
    assert [word for word in words if word not in sentence] == []
    assert "\n" not in sentence


@pytest.mark.parametrize("image", ["13.0.2.006", "13.9", "12.4", "", "of yesterday"])
def test_a_driver_of_the_same_major_version_or_a_newer_one_will_do(image: str) -> None:
    assert gpu.fault(Driver(0, 13000, (L4,)), {"CUDA_VERSION": image}) == ""


def test_a_driver_too_old_is_named_before_what_comes_of_it() -> None:
    assert "too old" in gpu.fault(Driver(804, 12080), IMAGE)


def test_what_is_there_is_told() -> None:
    line = "GPU 0: NVIDIA L4, 22.0 GiB, 1: Tesla T4, 14.7 GiB; the driver knows CUDA 12.4"
    assert gpu.found(Driver(0, 12040, (L4, T4))) == line


# In the log


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver is there; the process that asks it is a program of ours."""
    program = tmp_path / "python"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(gpu, "has_driver", lambda: True)
    monkeypatch.setattr(gpu, "sys", SimpleNamespace(executable=str(program)))


async def told(caplog: pytest.LogCaptureFixture, repository: Path, **environment: str) -> list[tuple[str, str]]:
    caplog.set_level(logging.DEBUG, "listener.triton")
    await gpu.tell(environment, repository)
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.usefixtures("answering")
async def test_what_the_driver_answers_is_one_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    answer = json.dumps(dataclasses.asdict(Driver(0, 13000, (L4,))))
    line = "GPU 0: NVIDIA L4, 22.0 GiB; the driver knows CUDA 13.0"
    assert await told(caplog, tmp_path, ANSWER=answer, **IMAGE) == [("INFO", line)]


@pytest.mark.usefixtures("answering")
async def test_a_fault_is_a_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    answer = json.dumps(dataclasses.asdict(Driver(100, 13000)))
    ((level, line),) = await told(caplog, tmp_path, ANSWER=answer, **IMAGE)
    assert (level, "shows no GPU" in line) == ("WARNING", True)


@pytest.mark.usefixtures("answering")
async def test_a_driver_that_crashes_is_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    ((level, line),) = await told(caplog, tmp_path, ANSWER="")
    assert (level, "did not say" in line) == ("WARNING", True)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)


def model(repository: Path, text: str) -> Path:
    config = repository / "digits" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text(text)
    return config


@pytest.mark.usefixtures("no_driver")
async def test_no_driver_where_a_model_asks_for_one(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    config = model(tmp_path, "instance_group [\n  { kind: KIND_GPU }\n]\n")
    ((level, line),) = await told(caplog, tmp_path)
    assert level == "WARNING"
    assert line.startswith(f"no NVIDIA driver is visible, but {config} asks for KIND_GPU: ")
    assert "--gpus all" in line


@pytest.mark.usefixtures("no_driver")
async def test_no_driver_in_an_image_for_it(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    ((level, line),) = await told(caplog, tmp_path, **IMAGE)
    assert (level, "this image is made for CUDA 13.0.2.006: " in line) == ("WARNING", True)


@pytest.mark.usefixtures("no_driver")
async def test_no_driver_where_nobody_asks(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model(tmp_path, "# not KIND_GPU, as this runs on laptops\ninstance_group [ { kind: KIND_AUTO } ]\n")
    assert await told(caplog, tmp_path) == []
