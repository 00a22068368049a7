"""The profile `load` of docker-compose.yml: fields that Compose knows, numbers and paths that are the load test's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest import shapes
from tests.test_container_files import COMPOSE, SERVICE_KEYS, services, variables

ROOT = Path(__file__).parents[2]
NAMES = ("locust", "locust-worker")


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_keys_that_compose_knows_and_no_rights(name: str) -> None:
    service = services()[name]
    assert {key: value for key, value in service.items() if not isinstance(value, SERVICE_KEYS[key])} == {}
    assert (service["profiles"], service["read_only"], service["tmpfs"]) == (["load"], True, ["/tmp"])
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mounted_is_what_is_run(name: str) -> None:
    service = services()[name]
    (source, target, mode) = service["volumes"][0].split(":")
    assert (mode, len(service["volumes"])) == ("ro", 1)
    for path in (re.findall(r"-f (\S+)", service["command"])[0], variables(COMPOSE.read_text())["BODIES"]):
        inside = Path(service["working_dir"]) / path
        assert (ROOT / source / inside.relative_to(target)).is_file()


def test_the_page_is_for_this_machine_and_workers_find_the_master() -> None:
    master, worker = (services()[name] for name in NAMES)
    assert master["ports"] == ["127.0.0.1:8089:8089"]
    assert "ports" not in worker and "container_name" not in worker  # or there could be only one of them
    assert "--master " in master["command"] and worker["command"].endswith("--worker --master-host locust")
    assert worker["depends_on"] == ["locust"]
    assert "depends_on" not in master  # the listener may be either of two
    assert master["environment"] == worker["environment"]


def test_the_host_is_the_listener_whichever_it_is() -> None:
    assert variables(COMPOSE.read_text())["LOCUST_HOST"] == "http://listener:8080"
    assert "listener" in services()
    assert services()["cpu"]["networks"]["default"]["aliases"] == ["listener"]


def test_each_number_of_a_shape_is_passed_with_its_default() -> None:
    defaults = variables(COMPOSE.read_text())
    assert {name: defaults[name] for name in shapes.NUMBERS} == {name: str(n) for name, n in shapes.NUMBERS.items()}
    assert services()["locust"]["environment"].keys() == {
        "LOCUST_HOST",
        "PREDICT_ROUTE",
        "TOKEN",
        "BODIES",
        "SHAPE",
        *shapes.NUMBERS,
    }


def test_the_image_is_pinned() -> None:
    assert re.fullmatch(r"locustio/locust:\d+\.\d+\.\d+", variables(COMPOSE.read_text())["LOCUST_IMAGE"])
