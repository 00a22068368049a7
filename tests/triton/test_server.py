"""Triton as a child: its arguments and its environment, as a program sees them that is no Triton."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from listener.errors import ConfigError
from listener.settings import Settings
from listener.triton import gpu, server
from listener.triton.installation import Installation
from listener.triton.regions import Regions
from listener.triton.server import TritonServer, child_environment

PROGRAM = """#!/bin/sh
for argument in "$@"; do echo "argument $argument"; done
env | sed 's/^/variable /'
exit 5
"""


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(server, "Regions", lambda: Regions(folder))
    return folder


@pytest.fixture
def program(tmp_path: Path, shm: Path) -> Path:
    path = tmp_path / "tritonserver"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


@pytest.fixture
def make(program: Path) -> Iterator[Callable[..., TritonServer]]:
    made = []

    def triton(
        configured: Settings | None = None, free_ports: bool = True, installation: Installation | None = None
    ) -> TritonServer:
        found = installation or Installation(program)
        made.append(TritonServer(found, Path("/models"), configured or Settings(), free_ports=free_ports))
        return made[-1]

    yield triton
    for triton_server in made:
        triton_server.close()


async def told(triton: TritonServer, caplog: pytest.LogCaptureFixture, kind: str = "argument") -> list[str]:
    """What the program was started with."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "triton"):
        assert await (await triton.start()).wait() == 5
    lines = [record.getMessage() for record in caplog.records if record.name == "triton"]
    return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


def value(arguments: list[str], name: str) -> str:
    (found,) = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    return found


@pytest.mark.parametrize("free_ports", [True, False], ids=["free ports", "own port"])
async def test_only_http_and_metrics_and_only_on_loopback(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture, free_ports: bool
) -> None:
    arguments = await told(make(free_ports=free_ports), caplog)
    assert {
        "--model-repository=/models",
        "--allow-http=true",
        "--http-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--allow-grpc=false",
        "--allow-vertex-ai=false",
        "--exit-timeout-secs=5",
    } <= set(arguments)
    assert [argument for argument in arguments if "0.0.0.0" in argument] == []


async def test_the_port_of_the_url_and_the_usual_one_for_metrics(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture
) -> None:
    triton = make(Settings(triton_url="http://127.0.0.1:9100"), free_ports=False)
    arguments = await told(triton, caplog)
    assert (value(arguments, "--http-port"), value(arguments, "--metrics-port")) == ("9100", "8002")
    assert triton.url == "http://127.0.0.1:9100"
    assert "--reuse-http-port=true" not in arguments


async def test_free_ports_are_those_of_the_url_and_of_nobody_else(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = make(), make()
    ports = []
    for triton in (one, other):
        arguments = await told(triton, caplog)
        assert triton.url == f"http://127.0.0.1:{value(arguments, '--http-port')}"
        assert "--reuse-http-port=true" in arguments
        ports += [value(arguments, "--http-port"), value(arguments, "--metrics-port")]
    assert len(set(ports)) == 4


async def test_the_port_stays_the_same_over_restarts(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture
) -> None:
    triton = make()
    ports = [value(await told(triton, caplog), "--http-port") for _ in range(2)]
    assert ports[0] == ports[1]


def test_the_reserved_port_is_nobody_elses_but_can_be_shared(make: Callable[..., TritonServer]) -> None:
    port = int(make().url.rpartition(":")[2])
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port))
    with socket.socket() as triton:
        triton.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        triton.bind(("127.0.0.1", port))
        triton.listen()
    with socket.socket() as client:  # reserved is not listening
        assert client.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("which", ["triton_url", "triton_metrics_url"])
async def test_fixed_ports_are_waited_for(make: Callable[..., TritonServer], which: str) -> None:
    """A predecessor that lost its parent still ends."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        later, sooner = (f"http://127.0.0.1:{taken.getsockname()[1]}" for taken in (first, second))
        if which == "triton_metrics_url":
            later, sooner = sooner, later
        configured = Settings(triton_url=later, triton_metrics_url=sooner)
        waiting = asyncio.create_task(make(configured, free_ports=False).until_free())
        await asyncio.sleep(0.3)
        second.close()
        await asyncio.sleep(0.3)
        assert not waiting.done()
        first.close()
        await asyncio.wait_for(waiting, 5)


async def test_fixed_ports_are_not_waited_for_for_ever(make: Callable[..., TritonServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        url = f"http://127.0.0.1:{stranger.getsockname()[1]}"
        triton = make(Settings(triton_url=url, triton_exit_timeout=0), free_ports=False)
        async with asyncio.timeout(6):
            await triton.until_free()


async def test_further_arguments_come_last(make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture) -> None:
    triton = make(Settings(triton_args=("--log-verbose=1", "--http-thread-count=2"), triton_exit_timeout=7.9))
    arguments = await told(triton, caplog)
    assert arguments[-2:] == ["--log-verbose=1", "--http-thread-count=2"]
    assert value(arguments, "--exit-timeout-secs") == "7"


@pytest.mark.parametrize("driver", [True, False], ids=["GPU", "no GPU"])
async def test_without_a_gpu_none_is_looked_for(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: driver)
    monkeypatch.setattr(gpu, "tell", lambda environment, repository: asyncio.sleep(0))
    arguments = set(await told(make(), caplog))
    without = {"--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"}
    assert arguments & without == (set() if driver else without)


async def test_the_driver_is_asked_once_as_triton_would(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def tell(environment: Mapping[str, str], repository: Path) -> None:
        asked.append((dict(environment), repository))

    monkeypatch.setattr(gpu, "tell", tell)
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    monkeypatch.setenv("CUDA_VERSION", "13.0")
    triton = make()
    for _ in range(2):
        await told(triton, caplog)
    ((environment, repository),) = asked
    assert repository == Path("/models")
    assert (environment.get("AIP_MODE"), environment["CUDA_VERSION"]) == (None, "13.0")


# Shared memory


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_each_start_has_regions_of_its_own_and_none_is_left(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture, shm: Path
) -> None:
    triton = make()
    prefixes = []
    for _ in range(2):
        configuration = value(await told(triton, caplog), "--backend-config")
        prefixes.append(configuration.removeprefix("python,shm-region-prefix-name="))
        assert names(shm) == {f"{prefixes[-1]}.lock"}
        (shm / f"{prefixes[-1]}_region").touch()
    assert len(set(prefixes)) == 2
    triton.close()
    assert names(shm) == set()


# Backends


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.glob("*/*")}


async def test_backends_are_laid_out_as_one_directory_that_goes_with_the_server(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture, program: Path, tmp_path: Path
) -> None:
    for file in ("a/python/libtriton_python.so", "b/onnxruntime/model.py", "stubs/stub"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(file)
    installation = Installation(
        program,
        {"python": tmp_path / "a" / "python", "onnxruntime": tmp_path / "b" / "onnxruntime"},
        {"python": (tmp_path / "stubs" / "stub",)},
    )
    triton = make(installation=installation)
    directory = Path(value(await told(triton, caplog), "--backend-directory"))
    assert contents(directory) == {
        "python/libtriton_python.so": "a/python/libtriton_python.so",
        "python/stub": "stubs/stub",
        "onnxruntime/model.py": "b/onnxruntime/model.py",
    }
    triton.close()
    assert contents(directory) == {}
    assert contents(tmp_path / "b") == {"onnxruntime/model.py": "b/onnxruntime/model.py"}


async def test_a_backend_that_cannot_be_copied_is_one_sentence_and_leaves_nothing(
    make: Callable[..., TritonServer], program: Path, tmp_path: Path, shm: Path
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python/gone").symlink_to("nowhere")
    triton = make(installation=Installation(program, {"python": tmp_path / "python"}, {"python": (program,)}))
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory; make room there, or name"):
        await triton.start()
    triton.close()
    assert names(shm) == set()


async def test_a_server_with_backends_of_its_own_is_given_none(
    make: Callable[..., TritonServer], caplog: pytest.LogCaptureFixture
) -> None:
    arguments = await told(make(), caplog)
    assert [argument for argument in arguments if argument.startswith("--backend-directory")] == []


# Its environment

PLATFORM = {
    "AIP_MODE": "PREDICTION",
    "AIP_HTTP_PORT": "8080",
    "AIP_PREDICT_ROUTE": "/predict",
    "AIP_STORAGE_URI": "gs://bucket/model",
}


def environment(environ: dict[str, str], **found: Any) -> dict[str, str]:
    return child_environment(environ, Installation(Path("t"), **{"embedded": True, **found}))


def test_the_platforms_variables_are_dropped() -> None:
    child = environment({**PLATFORM, "PATH": "/bin", "HOME": "/root", "NOT_AIP_MODE": "x"})
    assert child == {"PATH": "/bin", "HOME": "/root", "NOT_AIP_MODE": "x", "ORT_DISABLE_TELEMETRY": "1"}


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")], ids=["unasked", "asked"]
)
def test_onnxruntime_does_not_report_unasked(given: dict[str, str], expected: str) -> None:
    assert environment(given)["ORT_DISABLE_TELEMETRY"] == expected


@pytest.mark.parametrize(
    ("environ", "library_path", "path"),
    [
        ({}, "/libs:/more", "/venv/bin"),
        ({"PATH": "", "LD_LIBRARY_PATH": ""}, "/libs:/more", "/venv/bin"),
        ({"PATH": "/bin:/usr/bin", "LD_LIBRARY_PATH": "/cuda"}, "/libs:/more:/cuda", "/venv/bin:/bin:/usr/bin"),
    ],
    ids=["none", "empty", "some"],
)
def test_the_installations_folders_come_first(environ: dict[str, str], library_path: str, path: str) -> None:
    child = environment(environ, library_path=(Path("/libs"), Path("/more")), path=(Path("/venv/bin"),))
    assert (child["LD_LIBRARY_PATH"], child["PATH"]) == (library_path, path)


def test_an_installation_that_needs_no_folders_changes_none() -> None:
    child = environment({"PATH": "/bin"})
    assert (child["PATH"], "LD_LIBRARY_PATH" in child) == ("/bin", False)


@pytest.mark.parametrize(
    ("prefix", "embedded", "kept"),
    [("/venv", False, False), ("/venv", True, True), ("/usr", False, True)],
    ids=["installed", "embedded", "no virtual environment"],
)
def test_an_installed_triton_does_not_get_our_virtual_environment(
    monkeypatch: pytest.MonkeyPatch, prefix: str, embedded: bool, kept: bool
) -> None:
    monkeypatch.setattr(server, "sys", SimpleNamespace(prefix=prefix, base_prefix="/usr"))
    child = environment({"PATH": "/venv/bin:/opt/bin:/bin", "VIRTUAL_ENV": "/venv"}, embedded=embedded)
    assert ("/venv/bin" in child["PATH"].split(":"), "VIRTUAL_ENV" in child) == (kept, kept)
    assert child["PATH"].endswith("/opt/bin:/bin")


async def test_the_started_program_has_that_environment(
    make: Callable[..., TritonServer],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    program: Path,
) -> None:
    for name, setting in {**PLATFORM, "MINE": "kept"}.items():
        monkeypatch.setenv(name, setting)
    triton = make(installation=Installation(program, path=(Path("/venv/bin"),), embedded=True))
    variables = await told(triton, caplog, "variable")
    assert [variable for variable in variables if variable.startswith("AIP_")] == []
    assert "MINE=kept" in variables
    assert f"PATH=/venv/bin:{os.environ['PATH']}" in variables


async def test_a_program_that_cannot_be_started_leaves_nothing(
    make: Callable[..., TritonServer], tmp_path: Path, shm: Path
) -> None:
    triton = make(installation=Installation(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere cannot be started: No such file or directory"):
        await triton.start()
    triton.close()
    assert names(shm) == set()
