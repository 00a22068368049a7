"""What the container is made from says the same everywhere: Dockerfile, locks, docker-compose.yml, .env.example."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from listener import __version__, settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = ROOT / "docker-compose.yml"
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))

#: Keys of a service that we use, and what they may hold: https://docs.docker.com/reference/compose-file/services/.
#: No package carries the schema.
SERVICE_KEYS: dict[str, type | tuple[type, ...]] = {
    "build": dict,
    "cap_drop": list,
    "command": str,
    "depends_on": list,
    "deploy": dict,
    "environment": dict,
    "image": str,
    "networks": dict,
    "ports": list,
    "profiles": list,
    "read_only": bool,
    "restart": str,
    "security_opt": list,
    "shm_size": str,
    "stop_grace_period": str,
    "tmpfs": list,
    "ulimits": dict,
    "volumes": list,
    "working_dir": str,
}
BUILD_KEYS = {"context", "target", "args"}


def services() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load(COMPOSE.read_text())["services"]
    assert isinstance(found, dict)
    return found


def variables(text: str) -> dict[str, str]:
    """The variables that a text of compose takes from the environment, with their defaults."""
    return dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))


# Locks


def test_there_is_a_lock_for_each_python_and_one_of_each_kind() -> None:
    assert {lock.stem for lock in LOCKS} == {"build", "py311", "py311-cpu", "py312", "py313"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_versions_and_hashes_and_no_place(lock: Path) -> None:
    text = lock.read_text()
    requirements = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    for requirement in requirements:
        assert re.match(r"[a-z0-9-]+==[\w.]+ \\\n", requirement), requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted-host", text)


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.stem != "build"], ids=lambda lock: lock.stem)
def test_a_lock_has_what_setup_cfg_asks_for(lock: Path) -> None:
    """A new dependency needs `make lock`."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    asked = config["options"]["install_requires"] + extras["container"] + extras["images"]
    asked += extras["local"] if lock.stem.endswith("-cpu") else ""
    names = {re.split(r"[\[><=;]", line)[0].lower() for line in asked.split("\n") if line and not line.startswith("#")}
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.M))
    assert {re.sub(r"[._]", "-", name) for name in names} - locked == set()


# Dockerfile


def test_the_images_version_is_ours() -> None:
    assert set(re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.M)) == {__version__}


def test_the_port_is_that_of_the_settings() -> None:
    default = settings.read({})
    assert set(re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.M)) == {str(default.port)}


# docker-compose.yml


@pytest.mark.parametrize("name", services())
def test_a_service_has_keys_that_compose_knows(name: str) -> None:
    service = services()[name]
    assert {key: type(value) for key, value in service.items() if not isinstance(value, SERVICE_KEYS[key])} == {}


@pytest.mark.parametrize("name", ["listener", "cpu"])
def test_what_is_built_is_there(name: str) -> None:
    service = services()[name]
    assert service["build"].keys() <= BUILD_KEYS
    named = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    assert service["build"]["args"].keys() <= named
    assert service["build"].get("target", "") in {"", *re.findall(r"^FROM .* AS (\S+)$", DOCKERFILE, re.M)}


def test_both_services_have_the_name_by_which_the_profiles_find_them() -> None:
    assert [services()[name]["networks"]["default"]["aliases"] for name in ("listener", "cpu")] == [["listener"]] * 2


def test_only_the_gpu_and_what_is_built_differ() -> None:
    gpu, cpu = services()["listener"], services()["cpu"]
    assert {key for key in gpu.keys() | cpu.keys() if gpu.get(key) != cpu.get(key)} == {
        "build",
        "image",
        "deploy",
        "profiles",
    }
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", "all", ["gpu"])
    assert cpu["profiles"] == ["cpu"]


@pytest.mark.parametrize("name", ["listener", "cpu"])
def test_what_a_service_may_write(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert [volume.rpartition(":")[2] for volume in service["volumes"]] == ["ro"]


def test_compose_waits_for_the_drain_and_the_end_of_triton() -> None:
    default = settings.read({})
    needed = default.drain_timeout + 5 + default.triton_exit_timeout + 3
    for name in ("listener", "cpu"):
        assert float(services()[name]["stop_grace_period"].removesuffix("s")) > needed


def test_the_example_of_an_environment_has_every_variable_with_its_default() -> None:
    pairs = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
    assert pairs == variables(COMPOSE.read_text())
    assert pairs["BASE_IMAGE"] == re.findall(r"^ARG BASE_IMAGE=(.+)$", DOCKERFILE, re.M)[0]
    read = settings.read({name: value for name, value in pairs.items() if name.startswith("LISTENER_") and value})
    assert read == settings.read({})
